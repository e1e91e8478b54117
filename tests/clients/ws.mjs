// Tests examples/echo with the npm package `ws`. The server prefixes text with "Echo: ".
//
//     node ws.mjs http://127.0.0.1:3000/

import assert from "node:assert/strict";
import { once } from "node:events";
import WebSocket from "ws";

const base = new URL(process.argv[2] ?? "http://127.0.0.1:3000/");
const address = new URL("/ws", base.href.replace(/^http/, "ws")).href;
const MIB = 1 << 20;

/** Returns an open connection. Its `next()` returns the next message, and messages that arrive earlier are kept. */
async function open(options = {}) {
  const socket = new WebSocket(address, options);
  const messages = [];
  const waiting = [];
  socket.on("message", (data, binary) => {
    const message = binary ? data : data.toString();
    waiting.length ? waiting.shift()(message) : messages.push(message);
  });
  socket.next = () =>
    messages.length ? Promise.resolve(messages.shift()) : new Promise((resolve) => waiting.push(resolve));
  socket.closed = new Promise((resolve) =>
    socket.once("close", (code, reason) => resolve({ code, reason: reason.toString() })),
  );
  await once(socket, "open");
  // Errors after the opening handshake cause a close event, which the checks use.
  socket.on("error", () => {});
  return socket;
}

/** Closes with 1000 and checks the server's answer. */
async function finish(socket) {
  socket.close(1000);
  assert.equal((await socket.closed).code, 1000);
}

async function exchange(message, expected) {
  const socket = await open();
  socket.send(message);
  assert.deepEqual(await socket.next(), expected);
  await finish(socket);
}

/** Returns the status of a refused opening handshake. */
async function refusal(options) {
  const socket = new WebSocket(address, options);
  socket.on("error", () => {});
  const outcome = await Promise.race([
    once(socket, "open").then(() => "accepted"),
    once(socket, "unexpected-response").then(([, response]) => response.statusCode),
  ]);
  socket.terminate();
  return outcome;
}

/** Returns the server's close code after `send`. */
async function violation(send) {
  const socket = await open();
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
    const socket = await open();
    socket.send("Hel", { fin: false });
    socket.ping();
    socket.send("", { fin: false });
    socket.send("lo", { fin: true });
    assert.equal(await socket.next(), "Echo: Hello");
    await finish(socket);
  },
  "a ping is answered with its payload": async () => {
    const socket = await open();
    socket.ping("are you there");
    const [payload] = await once(socket, "pong");
    assert.equal(payload.toString(), "are you there");
    await finish(socket);
  },
  "500 pipelined messages are echoed in order": async () => {
    const socket = await open();
    for (let index = 0; index < 500; index++) socket.send(`${index}`);
    for (let index = 0; index < 500; index++) assert.equal(await socket.next(), `Echo: ${index}`);
    await finish(socket);
  },
  "200 concurrent connections do not mix messages": async () => {
    const sockets = await Promise.all(Array.from({ length: 200 }, () => open()));
    for (let round = 0; round < 5; round++) {
      sockets.forEach((socket, index) => socket.send(`${index}/${round}`));
      for (const [index, socket] of sockets.entries()) {
        assert.equal(await socket.next(), `Echo: ${index}/${round}`);
      }
    }
    await Promise.all(sockets.map(finish));
  },
  "plain requests are answered while a socket is open": async () => {
    const socket = await open();
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
    const socket = await open();
    socket.close(1000, "done");
    assert.equal((await socket.closed).code, 1000);
  },
  "closing with an application's code is answered with it": async () => {
    const socket = await open();
    socket.close(4321, "ours");
    assert.equal((await socket.closed).code, 4321);
  },
  "a message before a close is echoed": async () => {
    const socket = await open();
    socket.send("last words");
    socket.close(1000);
    assert.equal(await socket.next(), "Echo: last words");
    assert.equal((await socket.closed).code, 1000);
  },
  "the page's own origin is allowed": async () => finish(await open({ origin: base.origin })),
  "a foreign origin is refused with 403": async () =>
    assert.equal(await refusal({ origin: "https://attacker.example" }), 403),
  "version 8 is refused with 426": async () => assert.equal(await refusal({ protocolVersion: 8 }), 426),
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

// Returns a short error text in one line, because a difference of two large messages is long.
const brief = ({ message }) => message.replace(/\s+/g, " ").slice(0, 300);

const failed = [];
for (const [name, check] of Object.entries(checks)) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("no answer within 10 s")), 10_000);
  });
  try {
    await Promise.race([check(), timeout]);
    console.log(`ok    ws: ${name}`);
  } catch (error) {
    console.log(`FAIL  ws: ${name}: ${brief(error)}`);
    failed.push(name);
  } finally {
    clearTimeout(timer);
  }
}
if (failed.length) console.log(`ws: ${failed.length} failed: ${failed.join("; ")}`);
// Exit explicitly: a connection that hangs would keep the process alive.
process.exit(failed.length ? 1 : 0);
