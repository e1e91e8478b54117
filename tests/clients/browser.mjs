// Tests `examples/echo` with headless Chromium: first its console page, then `WebSocket` in a script.
//
//     CHROMIUM=/usr/bin/chromium node browser.mjs http://127.0.0.1:3000/

import assert from "node:assert/strict";
import { Browser, run } from "./chromium.mjs";

const base = new URL(process.argv[2] ?? "http://127.0.0.1:3000/");
const address = new URL("/ws", base.href.replace(/^http/, "ws")).href;
const MIB = 1 << 20;

const browser = new Browser();
const logged = (from, text) =>
  `[...document.querySelectorAll("#log li[data-from=${from}]")].some((line) => line.textContent.includes(${JSON.stringify(text)}))`;

const connection = (body, url = address) => browser.connection(body, url);
const clean = { code: 1000, wasClean: true };

const checks = {
  "the page connects": async () => {
    await browser.goto(base.href);
    await browser.until(`document.querySelector("#state")?.dataset.state === "connected"`);
    assert.equal(await browser.evaluate(`document.querySelector("#state").textContent`), "connected");
  },
  "the page sends Hello and shows Echo: Hello": async () => {
    await browser.type("#message", "Hello");
    await browser.click("#send");
    await browser.until(logged("server", "Echo: Hello"));
  },
  "markup in a message stays text": async () => {
    await browser.type("#message", "<img src=x>");
    await browser.click("#send");
    await browser.until(logged("server", "Echo: <img src=x>"));
    assert.equal(await browser.evaluate(`document.querySelectorAll("#log img").length`), 0);
  },
  "the page sends binary and shows it unchanged": async () => {
    await browser.type("#message", "Hello");
    await browser.click("#send-binary");
    await browser.until(logged("server", "48 65 6c 6c 6f"));
  },
  "the page gets /time while connected": async () => {
    await browser.click("#time");
    await browser.until(logged("server", "← HTTP200"));
  },
  "the page shows the close code and connects again": async () => {
    await browser.click("#toggle");
    await browser.until(logged("page", "code 1000, normal closure, clean"));
    assert.equal(await browser.evaluate(`document.querySelector("#state").textContent`), "closed 1000");
    await browser.click("#toggle");
    await browser.until(`document.querySelector("#state").dataset.state === "connected"`);
  },
  "WebSocket: text and binary": async () => {
    const { seen, ...end } = await connection(`
      socket.onopen = () => { socket.send("Hello"); socket.send(new Uint8Array([0, 127, 128, 255])); };
      socket.onmessage = ({ data }) => {
        seen.push(typeof data === "string" ? data : Array.from(new Uint8Array(data)));
        if (seen.length === 2) socket.close(1000);
      };`);
    assert.deepEqual(seen, ["Echo: Hello", [0, 127, 128, 255]]);
    assert.deepEqual(end, clean);
  },
  "WebSocket: a text of nearly 1 MiB": async () => {
    const size = MIB - 10;
    const { seen, ...end } = await connection(`
      const text = "x".repeat(${size});
      socket.onopen = () => socket.send(text);
      socket.onmessage = ({ data }) => { seen.push(data === "Echo: " + text); socket.close(1000); };`);
    assert.deepEqual(seen, [true]);
    assert.deepEqual(end, clean);
  },
  "WebSocket: 1 MiB of JSON, compressed": async () => {
    const { seen, ...end } = await connection(`
      const rows = Array.from({ length: 40_000 }, (_, id) => ({ id, name: "user " + id }));
      const text = JSON.stringify(rows).slice(0, ${MIB});
      socket.onopen = () => { seen.push(text.length, socket.extensions); socket.send(text); };
      socket.onmessage = ({ data }) => { seen.push(data === "Echo: " + text); socket.close(1000); };`);
    assert.equal(seen[0], MIB);
    assert.match(seen[1], /^permessage-deflate;/);
    assert.equal(seen[2], true);
    assert.deepEqual(end, clean);
  },
  "WebSocket: closing with 1000 at once": async () => {
    const { seen, ...end } = await connection(`socket.onopen = () => socket.close(1000, "done");`);
    assert.deepEqual(end, clean);
  },
  "WebSocket: 1 MiB and a byte ends with 1009": async () => {
    const { code } = await connection(`socket.onopen = () => socket.send(new Uint8Array(${MIB + 1}));`);
    assert.equal(code, 1009);
  },
  "WebSocket: 16 MiB, still being sent, ends with 1009": async () => {
    const { code } = await connection(`socket.onopen = () => socket.send(new Uint8Array(${16 * MIB}));`);
    assert.equal(code, 1009);
  },
  "the page reported no error": async () => {
    const errors = browser.events
      .filter(({ method, params }) => method === "Runtime.exceptionThrown" || params.entry?.level === "error")
      .map(({ params }) => params.entry?.text ?? params.exceptionDetails.text);
    assert.deepEqual(errors, []);
  },
  "a page of another host is refused": async () => {
    // The same server under another host name is another origin.
    const other = new URL(base);
    other.hostname = base.hostname === "localhost" ? "127.0.0.1" : "localhost";
    await browser.goto(new URL("/time", other).href);
    const { code, wasClean } = await connection("");
    assert.deepEqual({ code, wasClean }, { code: 1006, wasClean: false });
    // A script cannot see the reason. The browser's log has it.
    const refusals = browser.events.filter(({ params }) => params.entry?.text.includes("403"));
    assert.equal(refusals.length, 1);
  },
};

await run("chromium", browser, checks);
