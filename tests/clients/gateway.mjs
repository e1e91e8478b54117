// Tests examples/gateway with the npm package `ws` as the client and as the upstream server.
//
//     node gateway.mjs path/to/gateway

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import WebSocket, { WebSocketServer } from "ws";
import { run } from "./checks.mjs";
import { closed, open, refusal } from "./dial.mjs";

const MIB = 1 << 20;
const gateways = [];

/** Starts a gateway to the upstream on this port, and returns its address. */
async function start(port) {
  const gateway = spawn(process.argv[2], ["0", `ws://127.0.0.1:${port}`], { stdio: ["ignore", "pipe", "ignore"] });
  gateways.push(gateway);
  const [line] = await once(createInterface({ input: gateway.stdout }), "line");
  return line.replace("listening on http", "ws");
}

const server = createServer();
const upstreams = new WebSocketServer({
  server,
  handleProtocols: (offered) => (offered.has("chat.v2") ? "chat.v2" : false),
  verifyClient: ({ req }, answer) => answer(req.url !== "/secret", 401, "who are you?", { "X-Why": "no token" }),
});
upstreams.on("headers", (headers) => headers.push("Set-Cookie: seen=1"));
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const address = await start(server.address().port);

/** Opens a connection through the gateway. Returns the client's socket, and the upstream's with its request. */
async function pair(path = "/", ...more) {
  const accepted = once(upstreams, "connection");
  const client = await open(new URL(path, address).href, ...more);
  const [upstream, request] = await accepted;
  upstream.closed = closed(upstream);
  upstream.on("error", () => {});
  return { client, upstream, request };
}

const checks = {
  "messages pass in both directions": async () => {
    const { client, upstream } = await pair();
    upstream.on("message", (data, binary) => upstream.send(data, { binary }));
    for (const message of ["", "grüße 👋", "x".repeat(MIB), Buffer.alloc(0), Buffer.alloc(MIB, 0xab)]) {
      client.send(message);
      assert.deepEqual(await client.next(), message);
    }
    client.close();
  },
  "10,000 messages keep their order": async () => {
    const { client, upstream } = await pair();
    upstream.on("message", (data) => upstream.send(`${data}`));
    for (let index = 0; index < 10_000; index++) client.send(`${index}`);
    for (let index = 0; index < 10_000; index++) assert.equal(await client.next(), `${index}`);
    client.close();
  },
  "the upstream gets the request, and the client the answer": async () => {
    const headers = { authorization: "Bearer x", cookie: "a=b" };
    const { client, request } = await pair("/desk?n=1", ["chat.v1", "chat.v2"], { headers });
    assert.equal(request.url, "/desk?n=1");
    assert.equal(request.headers.authorization, "Bearer x");
    assert.equal(request.headers.cookie, "a=b");
    assert.equal(client.protocol, "chat.v2");
    client.close();
  },
  "cookies of the upstream reach the client": async () => {
    const accepted = once(upstreams, "connection");
    const client = new WebSocket(address);
    const [response] = await once(client, "upgrade");
    assert.deepEqual(response.headers["set-cookie"], ["seen=1"]);
    await accepted;
    client.terminate();
  },
  "the upstream sees the client's close": async () => {
    for (const [code, reason] of [[1000, ""], [1001, "leaving"], [4321, "ours"]]) {
      const { client, upstream } = await pair();
      client.close(code, reason);
      assert.deepEqual(await upstream.closed, { code, reason });
      assert.equal((await client.closed).code, code);
    }
  },
  "the client sees the upstream's close": async () => {
    for (const [code, reason] of [[1000, ""], [1012, "restart"], [4002, "enough"]]) {
      const { client, upstream } = await pair();
      upstream.send("last words");
      upstream.close(code, reason);
      assert.equal(await client.next(), "last words");
      assert.deepEqual(await client.closed, { code, reason });
    }
  },
  "a close without a code stays one": async () => {
    const { client, upstream } = await pair();
    client.close();
    assert.equal((await upstream.closed).code, 1005);
    const other = await pair();
    other.upstream.close();
    assert.equal((await other.client.closed).code, 1005);
  },
  "a lost upstream is 1014, and a lost client is 1001": async () => {
    const { client, upstream } = await pair();
    upstream.terminate();
    assert.equal((await client.closed).code, 1014);
    const other = await pair();
    other.client.terminate();
    assert.equal((await other.upstream.closed).code, 1001);
  },
  "a refusal of the upstream reaches the client": async () => {
    const { status, headers, text } = await refusal(new URL("/secret", address).href);
    assert.deepEqual([status, headers["x-why"], text], [401, "no token", "who are you?"]);
  },
  "an upstream that cannot be reached is 502": async () => {
    const unused = createServer();
    await new Promise((resolve) => unused.listen(0, "127.0.0.1", resolve));
    const { port } = unused.address();
    await new Promise((resolve) => unused.close(resolve));
    assert.equal((await refusal(await start(port))).status, 502);
  },
  "a slow client slows the upstream down": async () => {
    const { client, upstream } = await pair();
    client.pause();
    for (let index = 0; index < 64; index++) upstream.send(Buffer.alloc(MIB, index));
    await sleep(1000);
    // The rest is in the gateway, and in the buffers of the system.
    assert.ok(upstream.bufferedAmount > 32 * MIB, `${upstream.bufferedAmount} bytes wait`);
    client.resume();
    for (let index = 0; index < 64; index++) assert.equal((await client.next())[MIB - 1], index);
    client.close();
  },
  "a slow upstream slows the client down": async () => {
    const { client, upstream } = await pair();
    upstream.pause();
    for (let index = 0; index < 64; index++) client.send(Buffer.alloc(MIB, index));
    await sleep(1000);
    assert.ok(client.bufferedAmount > 32 * MIB, `${client.bufferedAmount} bytes wait`);
    let received = 0;
    const all = new Promise((resolve) => upstream.on("message", () => ++received === 64 && resolve()));
    upstream.resume();
    await all;
    client.close();
  },
};

await run("gateway", checks, () => gateways.forEach((gateway) => gateway.kill()));
