// Tests examples/axum with the npm package `ws`.
//
//     node axum.mjs http://127.0.0.1:3000/

import assert from "node:assert/strict";
import { run } from "./checks.mjs";
import { open, refusal } from "./dial.mjs";

const base = new URL(process.argv[2] ?? "http://127.0.0.1:3000/");
const address = (path) => new URL(path, base.href.replace(/^http/, "ws")).href;

/** Enters a room, and sends a line, so that the guest is in the room when this returns. */
async function enter(room, name) {
  const guest = await open(address(`/api/rooms/${room}?name=${name}`));
  guest.send("hello");
  assert.equal(await guest.next(), `${name}: hello`);
  return guest;
}

const checks = {
  "guests of a room see each other's lines": async () => {
    const ada = await enter("tea", "Ada");
    const grace = await enter("tea", "Grace");
    assert.equal(await ada.next(), "Grace: hello");
    grace.send("süß 🍵");
    assert.equal(await ada.next(), "Grace: süß 🍵");
    ada.close(1000);
    grace.close(1000);
    assert.equal((await ada.closed).code, 1000);
  },
  "rooms are separate": async () => {
    const ada = await enter("tea", "Ada");
    const grace = await enter("coffee%20bar", "Grace");
    ada.send("sugar?");
    assert.equal(await ada.next(), "Ada: sugar?");
    grace.send("milk?");
    assert.equal(await grace.next(), "Grace: milk?");
    ada.close(1000);
    grace.close(1000);
  },
  "binary ends with 1003": async () => {
    const ada = await enter("tea", "Ada");
    ada.send(Buffer.from([1, 2, 3]));
    assert.equal((await ada.closed).code, 1003);
  },
  "a guest without a name is refused with 400": async () => {
    const { status, text } = await refusal(address("/api/rooms/tea"));
    assert.equal(status, 400);
    assert.match(text, /missing field `name`/);
  },
  "the count answers a plain request and each message": async () => {
    const socket = await open(address("/api/open"));
    socket.send("?");
    assert.match(await socket.next(), /^\d+ open\n$/);
    assert.match(await (await fetch(new URL("/api/open", base))).text(), /^\d+ open\n$/);
    socket.close(1000);
  },
  "the layer echoes": async () => {
    const socket = await open(address("/api/echo"));
    socket.send("Hello");
    assert.equal(await socket.next(), "Hello");
    socket.close(4321);
    assert.equal((await socket.closed).code, 4321);
  },
  "a room without a WebSocket is 426": async () => {
    assert.equal((await fetch(new URL("/api/rooms/tea?name=Ada", base))).status, 426);
  },
};

await run("axum", checks);
