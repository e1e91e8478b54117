// A room under Bun, as in its documentation: every message is published to all connections.

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    if (server.upgrade(request)) return;
    return new Response("hello over HTTP");
  },
  websocket: {
    perMessageDeflate: false,
    maxPayloadLength: 16 * 1024 * 1024,
    open(socket) {
      socket.subscribe("room");
    },
    message(_, message) {
      server.publish("room", message);
    },
  },
});
console.log(`listening on 127.0.0.1:${server.port}`);
// Exit with the parent process.
process.stdin.on("end", () => process.exit(0)).resume();
