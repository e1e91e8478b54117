// Tests `examples/http2` with headless Chromium: the page and its WebSockets share one HTTP/2 connection.
//
//     CHROMIUM=/usr/bin/chromium node browser_http2.mjs https://127.0.0.1:3000/

import assert from "node:assert/strict";
import { Browser, run } from "./chromium.mjs";

const base = new URL(process.argv[2] ?? "https://127.0.0.1:3000/");
const address = new URL("/ws", base.href.replace(/^http/, "ws")).href;
const MIB = 1 << 20;

// The certificate is self-signed.
const browser = new Browser("--ignore-certificate-errors");
const clean = { code: 1000, wasClean: true };
/** Receives the server's first message, which has the HTTP version. Then sends a message and checks the echo. */
const exchange = (message) => `
  const message = ${message};
  socket.onmessage = ({ data }) => {
    if (seen.push(data) === 1) return socket.send(message);
    const same = typeof message === "string"
      ? data === message
      : new Uint8Array(data).every((byte, at) => byte === message[at]);
    seen[1] = same && (data.length ?? data.byteLength) === message.length;
    socket.close(1000);
  };`;

const checks = {
  "the page is loaded over HTTP/2": async () => {
    await browser.goto(base.href);
    await browser.until(`document.querySelector("#page")?.textContent`);
    assert.equal(await browser.evaluate(`document.querySelector("#page").textContent`), "h2");
  },
  "its WebSocket uses HTTP/2": async () => {
    await browser.until(`document.querySelector("#state").textContent !== "connecting"`);
    const state = await browser.evaluate(`document.querySelector("#state").textContent`);
    assert.equal(state, "connected by HTTP/2.0");
  },
  "the page sends Hello on two sockets": async () => {
    const lines = (text) => `[...document.querySelectorAll("#log li")].filter((line) => line.textContent.endsWith(${JSON.stringify(text)})).length`;
    await browser.click("#more");
    await browser.until(`${lines("connected by HTTP/2.0")} === 2`);
    await browser.type("#message", "Hello");
    await browser.click("button");
    await browser.until(`${lines(": Hello")} === 2`);
    await browser.click("#close");
    await browser.until(`${lines("closed with 1000, clean")} === 2`);
  },
  "text": async () => {
    const { seen, ...end } = await browser.connection(exchange(`"grüße, 世界"`), address);
    assert.deepEqual(seen, ["connected by HTTP/2.0", true]);
    assert.deepEqual(end, clean);
  },
  "binary": async () => {
    const { seen, ...end } = await browser.connection(exchange(`new Uint8Array([0, 127, 128, 255])`), address);
    assert.deepEqual(seen, ["connected by HTTP/2.0", true]);
    assert.deepEqual(end, clean);
  },
  "1 MiB": async () => {
    const { seen, ...end } = await browser.connection(exchange(`new Uint8Array(${MIB}).fill(7)`), address);
    assert.deepEqual(seen, ["connected by HTTP/2.0", true]);
    assert.deepEqual(end, clean);
  },
  "1 MiB and a byte ends with 1009": async () => {
    const { code } = await browser.connection(
      `socket.onopen = () => socket.send(new Uint8Array(${MIB + 1}));`, address);
    assert.equal(code, 1009);
  },
  "16 MiB, still being sent, ends with 1009": async () => {
    const { code } = await browser.connection(
      `socket.onopen = () => socket.send(new Uint8Array(${16 * MIB}));`, address);
    assert.equal(code, 1009);
  },
  "50 sockets at once": async () => {
    const ends = await browser.evaluate(`Promise.all(Array.from({ length: 50 }, (_, number) => new Promise((resolve) => {
      const socket = new WebSocket(${JSON.stringify(address)});
      const seen = [];
      socket.onclose = ({ code }) => resolve([code, ...seen].join());
      socket.onmessage = ({ data }) => {
        if (seen.push(data) === 1) socket.send(number); else socket.close(1000);
      };
    })))`);
    assert.deepEqual(ends, ends.map((_, number) => `1000,connected by HTTP/2.0,${number}`));
  },
  "the page reported no error": async () => {
    const errors = browser.events
      .filter(({ method, params }) => method === "Runtime.exceptionThrown" || params.entry?.level === "error")
      .map(({ params }) => params.entry?.text ?? params.exceptionDetails.text);
    assert.deepEqual(errors, []);
  },
  "a page of another host is refused": async () => {
    const other = new URL(base);
    other.hostname = base.hostname === "localhost" ? "127.0.0.1" : "localhost";
    await browser.goto(other.href);
    const { code } = await browser.connection("", address);
    assert.equal(code, 1006);
  },
};

await run("chromium over HTTP/2", browser, checks);
