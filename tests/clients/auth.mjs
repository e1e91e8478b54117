// Tests examples/auth with headless Chromium, npm's ws and curl: the places of a token, an expired token, the limit
// of a user, and the 401.
//
//     CHROMIUM=/usr/bin/chromium node auth.mjs http://127.0.0.1:3000/

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { WebSocket } from "ws";
import { Browser, run } from "./chromium.mjs";

const base = new URL(process.argv[2] ?? "http://127.0.0.1:3000/");
const address = (query = "") => new URL(`/ws${query}`, base.href.replace(/^http/, "ws")).href;
const browser = new Browser();

/** Opens a WebSocket in the page. Returns its first message and how the connection ended. */
const open = (url, protocols = []) => browser.evaluate(`new Promise((resolve) => {
  const seen = { protocol: null, message: null };
  const socket = new WebSocket(${JSON.stringify(url)}, ${JSON.stringify(protocols)});
  socket.onopen = () => { seen.protocol = socket.protocol; };
  socket.onmessage = ({ data }) => { seen.message = data; socket.close(1000); };
  socket.onclose = ({ code, reason }) => resolve({ ...seen, code, reason });
})`);

/** Makes a handshake with curl. Returns the status, the fields and the body of the answer. */
const curl = (...fields) => {
  const handshake = [
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", ...fields,
  ];
  const url = new URL("/ws", base).href;
  const flags = ["--silent", "--include", "--noproxy", "*", "--max-time", "5"];
  const answer = execFileSync("curl", [...flags, ...handshake.flatMap((field) => ["-H", field]), url]);
  const [head, body] = answer.toString().split("\r\n\r\n");
  const [status, ...lines] = head.split("\r\n");
  const entries = lines.map((line) => line.toLowerCase().split(": "));
  return { status: Number(status.split(" ")[1]), fields: Object.fromEntries(entries), body };
};

/** Connects with npm's ws. Returns the first message, or the status of a refusal. */
async function greeting(headers) {
  const socket = new WebSocket(address(), { headers });
  socket.on("error", () => {});
  const outcome = await Promise.race([
    once(socket, "message").then(([data]) => String(data)),
    once(socket, "unexpected-response").then(([, response]) => response.statusCode),
  ]);
  socket.close(1000);
  if (outcome !== 429) await once(socket, "close");
  return outcome;
}

const served = { protocol: "", message: "welcome, Ada", code: 1000, reason: "" };
const failed = { protocol: null, message: null, code: 1006, reason: "" };

const checks = {
  "a page without a token reads 1006": async () => {
    await browser.goto(base.href);
    assert.deepEqual(await open(address()), failed);
    assert.deepEqual(await open(address(), ["chat.v1"]), failed);
  },
  "a page has its token in a subprotocol": async () => {
    const protocols = ["chat.v1", "token.sesame"];
    assert.deepEqual(await open(address(), protocols), { ...served, protocol: "chat.v1" });
    assert.deepEqual(await open(address(), ["token.sesame"]), failed);
  },
  "a page has its token in the query": async () => {
    assert.deepEqual(await open(address("?token=sesame")), served);
  },
  "a page reads 4401 of an expired token": async () => {
    const expired = { message: null, code: 4401, reason: "the token has expired" };
    assert.deepEqual(await open(address("?token=stale")), { ...expired, protocol: "" });
    const protocols = ["chat.v1", "token.stale"];
    assert.deepEqual(await open(address(), protocols), { ...expired, protocol: "chat.v1" });
  },
  "a page has its token in a cookie that it cannot read": async () => {
    await browser.evaluate(`fetch("/login", { method: "POST" }).then(({ status }) => status)`);
    assert.equal(await browser.evaluate("document.cookie"), "");
    assert.deepEqual(await open(address()), served);
  },
  "curl reads a 401 with JSON": () => {
    for (const fields of [[], ["Authorization: Bearer guess"], ["Cookie: token=guess"]]) {
      const answer = curl(...fields);
      assert.equal(answer.status, 401);
      assert.equal(answer.fields["www-authenticate"], "bearer");
      assert.equal(answer.fields["content-type"], "application/json");
      assert.deepEqual(JSON.parse(answer.body), { error: "a valid token is needed" });
    }
  },
  "the third connection of a user is refused with 429": async () => {
    const headers = { authorization: "Bearer sesame" };
    const sockets = [new WebSocket(address(), { headers }), new WebSocket(address(), { headers })];
    await Promise.all(sockets.map((socket) => once(socket, "open")));
    assert.equal(curl("Authorization: Bearer sesame").status, 429);
    for (const socket of sockets) {
      socket.close(1000);
      await once(socket, "close");
    }
    // The server may free their places a moment later.
    while ((await greeting(headers)) === 429);
    assert.equal(await greeting(headers), "welcome, Ada");
  },
};

await run("auth", browser, checks);
