// Tests examples/feed with npm's ws: a client that keeps up, and one that reads nothing for a while.
//
//     node feed.mjs http://127.0.0.1:3000/

import assert from "node:assert/strict";
import { once } from "node:events";
import { WebSocket } from "ws";
import { run } from "./checks.mjs";

const base = new URL(process.argv[2] ?? "http://127.0.0.1:3000/");
const address = new URL("/feed", base.href.replace(/^http/, "ws")).href;

const tick = (text) => Number(/^tick (\d+)\n/.exec(text)[1]);
/** Returns the number of the latest tick. */
const latest = async () => tick(await (await fetch(new URL("/latest", base))).text());

/** Opens a connection. `ticks` are the numbers of all ticks that it has received. */
async function open() {
  const socket = new WebSocket(address);
  socket.ticks = [];
  socket.on("message", (data) => socket.ticks.push(tick(data)));
  await once(socket, "message");
  return socket;
}

const sorted = (ticks) => ticks.every((number, index) => index === 0 || ticks[index - 1] < number);

const checks = {
  "the first message has the latest prices": async () => {
    const before = await latest();
    const socket = await open();
    assert.ok(socket.ticks[0] >= before, `${socket.ticks[0]} is older than ${before}`);
    socket.close(1000);
    assert.equal((await once(socket, "close"))[0], 1000);
  },
  "the ticks ascend": async () => {
    const socket = await open();
    while (socket.ticks.length < 200) await once(socket, "message");
    assert.ok(sorted(socket.ticks));
    socket.terminate();
  },
  "a client that reads nothing for a while gets no backlog": async () => {
    const socket = await open();
    socket.pause();
    const start = await latest();
    while ((await latest()) < start + 3000) await new Promise(setImmediate);
    const end = await latest();
    socket.resume();
    while (socket.ticks.at(-1) < end) await once(socket, "message");
    const backlog = socket.ticks.filter((number) => start < number && number < end).length;
    // The buffers of the kernel and of ws hold some.
    assert.ok(backlog < (end - start) / 2, `${backlog} old messages of ${end - start}`);
    assert.ok(sorted(socket.ticks));
    console.log(`      feed: ${backlog} old messages of ${end - start}`);
    socket.terminate();
  },
};

await run("feed", checks);
