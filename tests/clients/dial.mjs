// Connections of npm's ws that keep their messages, and refusals.

import { once } from "node:events";
import WebSocket from "ws";

/** Returns a promise of the close code and the reason of a connection. */
export const closed = (socket) =>
  new Promise((resolve) => socket.once("close", (code, reason) => resolve({ code, reason: reason.toString() })));

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
  socket.closed = closed(socket);
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
