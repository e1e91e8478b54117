// Tests the example graphql of tests/hosts with the npm package `graphql-ws`, over npm's ws.
//
//     node graphql.mjs http://127.0.0.1:3000/

import assert from "node:assert/strict";
import { createClient } from "graphql-ws";
import { WebSocket } from "ws";
import { run } from "./checks.mjs";
import { refusal } from "./dial.mjs";

const base = new URL(process.argv[2] ?? "http://127.0.0.1:3000/");
const url = new URL("/graphql", base.href.replace(/^http/, "ws")).href;

/** Makes a client whose connection opens with its first query. */
const client = (options = {}) => createClient({ url, webSocketImpl: WebSocket, retryAttempts: 0, ...options });

/** Returns all results of a query. */
async function results(client, query) {
  const all = [];
  for await (const result of client.iterate({ query })) all.push(result);
  return all;
}

const checks = {
  "a query is answered": async () => {
    const named = client({ connectionParams: { name: "Ada" } });
    assert.deepEqual(await results(named, "{ hello }"), [{ data: { hello: "Hello, Ada" } }]);
    await named.dispose();
  },
  "a connection without parameters is accepted": async () => {
    const unnamed = client();
    assert.deepEqual(await results(unnamed, "{ hello }"), [{ data: { hello: "Hello, nobody" } }]);
    await unnamed.dispose();
  },
  "a subscription sends its events and completes": async () => {
    const subscriber = client();
    const counts = await results(subscriber, "subscription { countdown(from: 1) }");
    assert.deepEqual(counts, [{ data: { countdown: 1 } }, { data: { countdown: 0 } }]);
    await subscriber.dispose();
  },
  "subscriptions and queries share a connection": async () => {
    let opened = 0;
    const lasting = client({ lazy: false, on: { opened: () => opened++ } });
    const [left, right, hello] = await Promise.all([
      results(lasting, "subscription { countdown(from: 1) }"),
      results(lasting, "subscription { countdown(from: 0) }"),
      results(lasting, "{ hello }"),
    ]);
    assert.deepEqual([left.length, right.length, hello.length, opened], [2, 1, 1, 1]);
    await lasting.dispose();
  },
  "a subscription that is returned ends, and the connection stays": async () => {
    const lasting = client({ lazy: false });
    const counts = lasting.iterate({ query: "subscription { countdown(from: 1000) }" });
    assert.deepEqual((await counts.next()).value, { data: { countdown: 1000 } });
    await counts.return();
    assert.equal((await results(lasting, "{ hello }")).length, 1);
    await lasting.dispose();
  },
  "a query that does not fit the schema gets its errors": async () => {
    const wrong = client();
    const [{ errors }] = await results(wrong, "{ goodbye }");
    assert.match(errors[0].message, /goodbye/);
    await wrong.dispose();
  },
  "pings of the client are answered": async () => {
    const pongs = [];
    const pinging = client({ keepAlive: 50, on: { pong: (received) => pongs.push(received) } });
    await results(pinging, "subscription { countdown(from: 0) }");
    assert.ok(pongs.includes(true), "no pong");
    await pinging.dispose();
  },
  "a client of the older subprotocol is refused with 400": async () => {
    assert.equal((await refusal(url, "graphql-ws")).status, 400);
  },
};

await run("graphql", checks);
