// Checks handshakes over HTTP/2 through haproxy (RFC 8441). tests/proxies/run starts it.

import assert from "node:assert/strict";
import http2 from "node:http2";

const ports = Object.fromEntries(process.argv.slice(2).map((argument) => argument.split("=")));
const session = http2.connect(`http://127.0.0.1:${ports.haproxy_http2}`);
session.on("error", (error) => {
  throw error;
});
await new Promise((resolve) => session.once("remoteSettings", resolve));
assert(session.remoteSettings.enableConnectProtocol);

const mask = [1, 2, 3, 4];
const hello = [...Buffer.from("Hello")].map((byte, index) => byte ^ mask[index % 4]);
const frame = Buffer.from([0x81, 0x80 | hello.length, ...mask, ...hello]);

/** Makes a handshake. Returns the status, and the text of a refusal or the echo of a message. */
function ask(path, fields) {
  const stream = session.request({
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":scheme": "http",
    ":authority": "app.example",
    ":path": path,
    "sec-websocket-version": "13",
    ...fields,
  });
  return new Promise((resolve, reject) => {
    let status;
    let received = Buffer.alloc(0);
    stream.on("response", (head) => {
      status = head[":status"];
      if (status === 200) stream.write(frame);
    });
    stream.on("data", (data) => {
      received = Buffer.concat([received, data]);
      if (status === 200 && received.length >= 2 && received.length >= 2 + received[1]) {
        stream.close();
        resolve([status, received.subarray(2, 2 + received[1]).toString()]);
      }
    });
    stream.on("end", () => resolve([status, received.toString()]));
    stream.on("error", reject);
  });
}

const echoed = [200, "Hello"];
const foreign = [403, "pages of https://evil.example may not connect to app.example"];
const announced = [400, "a websocket handshake has no body, and over http/2 no content-length"];
for (const [path, fields, expected] of [
  ["/ws", {}, echoed],
  ["/ws", { origin: "https://app.example" }, echoed],
  ["/ws", { origin: "wss://app.example" }, echoed],
  ["/cookies", { cookie: ["a=1", "b=2"] }, [200, "a=1; b=2"]],
  ["/cookies", { cookie: "a=1; b=2" }, [200, "a=1; b=2"]],
  ["/cookies", {}, [200, "none"]],
  ["/ws", { origin: "https://evil.example" }, foreign],
  // With a length of 0, the first frame would be a protocol error.
  ["/ws", { "content-length": "0" }, announced],
  ["/missing", {}, [404, ""]],
  // The connection still works.
  ["/ws", {}, echoed],
]) {
  assert.deepEqual(await ask(path, fields), expected, `${path} ${JSON.stringify(fields)}`);
  console.log(`${expected[0]} haproxy_http2 ${path} ${JSON.stringify(fields)}`);
}
session.close();
