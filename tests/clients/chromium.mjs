// Controls headless Chromium and runs the checks of a test. It uses the DevTools protocol over a pipe, which
// needs no package.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run as runChecks, within } from "./checks.mjs";

/** A running browser. `call` sends a command, `events` collects its events. */
export class Browser {
  events = [];
  #answers = new Map();
  #profile = mkdtempSync(join(tmpdir(), "tower-websocket-chromium-"));
  #process;
  #session;

  /** Starts the browser with additional flags. */
  constructor(...more) {
    const flags = [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
      "--disable-dev-shm-usage", "--no-proxy-server", "--window-size=1000,800",
      "--remote-debugging-pipe", `--user-data-dir=${this.#profile}`, ...more, "about:blank",
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

  /** Opens a page, to which all later commands go. */
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

  /** Returns the value of an expression in the page. A promise is awaited. */
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

  /** Runs `body` in the page with a `socket` to `url`, and returns how the connection ended. */
  connection(body, url) {
    return this.evaluate(`new Promise((resolve) => {
      const socket = new WebSocket(${JSON.stringify(url)});
      socket.binaryType = "arraybuffer";
      const seen = [];
      socket.onclose = ({ code, wasClean }) => resolve({ code, wasClean, seen });
      ${body}
    })`);
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

/** Attaches to the browser, runs the checks in order, and then ends the browser and this process. */
export async function run(name, browser, checks) {
  try {
    await within(60, browser.attach());
  } catch (error) {
    checks = { start: () => Promise.reject(error) };
  }
  await runChecks(name, checks, () => browser.end());
}
