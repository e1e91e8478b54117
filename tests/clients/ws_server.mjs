// Tests examples/conformance_client with the npm package `ws` as the server.
//
//     node ws_server.mjs path/to/conformance_client

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { WebSocketServer } from "ws";

const MIB = 1 << 20;

/** Sends one message and checks the echo. */
async function echoes(socket, message, send = (message) => socket.send(message)) {
  const answer = once(socket, "message");
  send(message);
  const [data, binary] = await answer;
  assert.equal(binary, typeof message !== "string");
  assert.ok(data.equals(Buffer.from(message)), `${data.length} bytes came back, changed`);
}

/** Returns the client's close code. */
async function closeCode(socket) {
  const [code] = await once(socket, "close");
  return code;
}

const cases = {
  async "echoes text"(socket) {
    for (const text of ["", "Hällo", "x".repeat(125), "ö".repeat(63), "wörd ".repeat(20_000)]) await echoes(socket, text);
  },
  async "echoes bytes of every size"(socket) {
    for (const size of [0, 1, 125, 126, 65_535, 65_536, MIB, 4 * MIB]) await echoes(socket, Buffer.alloc(size, 0xa5));
  },
  async "reassembles fragments"(socket) {
    await echoes(socket, "fragments", () => {
      socket.send("frag", { fin: false });
      socket.ping();
      socket.send("", { fin: false });
      socket.send("ments", { fin: true });
    });
  },
  async "answers pings"(socket) {
    const pong = once(socket, "pong");
    socket.ping("are you there?");
    const [payload] = await pong;
    assert.equal(payload.toString(), "are you there?");
  },
  async "keeps the order of a burst"(socket) {
    const received = [];
    const all = new Promise((resolve) =>
      socket.on("message", (data) => received.push(data.toString()) === 1000 && resolve()),
    );
    const sent = Array.from({ length: 1000 }, (_, n) => `${n}`);
    sent.forEach((text) => socket.send(text));
    await all;
    assert.deepEqual(received, sent);
  },
  async "repeats the code of a close"(socket) {
    socket.close(4001, "enough");
    assert.equal(await closeCode(socket), 4001);
  },
  async "answers a close without a code"(socket) {
    socket.close();
    assert.equal(await closeCode(socket), 1005);
  },
  async "refuses a masked frame"(socket) {
    socket._socket.write(Buffer.from([0x81, 0x81, 1, 2, 3, 4, 5]));
    assert.equal(await closeCode(socket), 1002);
  },
  async "refuses text that is not UTF-8"(socket) {
    socket.send(Buffer.from([0xff]), { binary: false });
    assert.equal(await closeCode(socket), 1007);
  },
};

const names = Object.keys(cases);
const passed = [];
const failed = [];

async function runCase(name, socket) {
  try {
    await cases[name](socket);
    if (socket.readyState === socket.OPEN) {
      socket.close(1000);
      assert.equal(await closeCode(socket), 1000);
    }
    passed.push(name);
  } catch (error) {
    failed.push(name);
    console.error(`${name}: ${error.stack}`);
    socket.terminate();
  }
}

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, maxPayload: 8 * MIB });
server.on("connection", (socket, request) => {
  socket.on("error", () => {});
  const url = new URL(request.url, "ws://h/");
  if (url.pathname === "/runCase") {
    runCase(names[url.searchParams.get("case") - 1], socket);
  } else {
    if (url.pathname === "/getCaseCount") socket.send(`${names.length}`);
    socket.close(1000);
  }
});
await once(server, "listening");
const client = spawn(process.argv[2], [`ws://127.0.0.1:${server.address().port}`], {
  stdio: ["ignore", "inherit", "inherit"],
});
const [status] = await once(client, "exit");
server.close();

assert.equal(status, 0, "the client's exit status");
assert.deepEqual(failed, []);
// The order may differ: the client may start the next case before the last one has finished here.
assert.deepEqual(passed.toSorted(), names.toSorted());
console.log(`ws as the server: ${passed.length} cases passed`);
