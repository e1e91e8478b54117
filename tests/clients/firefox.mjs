// Tests `examples/echo`, `examples/http2` and `examples/handler` with headless Firefox, through WebDriver BiDi.
// The arguments are the URLs of the three servers.
//
//     FIREFOX=/usr/bin/firefox-esr node firefox.mjs ECHO HTTP2 HANDLER

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";

const [echo, http2, handler] = process.argv.slice(2);
const MIB = 1 << 20;

const profile = mkdtempSync(join(tmpdir(), "tower-websocket-firefox-"));
const firefox = spawn(
  process.env.FIREFOX ?? "firefox-esr",
  ["--headless", "--no-remote", "--profile", profile, "--remote-debugging-port", "0", "about:blank"],
  { stdio: ["ignore", "ignore", "pipe"] },
);
const address = await new Promise((resolve, reject) => {
  let said = "";
  firefox.stderr.setEncoding("utf8").on("data", (chunk) => {
    said += chunk;
    const found = said.match(/WebDriver BiDi listening on (ws:\S+)/);
    if (found) resolve(found[1]);
  });
  firefox.once("exit", (code) => reject(new Error(`firefox ended with ${code}: ${said}`)));
  firefox.once("error", reject);
});

const driver = new WebSocket(`${address}/session`);
await new Promise((resolve, reject) => driver.once("open", resolve).once("error", reject));
const answers = new Map();
driver.on("message", (text) => {
  const { id, type, result, message } = JSON.parse(text);
  answers.get(id)?.(type === "success" ? { result } : { message });
  answers.delete(id);
});
let last = 0;
const call = async (method, params = {}) => {
  const id = ++last;
  const answer = new Promise((resolve) => answers.set(id, resolve));
  driver.send(JSON.stringify({ id, method, params }));
  const { result, message } = await answer;
  if (message !== undefined) throw new Error(`${method}: ${message}`);
  return result;
};

// The certificate of examples/http2 is self-signed.
const { capabilities } = await call("session.new", {
  capabilities: { alwaysMatch: { acceptInsecureCerts: true } },
});
const { contexts: [{ context }] } = await call("browsingContext.getTree");
const goto = (url) => call("browsingContext.navigate", { context, url, wait: "complete" });
/** Returns the value of an expression in the page, converted through JSON. A promise is awaited. */
const evaluate = async (expression) => {
  const { result, exceptionDetails: thrown } = await call("script.evaluate", {
    expression: `(async () => JSON.stringify(await (${expression})))()`,
    target: { context }, awaitPromise: true,
  });
  if (thrown) throw new Error(thrown.text);
  return result.value === undefined ? undefined : JSON.parse(result.value);
};
const until = async (expression) => {
  while (!(await evaluate(`Boolean(${expression})`))) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};
/** Runs `body` in the page with a `socket` to `url`, and returns how the connection ended. */
const connection = (body, url, protocols = "undefined") => evaluate(`new Promise((resolve) => {
  const socket = new WebSocket(${JSON.stringify(url)}, ${protocols});
  socket.binaryType = "arraybuffer";
  const seen = [];
  socket.onclose = ({ code, reason, wasClean }) => resolve({ code, reason, wasClean, seen });
  ${body}
})`);
const at = (base, path) => new URL(path, base.replace(/^http/, "ws")).href;
const clean = { code: 1000, reason: "", wasClean: true };

const checks = {
  "the page of examples/echo connects": async () => {
    await goto(echo);
    await until(`document.querySelector("#state")?.dataset.state === "connected"`);
  },
  "text and binary": async () => {
    const { seen, ...end } = await connection(`
      socket.onopen = () => { socket.send("Hello"); socket.send(new Uint8Array([0, 127, 128, 255])); };
      socket.onmessage = ({ data }) => {
        seen.push(typeof data === "string" ? data : Array.from(new Uint8Array(data)));
        if (seen.length === 2) socket.close(1000);
      };`, at(echo, "/ws"));
    assert.deepEqual(seen, ["Echo: Hello", [0, 127, 128, 255]]);
    assert.deepEqual(end, clean);
  },
  "1 MiB of JSON, compressed": async () => {
    const { seen, ...end } = await connection(`
      const rows = Array.from({ length: 40_000 }, (_, id) => ({ id, name: "user " + id }));
      const text = JSON.stringify(rows).slice(0, ${MIB} - 10);
      socket.onopen = () => { seen.push(socket.extensions); socket.send(text); };
      socket.onmessage = ({ data }) => { seen.push(data === "Echo: " + text); socket.close(1000); };`,
      at(echo, "/ws"));
    assert.match(seen[0], /^permessage-deflate/);
    assert.equal(seen[1], true);
    assert.deepEqual(end, clean);
  },
  "a message that is too large is 1009": async () => {
    const { code } = await connection(`
      socket.onopen = () => socket.send(new Uint8Array(2 * ${MIB}));`, at(echo, "/ws"));
    assert.equal(code, 1009);
  },
  "the page closes with its own code": async () => {
    const { code, wasClean } = await connection(`
      socket.onopen = () => socket.close(4000, "enough");`, at(echo, "/ws"));
    assert.deepEqual({ code, wasClean }, { code: 4000, wasClean: true });
  },
  "the page of examples/http2 and its WebSocket use HTTP/2": async () => {
    await goto(http2);
    await until(`document.querySelector("#page")?.textContent`);
    assert.equal(await evaluate(`document.querySelector("#page").textContent`), "h2");
    await until(`document.querySelector("#state").textContent !== "connecting"`);
    assert.equal(await evaluate(`document.querySelector("#state").textContent`), "connected by HTTP/2.0");
  },
  "1 MiB over HTTP/2": async () => {
    const { seen, ...end } = await connection(`
      const message = new Uint8Array(${MIB}).fill(7);
      socket.onmessage = ({ data }) => {
        if (seen.push(typeof data === "string" ? data : data.byteLength) === 1) return socket.send(message);
        socket.close(1000);
      };`, at(http2, "/ws"));
    assert.deepEqual(seen, ["connected by HTTP/2.0", MIB]);
    assert.deepEqual(end, clean);
  },
  "the page reads 1006 for a refusal, and the code of a refusing Close": async () => {
    await goto(handler);
    const desk = (token) => at(handler, `/desk?token=${token}`);
    const { code } = await connection("", desk("wrong"));
    assert.equal(code, 1006);
    for (const protocols of ["undefined", `["a", "b"]`]) {
      const end = await connection("", desk("stale"), protocols);
      assert.deepEqual(end, { code: 4401, reason: "the token has expired", wasClean: true, seen: [] });
    }
  },
  "a page of another origin is refused": async () => {
    await goto(echo);
    const { code } = await connection("", at(handler, "/desk?token=sesame"));
    assert.equal(code, 1006);
  },
};

console.log(`firefox ${capabilities.browserVersion}`);
let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: ${error.message.replace(/\s+/g, " ").slice(0, 300)}`);
  }
}
await call("browser.close").catch(() => {});
driver.terminate();
if (firefox.exitCode === null) await new Promise((resolve) => firefox.once("exit", resolve));
rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
process.exit(failed ? 1 : 0);
