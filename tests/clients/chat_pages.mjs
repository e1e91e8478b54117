// Helpers of the tests of examples/chat: the server, a proxy that cuts connections, people at pages, and programs.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect as dial, createServer } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import WebSocket from "ws";
import { Browser } from "./chromium.mjs";

/** The example, which can be killed and started again. Pages reach it through a proxy, at the same address. */
export class Chat {
  #program;
  #server;
  #proxy;
  #pairs = new Set();
  #upstreams = new Set();
  #isStalled = false;
  /** Whether the proxy refuses connections. */
  isCut = false;
  /** Whether the proxy drops all output of the server. */
  isMute = false;

  constructor(program) {
    this.#program = program;
  }

  async start() {
    this.#server = spawn(this.#program, ["0"], { stdio: ["ignore", "pipe", "ignore"] });
    const [line] = await once(createInterface({ input: this.#server.stdout }), "line");
    this.direct = new URL(line.replace("listening on ", ""));
    if (this.#proxy) return;
    this.#proxy = createServer((client) => this.#carry(client));
    await new Promise((listening) => this.#proxy.listen(0, "127.0.0.1", listening));
    this.base = `http://127.0.0.1:${this.#proxy.address().port}/`;
  }

  #carry(client) {
    if (this.isCut) return client.destroy();
    const upstream = dial(Number(this.direct.port), "127.0.0.1");
    const end = () => {
      this.#pairs.delete(end);
      client.destroy();
      upstream.destroy();
    };
    this.#pairs.add(end);
    for (const socket of [client, upstream]) socket.on("error", end).on("close", end);
    client.pipe(upstream);
    // A page that does not read slows the server down, as without a proxy.
    upstream.on("data", (chunk) => this.isMute || client.write(chunk) || upstream.pause());
    client.on("drain", () => this.#isStalled || upstream.resume());
    this.#upstreams.add(upstream);
    upstream.on("close", () => this.#upstreams.delete(upstream));
  }

  /** Cuts all connections of pages. New ones are refused until `mend`. */
  cut() {
    this.isCut = true;
    [...this.#pairs].forEach((end) => end());
  }

  mend() {
    this.isCut = this.isMute = false;
  }

  /** Stops or resumes reading from the server, so that the buffers on the way to a stalled page stay small. */
  stall(isStalled) {
    this.#isStalled = isStalled;
    for (const upstream of this.#upstreams) isStalled ? upstream.pause() : upstream.resume();
  }

  async kill() {
    const exit = once(this.#server, "exit");
    this.#server.kill("SIGKILL");
    await exit;
  }
}

/** A program that chats through the module in Node, without the proxy. */
export class Program {
  texts = [];
  static async enter(chat, folder, name, room = "lobby") {
    const { connect } = await import(pathToFileURL(join(folder, "rooms.js")));
    const program = new Program();
    const url = () => new URL(`/ws?name=${name}`, chat.direct);
    program.connection = connect(url, { WebSocket });
    program.room = program.connection.join(room, {
      onMessage: ({ data }) => data.text && program.texts.push(data.text),
    });
    await program.room.ready;
    return program;
  }

  say(text) {
    return this.room.send({ text, time: Date.now() });
  }

  end() {
    this.connection.close();
  }
}

const SHOWN = ".log:not([hidden])";

/** Somebody with a browser. */
export class Person {
  browser = new Browser();

  constructor(name) {
    this.name = name;
  }

  async enter(chat) {
    await this.browser.attach();
    await this.browser.goto(chat.base);
    await this.until(`document.querySelector("#hello")?.open`);
    await this.browser.type("#name", this.name);
    await this.browser.click("#hello button");
    await this.connected();
  }

  until(expression) {
    return this.browser.until(expression);
  }

  connected() {
    return this.until(`document.querySelector("#status")?.dataset.state === "open" &&
      document.querySelector("#members")?.childElementCount`);
  }

  /** Presses a key. */
  async press(key, modifiers = 0) {
    const text = { Enter: "\r", Tab: "\t" }[key];
    const code = { Enter: 13, Tab: 9, Escape: 27 }[key];
    const event = { key, code: key, windowsVirtualKeyCode: code, modifiers };
    await this.browser.call("Input.dispatchKeyEvent", { ...event, type: "keyDown", text });
    await this.browser.call("Input.dispatchKeyEvent", { ...event, type: "keyUp" });
  }

  async say(text) {
    await this.browser.type("#text", text);
    await this.press("Enter");
  }

  /** Returns the messages of the room that is shown, in the order of the page. */
  texts() {
    return this.browser.evaluate(`[...document.querySelectorAll("${SHOWN} .message:not(.pending) .text")].map((text) => text.textContent)`);
  }

  /** Waits until the last message of the room is this one. */
  reads(text) {
    return this.until(`[...document.querySelectorAll("${SHOWN} .message:not(.pending) .text")].at(-1)?.textContent === ${JSON.stringify(text)}`);
  }

  /** Returns the texts of all elements. */
  all(selector) {
    return this.browser.evaluate(`[...document.querySelectorAll(${JSON.stringify(selector)})].map((one) => one.textContent)`);
  }

  members() {
    return this.all("#members span");
  }

  /** Waits until these people are listed. */
  sees(...names) {
    return this.until(`[...document.querySelectorAll("#members span")].map((name) => name.textContent).join() === "${names}"`);
  }

  /** Connects again, at once instead of after the delay. */
  async reconnect() {
    await this.until(`document.querySelector("#status").dataset.state !== "open"`);
    while ((await this.browser.evaluate(`document.querySelector("#status").dataset.state`)) !== "open") {
      await this.browser.evaluate(`document.querySelector("#retry").hidden || document.querySelector("#retry").click()`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  errors() {
    return this.browser.events
      .filter(({ method, params }) => method === "Runtime.exceptionThrown" || params.entry?.level === "error")
      .map(({ params }) => params.entry?.text ?? params.exceptionDetails.exception?.description)
      // Refused connections are logged by the browser.
      .filter((text) => !text.startsWith("WebSocket connection to"));
  }
}
