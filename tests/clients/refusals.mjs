// Tests refusals of `examples/handler` with headless Chromium and npm's ws: a status, a Close, another origin,
// and unsupported subprotocols.
//
//     CHROMIUM=/usr/bin/chromium node refusals.mjs http://127.0.0.1:3000/

import assert from "node:assert/strict";
import { WebSocket } from "ws";
import { Browser, run } from "./chromium.mjs";

const base = new URL(process.argv[2] ?? "http://127.0.0.1:3000/");
const desk = (token, host = base.hostname) => {
  const address = new URL(`/desk?token=${token}`, base.href.replace(/^http/, "ws"));
  address.hostname = host;
  return address.href;
};
const browser = new Browser();

/** Opens a WebSocket in the page. Returns its first message and how the connection ended. */
const open = (address, protocols = "undefined") => browser.evaluate(`new Promise((resolve) => {
  const seen = { protocol: null, message: null };
  const socket = new WebSocket(${JSON.stringify(address)}, ${protocols});
  socket.onopen = () => { seen.protocol = socket.protocol; };
  socket.onmessage = ({ data }) => { seen.message = data; socket.close(1000); };
  socket.onclose = ({ code, reason, wasClean }) => resolve({ ...seen, code, reason, wasClean });
})`);

/** Opens a WebSocket with npm's ws, which also sees the status. */
const dial = (address, protocols) => new Promise((resolve) => {
  const socket = new WebSocket(address, protocols);
  socket.once("unexpected-response", (_, response) => resolve({ status: response.statusCode }));
  socket.once("error", (error) => resolve({ error: error.message }));
  socket.once("close", (code, reason) => resolve({ code, reason: String(reason) }));
});

const nothing = { protocol: null, message: null, code: 1006, reason: "", wasClean: false };
const expired = { message: null, code: 4401, reason: "the token has expired", wasClean: true };

const checks = {
  "a known token is accepted": async () => {
    await browser.goto(base.href);
    const served = { protocol: "", message: "welcome, Ada", code: 1000, reason: "", wasClean: true };
    assert.deepEqual(await open(desk("sesame")), served);
    assert.deepEqual(await open(desk("sesame"), `["desk.v1", "desk.v2"]`), { ...served, protocol: "desk.v2" });
  },
  "a page reads 1006 for a status": async () => {
    assert.deepEqual(await open(desk("wrong")), nothing);
    assert.deepEqual(await dial(desk("wrong")), { status: 401 });
  },
  "a page reads the code of a refusing Close": async () => {
    assert.deepEqual(await open(desk("stale")), { ...expired, protocol: "" });
    assert.deepEqual(await dial(desk("stale")), { code: 4401, reason: "the token has expired" });
  },
  "a page that offers subprotocols reads the code, too": async () => {
    assert.deepEqual(await open(desk("stale"), `["a", "b"]`), { ...expired, protocol: "a" });
    assert.deepEqual(await dial(desk("stale"), ["a", "b"]), { code: 4401, reason: "the token has expired" });
  },
  "unsupported subprotocols are 1006": async () => {
    assert.deepEqual(await open(desk("sesame"), `["a", "b"]`), nothing);
  },
  "a page of another host is refused": async () => {
    assert.deepEqual(await open(desk("sesame", "localhost")), nothing);
  },
  "a page without an origin is refused": async () => {
    await browser.goto("data:text/html,<title>nowhere</title>");
    await browser.until(`origin === "null"`);
    assert.deepEqual(await open(desk("sesame")), nothing);
  },
};

await run("refusals", browser, checks);
