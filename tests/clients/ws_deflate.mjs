// Tests compression with the settings of the npm package `ws`, against examples/conformance.
//
//     node ws_deflate.mjs http://127.0.0.1:3000/

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import WebSocket from "ws";
import { run } from "./checks.mjs";

const base = new URL(process.argv[2] ?? "http://127.0.0.1:3000/");
const address = base.href.replace(/^http/, "ws");
const json = JSON.stringify(Array.from({ length: 20_000 }, (_, id) => ({ id, name: `user ${id}`, on: true })));
const messages = ["Hello", "Hello", "", json, json, "x".repeat(1 << 20), Buffer.alloc(1 << 20), randomBytes(300_000)];

/** Sends all messages at once and checks the echoes. Returns the negotiated extensions. */
async function exchange(perMessageDeflate, fragmented) {
  const socket = new WebSocket(address, { perMessageDeflate, maxPayload: 2 << 20 });
  const answers = [];
  const done = new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("close", (code) => reject(new Error(`closed with ${code}`)));
    socket.on("message", (data, binary) => {
      answers.push(binary ? data : data.toString());
      if (answers.length === messages.length) resolve();
    });
  });
  done.catch(() => {});
  const [[response]] = await Promise.all([once(socket, "upgrade"), once(socket, "open")]);
  for (const message of messages) {
    if (fragmented) {
      const half = message.length >> 1;
      socket.send(message.slice(0, half), { fin: false });
      socket.ping("between");
      socket.send(message.slice(half), { fin: true });
    } else {
      socket.send(message);
    }
  }
  await done;
  for (const [index, message] of messages.entries()) {
    assert.equal(Buffer.compare(Buffer.from(answers[index]), Buffer.from(message)), 0, `message ${index}`);
    assert.equal(typeof answers[index], typeof message);
  }
  socket.removeAllListeners("close");
  socket.close(1000);
  const [code] = await once(socket, "close");
  assert.equal(code, 1000);
  return response.headers["sec-websocket-extensions"];
}

const settings = {
  "with context takeover": [{ threshold: 0 }, "permessage-deflate"],
  "with a threshold": [true, "permessage-deflate"],
  "without context takeover": [
    { threshold: 0, serverNoContextTakeover: true, clientNoContextTakeover: true },
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
  ],
  "with windows of 9 and 10 bits": [
    { threshold: 0, serverMaxWindowBits: 9, clientMaxWindowBits: 10 },
    "permessage-deflate; server_max_window_bits=9; client_max_window_bits=10",
  ],
  "without compression": [false, undefined],
};

const checks = {};
for (const [name, [perMessageDeflate, agreed]] of Object.entries(settings)) {
  checks[name] = async () => assert.equal(await exchange(perMessageDeflate, false), agreed);
  checks[`${name}, fragmented`] = async () => assert.equal(await exchange(perMessageDeflate, true), agreed);
}
await run("ws", checks);
