// Connections of npm's ws that keep their messages, and a runner of checks.

import { once } from "node:events";
import WebSocket from "ws";

/**
 * Returns an open connection. Its `next()` returns the next message, and messages that arrive earlier are kept.
 * Its `closed` is a promise of the close code and the reason.
 */
export async function open(address, protocols = [], options = {}) {
  const socket = new WebSocket(address, protocols, options);
  const messages = [];
  const waiting = [];
  socket.on("message", (data, binary) => {
    const message = binary ? data : data.toString();
    waiting.length ? waiting.shift()(message) : messages.push(message);
  });
  socket.next = () =>
    messages.length ? Promise.resolve(messages.shift()) : new Promise((resolve) => waiting.push(resolve));
  socket.closed = new Promise((resolve) =>
    socket.once("close", (code, reason) => resolve({ code, reason: reason.toString() })),
  );
  await once(socket, "open");
  // Errors after the opening handshake cause a close event, which the checks use.
  socket.on("error", () => {});
  return socket;
}

/** Returns the response to a refused opening handshake: its status, headers and text. */
export async function refusal(address, protocols = [], options = {}) {
  const socket = new WebSocket(address, protocols, options);
  socket.on("error", () => {});
  const refused = once(socket, "unexpected-response");
  const accepted = once(socket, "open").then(() => {
    socket.terminate();
    throw new Error("accepted");
  });
  const [, response] = await Promise.race([refused, accepted]);
  const chunks = [];
  for await (const chunk of response) chunks.push(chunk);
  return { status: response.statusCode, headers: response.headers, text: Buffer.concat(chunks).toString() };
}

// Returns a short error text in one line, because a difference of two large messages is long.
const brief = ({ message }) => message.replace(/\s+/g, " ").slice(0, 300);

/** Runs the checks in order, each within 15 s. Returns whether all have passed. */
export async function run(name, checks) {
  const failed = [];
  for (const [what, check] of Object.entries(checks)) {
    let timer;
    const timeout = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error("not done within 15 s")), 15_000);
    });
    try {
      await Promise.race([check(), timeout]);
      console.log(`ok    ${name}: ${what}`);
    } catch (error) {
      console.log(`FAIL  ${name}: ${what}: ${brief(error)}`);
      failed.push(what);
    } finally {
      clearTimeout(timer);
    }
  }
  if (failed.length) console.log(`${name}: ${failed.length} failed: ${failed.join("; ")}`);
  return failed.length === 0;
}
