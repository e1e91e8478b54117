// Headless Chromium against `examples/echo`: the console page as a person uses it, then the
// browser's own WebSocket. Speaks the DevTools protocol over a pipe, so it needs no package.
//
//     CHROMIUM=/usr/bin/chromium node browser.mjs http://127.0.0.1:3000/

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const base = new URL(process.argv[2] ?? "http://127.0.0.1:3000/");
const address = new URL("/ws", base.href.replace(/^http/, "ws")).href;
const MIB = 1 << 20;

/** A running browser: `call` sends one command, `events` holds what it reported by itself. */
class Browser {
  events = [];
  #answers = new Map();
  #profile = mkdtempSync(join(tmpdir(), "tower-websocket-chromium-"));
  #process;
  #session;

  constructor() {
    const flags = [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      "--disable-dev-shm-usage", "--no-proxy-server", "--window-size=1000,800",
      "--remote-debugging-pipe", `--user-data-dir=${this.#profile}`, "about:blank",
    ];
    this.#process = spawn(process.env.CHROMIUM ?? "chromium", flags, {
      stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"],
    });
    this.ended = new Promise((resolve) => {
      this.#process.once("exit", resolve);
      this.#process.once("error", resolve);
    }).then((how) => {
      const error = new Error(`chromium ended: ${how?.message ?? how}`);
      for (const { reject } of this.#answers.values()) reject(error);
    });
    this.#process.stdio[3].on("error", () => {});
    let pending = "";
    this.#process.stdio[4].setEncoding("utf8").on("data", (chunk) => {
      const parts = (pending + chunk).split("\0");
      pending = parts.pop();
      parts.map((part) => JSON.parse(part)).forEach((message) => this.#take(message));
    });
  }

  #take({ id, result, error, method, params }) {
    if (id === undefined) return this.events.push({ method, params });
    const { resolve, reject } = this.#answers.get(id);
    this.#answers.delete(id);
    error ? reject(new Error(error.message)) : resolve(result);
  }

  #last = 0;
  call(method, params = {}) {
    const id = ++this.#last;
    const answer = new Promise((resolve, reject) => this.#answers.set(id, { resolve, reject }));
    this.#process.stdio[3].write(JSON.stringify({ id, method, params, sessionId: this.#session }) + "\0");
    return answer;
  }

  /** Opens a page and speaks to it from here on. */
  async attach() {
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.call("Target.attachToTarget", { targetId, flatten: true });
    this.#session = sessionId;
    for (const domain of ["Page", "Runtime", "Log"]) await this.call(`${domain}.enable`);
  }

  async goto(url) {
    const { errorText } = await this.call("Page.navigate", { url });
    assert.equal(errorText, undefined, `${url}: ${errorText}`);
  }

  /** The value of an expression in the page, awaited if it is a promise. */
  async evaluate(expression) {
    const parameters = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails: thrown } = await this.call("Runtime.evaluate", parameters);
    if (thrown) throw new Error(thrown.exception?.description ?? thrown.text);
    return result.value;
  }

  /** Waits until an expression is true in the page. */
  async until(expression) {
    while (!(await this.evaluate(`Boolean(${expression})`))) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async click(selector) {
    const [x, y] = await this.evaluate(`(() => {
      const box = document.querySelector(${JSON.stringify(selector)}).getBoundingClientRect();
      return [box.x + box.width / 2, box.y + box.height / 2];
    })()`);
    for (const type of ["mousePressed", "mouseReleased"]) {
      await this.call("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount: 1 });
    }
  }

  async type(selector, text) {
    await this.click(selector);
    await this.call("Input.insertText", { text });
  }

  async end() {
    this.#session = undefined;
    const slow = setTimeout(() => this.#process.kill("SIGKILL"), 5_000);
    this.call("Browser.close").catch(() => {});
    await this.ended;
    clearTimeout(slow);
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

const browser = new Browser();
const logged = (from, text) =>
  `[...document.querySelectorAll("#log li[data-from=${from}]")].some((line) => line.textContent.includes(${JSON.stringify(text)}))`;

/** Runs `body` in the page with a `socket` on `url` and reports how the connection ended. */
const connection = (body, url = address) =>
  browser.evaluate(`new Promise((resolve) => {
    const socket = new WebSocket(${JSON.stringify(url)});
    socket.binaryType = "arraybuffer";
    const seen = [];
    socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean, seen });
    ${body}
  })`);
const clean = { code: 1000, wasClean: true };

const checks = {
  "the page connects": async () => {
    await browser.goto(base.href);
    await browser.until(`document.querySelector("#state")?.dataset.state === "connected"`);
    assert.equal(await browser.evaluate(`document.querySelector("#state").textContent`), "connected");
  },
  "a typed Hello comes back as Echo: Hello": async () => {
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
  "binary comes back to the page unchanged": async () => {
    await browser.type("#message", "Hello");
    await browser.click("#send-binary");
    await browser.until(logged("server", "48 65 6c 6c 6f"));
  },
  "the page asks for /time while connected": async () => {
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
    // The same server under another name: to the browser, and to the server, another origin.
    const other = new URL(base);
    other.hostname = base.hostname === "localhost" ? "127.0.0.1" : "localhost";
    await browser.goto(new URL("/time", other).href);
    const { code, wasClean } = await connection("");
    assert.deepEqual({ code, wasClean }, { code: 1006, wasClean: false });
    // A script is not told why; the browser's own log is.
    const refusals = browser.events.filter(({ params }) => params.entry?.text.includes("403"));
    assert.equal(refusals.length, 1);
  },
};

// What went wrong, in one line: a mismatch of two large messages would fill the screen.
const brief = ({ message }) => message.replace(/\s+/g, " ").slice(0, 300);

const failed = [];
const within = async (seconds, work) => {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing within ${seconds} s`)), seconds * 1000);
  });
  try {
    await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
};
try {
  await within(60, browser.attach());
  for (const [name, check] of Object.entries(checks)) {
    try {
      await within(15, check());
      console.log(`ok    chromium: ${name}`);
    } catch (error) {
      console.log(`FAIL  chromium: ${name}: ${brief(error)}`);
      failed.push(name);
    }
  }
} catch (error) {
  console.log(`FAIL  chromium: start: ${error.message}`);
  failed.push("start");
}
await browser.end();
if (failed.length) console.log(`chromium: ${failed.length} failed: ${failed.join("; ")}`);
process.exit(failed.length ? 1 : 0);
