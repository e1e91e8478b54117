// Tests examples/echo with the npm package `ws`. The server prefixes text with "Echo: ".
//
//     node ws.mjs http://127.0.0.1:3000/

import assert from "node:assert/strict";
import { once } from "node:events";
import { run } from "./checks.mjs";
import { open, refusal } from "./dial.mjs";

const base = new URL(process.argv[2] ?? "http://127.0.0.1:3000/");
const address = new URL("/ws", base.href.replace(/^http/, "ws")).href;
const MIB = 1 << 20;

/** Closes with 1000 and checks the server's answer. */
async function finish(socket) {
  socket.close(1000);
  assert.equal((await socket.closed).code, 1000);
}

async function exchange(message, expected) {
  const socket = await open(address);
  socket.send(message);
  assert.deepEqual(await socket.next(), expected);
  await finish(socket);
}

/** Returns the server's close code after `send`. */
async function violation(send) {
  const socket = await open(address);
  send(socket);
  return (await socket.closed).code;
}

const checks = {
  "text is echoed with the prefix": () => exchange("Hello", "Echo: Hello"),
  "text with non-ASCII characters is echoed": () => exchange("grüße, 世界 👋", "Echo: grüße, 世界 👋"),
  "binary is echoed unchanged": () => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    return exchange(bytes, bytes);
  },
  "empty text is a message": () => exchange("", "Echo: "),
  "empty binary is a message": () => exchange(Buffer.alloc(0), Buffer.alloc(0)),
  "a text of 1 MiB is echoed": () => exchange("x".repeat(MIB), "Echo: " + "x".repeat(MIB)),
  "a binary message of 1 MiB is echoed": () => exchange(Buffer.alloc(MIB, 0xab), Buffer.alloc(MIB, 0xab)),
  "a fragmented message is reassembled": async () => {
    const socket = await open(address);
    socket.send("Hel", { fin: false });
    socket.ping();
    socket.send("", { fin: false });
    socket.send("lo", { fin: true });
    assert.equal(await socket.next(), "Echo: Hello");
    await finish(socket);
  },
  "a ping is answered with its payload": async () => {
    const socket = await open(address);
    socket.ping("are you there");
    const [payload] = await once(socket, "pong");
    assert.equal(payload.toString(), "are you there");
    await finish(socket);
  },
  "500 pipelined messages are echoed in order": async () => {
    const socket = await open(address);
    for (let index = 0; index < 500; index++) socket.send(`${index}`);
    for (let index = 0; index < 500; index++) assert.equal(await socket.next(), `Echo: ${index}`);
    await finish(socket);
  },
  "200 concurrent connections do not mix messages": async () => {
    const sockets = await Promise.all(Array.from({ length: 200 }, () => open(address)));
    for (let round = 0; round < 5; round++) {
      sockets.forEach((socket, index) => socket.send(`${index}/${round}`));
      for (const [index, socket] of sockets.entries()) {
        assert.equal(await socket.next(), `Echo: ${index}/${round}`);
      }
    }
    await Promise.all(sockets.map(finish));
  },
  "plain requests are answered while a socket is open": async () => {
    const socket = await open(address);
    const page = await fetch(base);
    assert.equal(page.status, 200);
    assert.match(await page.text(), /<!DOCTYPE html>/i);
    assert.match(await (await fetch(new URL("/time", base))).text(), /^\d+\n$/);
    assert.equal((await fetch(new URL("/missing", base))).status, 404);
    socket.send("still here");
    assert.equal(await socket.next(), "Echo: still here");
    await finish(socket);
  },
  "closing with 1000 is answered with 1000": async () => {
    const socket = await open(address);
    socket.close(1000, "done");
    assert.equal((await socket.closed).code, 1000);
  },
  "closing with an application's code is answered with it": async () => {
    const socket = await open(address);
    socket.close(4321, "ours");
    assert.equal((await socket.closed).code, 4321);
  },
  "a message before a close is echoed": async () => {
    const socket = await open(address);
    socket.send("last words");
    socket.close(1000);
    assert.equal(await socket.next(), "Echo: last words");
    assert.equal((await socket.closed).code, 1000);
  },
  "the page's own origin is allowed": async () => finish(await open(address, [], { origin: base.origin })),
  "a foreign origin is refused with 403": async () =>
    assert.equal((await refusal(address, [], { origin: "https://attacker.example" })).status, 403),
  "version 8 is refused with 426": async () =>
    assert.equal((await refusal(address, [], { protocolVersion: 8 })).status, 426),
  "1 MiB and a byte ends with 1009": async () =>
    assert.equal(await violation((socket) => socket.send(Buffer.alloc(MIB + 1))), 1009),
  "16 MiB, still being sent, ends with 1009": async () =>
    assert.equal(await violation((socket) => socket.send(Buffer.alloc(16 * MIB))), 1009),
  "fragments past 1 MiB end with 1009": async () =>
    assert.equal(
      await violation((socket) => {
        for (let index = 0; index < 40; index++) socket.send(Buffer.alloc(32 << 10), { fin: false });
      }),
      1009,
    ),
  "text that is not UTF-8 ends with 1007": async () =>
    assert.equal(await violation((socket) => socket.send(Buffer.from([0x48, 0xff]), { binary: false })), 1007),
  "an unmasked frame ends with 1002": async () =>
    assert.equal(await violation((socket) => socket.send("Hello", { mask: false })), 1002),
};

await run("ws", checks);
