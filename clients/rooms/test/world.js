// A world without a network and without real time, for Node and browsers.

import { connect } from "../rooms.js";

/** Throws unless both have the same JSON. */
export function equal(actual, expected) {
  const [left, right] = [actual, expected].map((value) => JSON.stringify(value));
  if (left !== right) throw new Error(`got ${left}, expected ${right}`);
}

/** Lets promises go on. */
export async function settled() {
  for (let turn = 0; turn < 20; turn++) await null;
}

/** Returns the code of the error with which a promise is rejected, or its value. */
export const outcome = (promise) => promise.then((value) => value ?? null, ({ code }) => code);

/** Replaces timers, the time and chance by ones that the test controls. */
class Clock {
  now = 1_000_000;
  chance = 0.5;
  #timers = new Map();
  #last = 0;
  #kept = [globalThis.setTimeout, globalThis.clearTimeout, Date.now, Math.random];

  constructor() {
    globalThis.setTimeout = (run, delay) => {
      this.#timers.set(++this.#last, { run, at: this.now + delay });
      return this.#last;
    };
    globalThis.clearTimeout = (id) => this.#timers.delete(id);
    Date.now = () => this.now;
    Math.random = () => this.chance;
  }

  get timers() {
    return this.#timers.size;
  }

  /** Lets this many milliseconds pass. */
  async advance(milliseconds) {
    const end = this.now + milliseconds;
    for (;;) {
      const [id, next] = [...this.#timers].sort(([, a], [, b]) => a.at - b.at)[0] ?? [];
      if (!next || next.at > end) break;
      this.now = Math.max(this.now, next.at);
      this.#timers.delete(id);
      next.run();
      await settled();
    }
    this.now = end;
    await settled();
  }

  restore() {
    [globalThis.setTimeout, globalThis.clearTimeout, Date.now, Math.random] = this.#kept;
  }
}

/** Has the events of a page, also in Node. */
class Page {
  hidden = false;
  listeners = 0;
  #kept = [];

  constructor() {
    const target = new EventTarget();
    const page = this;
    const counted = (name, change) => (...values) => {
      this.listeners += change;
      target[name](...values);
    };
    this.#replace(globalThis, "addEventListener", counted("addEventListener", 1));
    this.#replace(globalThis, "removeEventListener", counted("removeEventListener", -1));
    if (!globalThis.document) this.#replace(globalThis, "document", {});
    const { document } = globalThis;
    for (const name of ["addEventListener", "removeEventListener"]) this.#replace(document, name, globalThis[name]);
    this.#kept.push([document, "hidden", Object.getOwnPropertyDescriptor(document, "hidden")]);
    Object.defineProperty(document, "hidden", { configurable: true, get: () => page.hidden });
    this.event = (name) => target.dispatchEvent(new Event(name));
  }

  #replace(object, name, value) {
    this.#kept.push([object, name, Object.getOwnPropertyDescriptor(object, name)]);
    Object.defineProperty(object, name, { configurable: true, writable: true, value });
  }

  restore() {
    for (const [object, name, kept] of this.#kept.reverse()) {
      delete object[name];
      if (kept) Object.defineProperty(object, name, kept);
    }
  }
}

export class World {
  clock = new Clock();
  page = new Page();
  /** All sockets that the client has opened. Each has `sent`, the objects that it got. */
  sockets = [];
  /** The calls of listeners: [name, value]. */
  log = [];
  #connections = [];

  constructor() {
    const { sockets } = this;
    this.Socket = class {
      sent = [];
      closed;
      constructor(url, protocols) {
        Object.assign(this, { url, protocols });
        sockets.push(this);
      }
      send(text) {
        this.sent.push(JSON.parse(text));
      }
      close(code, reason) {
        this.closed ??= { code, reason };
      }
    };
  }

  get socket() {
    return this.sockets.at(-1);
  }

  /** Connects. The state and its details are logged. */
  async connect(options = {}, url = "http://host.example/rooms") {
    const connection = connect(url, {
      WebSocket: this.Socket,
      onState: (state, { delay, code }) => this.log.push([state, delay ?? code].filter((part) => part !== undefined)),
      ...options,
    });
    this.#connections.push(connection);
    await this.clock.advance(0);
    return connection;
  }

  /** Joins a room, and logs the calls of its listeners. */
  join(connection, name, options = {}) {
    const note = (kind, pick = (value) => value) => (value) => this.log.push([kind, pick(value)]);
    return connection.join(name, {
      onMessage: note("message", ({ data }) => data),
      onGap: note("gap", ({ reason }) => reason),
      onWelcome: note("welcome", ({ recovery }) => recovery),
      onEnd: note("end"),
      onError: note("error", ({ code }) => code),
      ...options,
    });
  }

  closeLast() {
    this.#connections.at(-1).close();
  }

  /** The server accepts the connection. */
  async accept() {
    this.socket.onopen?.({});
    await settled();
  }

  /** The server sends an object. */
  async say(...objects) {
    for (const object of objects) this.socket.onmessage?.({ data: JSON.stringify(object) });
    await settled();
  }

  /** The connection ends. */
  async drop(code = 1006, reason = "") {
    this.socket.onclose?.({ code, reason });
    await settled();
  }

  /** Takes the last object that the client has sent. */
  last() {
    return this.socket.sent.at(-1);
  }

  /** The server answers the last request. */
  async answer(object) {
    await this.say({ ...object, id: this.last().id });
  }

  async welcome(room, welcome = {}) {
    const request = this.socket.sent.findLast(({ join }) => join === room);
    await this.say({ room, id: request.id, welcome: { me: "a1", recovery: "fresh", ...welcome } });
  }

  /** Takes the log. */
  taken() {
    return this.log.splice(0);
  }

  /** Takes the log, without the states. */
  told() {
    return this.taken().filter(([kind]) => !["connecting", "open", "waiting", "closed"].includes(kind));
  }

  end() {
    this.#connections.forEach((connection) => connection.close());
    this.clock.restore();
    this.page.restore();
  }
}
