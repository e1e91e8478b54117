// Connecting, ends, and connections that are dead.

import { JOIN, inRoom, message, reconnect, without } from "../steps.js";
import { equal, outcome, settled } from "../world.js";

export const connecting = {
  "offers the subprotocol, makes ws of http, and joins when open": async (world) => {
    const connection = await world.connect({ protocols: ["token.x"] });
    world.join(connection, "tea", { last: 50 });
    equal([world.socket.url, world.socket.protocols], ["ws://host.example/rooms", ["rooms.v1.json", "token.x"]]);
    equal(world.socket.sent, []);
    await world.accept();
    equal(world.socket.sent, [JOIN()]);
    equal(world.taken(), [["connecting"], ["open"]]);
  },
  "several rooms share one socket": async (world) => {
    const connection = await world.connect();
    world.join(connection, "tea");
    await world.accept();
    world.join(connection, "coffee");
    equal(world.socket.sent.map(({ join }) => join), ["tea", "coffee"]);
    await world.welcome("tea");
    await world.welcome("coffee");
    world.taken();
    await world.say({ room: "coffee", data: 1 }, { room: "tea", data: 2 }, { room: "milk", data: 3 });
    equal(world.told(), [["message", 1], ["message", 2]]);
    equal(world.sockets.length, 1);
  },
  "a wrong URL is thrown, and a room is joined once": async (world) => {
    let thrown;
    await world.connect({}, "http://[").catch((error) => (thrown = error.name));
    equal(thrown, "TypeError");
    const connection = await world.connect();
    world.join(connection, "tea");
    try {
      world.join(connection, "tea");
    } catch (error) {
      thrown = error.code;
    }
    equal(thrown, "joined_already");
  },
  "a function gives the URL of each attempt, and may fail": async (world) => {
    let calls = 0;
    const urls = async () => {
      if (++calls === 2) throw new Error("no token");
      return `wss://host.example/?token=${calls}`;
    };
    await world.connect({}, urls);
    await world.drop();
    await world.clock.advance(5000);
    equal([calls, world.sockets.map(({ url }) => url.slice(-1))], [3, ["1", "3"]]);
  },
  "attempts have full jitter between both bounds": async (world) => {
    await world.connect({ minDelay: 100, maxDelay: 30_000 });
    const delays = [];
    for (let attempt = 0; attempt < 10; attempt++) {
      world.clock.chance = attempt === 9 ? 0 : 0.999;
      world.taken();
      await world.drop();
      const [[state, delay]] = world.taken();
      equal(state, "waiting");
      delays.push(Math.round(delay / 100) * 100);
      await world.clock.advance(delay);
    }
    equal(delays, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000, 100]);
    equal(world.sockets.length, 11);
  },
  "a server that accepts and closes at once is not called in a tight loop": async (world) => {
    await world.connect();
    for (let second = 0; second < 600; second++) {
      if (world.socket.onclose) {
        await world.accept();
        await world.drop(1013);
      }
      await world.clock.advance(1000);
    }
    if (world.sockets.length > 50) throw new Error(`${world.sockets.length} attempts in ten minutes`);
  },
  "a connection that was good starts again with a short delay": async (world) => {
    await world.connect();
    for (let time = 0; time < 5; time++) {
      await reconnect(world);
      await world.clock.advance(11_000);
      world.taken();
    }
    await world.drop();
    equal(world.taken(), [["waiting", 550]]);
  },
  "attempts that fail after a good connection become rare": async (world) => {
    await world.connect();
    await world.accept();
    await world.clock.advance(11_000);
    const delays = [];
    for (let attempt = 0; attempt < 3; attempt++) {
      world.taken();
      await world.drop();
      delays.push(world.taken()[0][1]);
      await world.clock.advance(delays.at(-1));
    }
    equal(delays, [550, 1050, 2050]);
  },
  "nothing happens after close": async (world) => {
    const { connection, room } = await inRoom(world);
    const sent = outcome(room.send("x"));
    const { socket } = world;
    connection.close(1000, "bye");
    socket.onclose?.({ code: 1006 });
    connection.wake();
    await world.clock.advance(1e6);
    equal([world.sockets.length, world.clock.timers, socket.closed], [1, 0, { code: 1000, reason: "bye" }]);
    equal([await sent, await outcome(room.send("y")), connection.state], ["unknown", "closed", "closed"]);
    equal(world.taken(), [["closed", 1000]]);
  },
  "close while waiting cancels the next attempt": async (world) => {
    const connection = await world.connect();
    await world.drop();
    connection.close();
    await world.clock.advance(1e6);
    equal([world.sockets.length, world.clock.timers], [1, 0]);
  },
  "close leaves no listener in the page": async (world) => {
    const connection = await world.connect();
    equal(world.page.listeners, 2);
    connection.close();
    equal(world.page.listeners, 0);
  },
  "close in the first listener holds": async (world) => {
    const connection = await world.connect({ onState: () => world.closeLast() });
    equal([connection.state, world.sockets.length, world.clock.timers], ["closed", 0, 0]);
  },
  "a URL that comes too late is not used": async (world) => {
    const given = [];
    const connection = await world.connect({}, () => new Promise((...both) => given.push(both)));
    // The first attempt takes too long, the second one begins.
    await world.clock.advance(11_000);
    given[0][0]("ws://late.example");
    await settled();
    equal([given.length, world.sockets.length], [2, 0]);
    given[1][0]("ws://second.example");
    await settled();
    equal(world.sockets.map(({ url }) => url), ["ws://second.example/"]);
    await world.drop();
    await world.clock.advance(5000);
    connection.close();
    given[2][1](new Error("too late"));
    await settled();
    equal([connection.state, world.clock.timers], ["closed", 0]);
  },
  "close in a listener holds": async (world) => {
    const connection = await world.connect({ onState: (state) => state === "waiting" && connection.close() });
    await world.drop(4401);
    await world.clock.advance(1e6);
    equal([world.sockets.length, connection.state], [1, "closed"]);
  },
  "online connects at once, but not more often than once a second": async (world) => {
    const connection = await world.connect();
    world.clock.chance = 0;
    for (let attempt = 0; attempt < 6; attempt++) {
      await world.drop();
      await world.clock.advance(100);
    }
    world.clock.chance = 0.999;
    await world.drop();
    equal(world.sockets.length, 7);
    await world.clock.advance(2000);
    world.page.event("online");
    await world.clock.advance(0);
    equal(world.sockets.length, 8);
    for (let time = 0; time < 100; time++) {
      await world.drop();
      connection.wake();
      await world.clock.advance(50);
    }
    // Five seconds have passed.
    equal(world.sockets.length, 8 + 5);
  },
  "a page that is seen again connects at once, and a hidden one waits": async (world) => {
    await world.connect();
    await world.clock.advance(5000);
    world.clock.chance = 0.999;
    await world.drop();
    world.page.hidden = true;
    world.page.event("visibilitychange");
    world.page.event("online");
    await world.clock.advance(0);
    equal(world.sockets.length, 1);
    world.page.hidden = false;
    world.page.event("visibilitychange");
    await world.clock.advance(0);
    equal(world.sockets.length, 2);
  },
  "after a wake, delays are short again": async (world) => {
    const connection = await world.connect();
    world.clock.chance = 0;
    for (let attempt = 0; attempt < 8; attempt++) {
      await world.drop();
      await world.clock.advance(100);
    }
    world.clock.chance = 0.5;
    await world.drop();
    connection.wake();
    await world.clock.advance(1000);
    world.taken();
    await world.drop();
    equal(world.taken(), [["waiting", 550]]);
  },
  "wake does not put a near attempt off": async (world) => {
    const connection = await world.connect();
    world.clock.chance = 0;
    await world.drop();
    connection.wake();
    await world.clock.advance(100);
    equal(world.sockets.length, 2);
  },
};

export const dead = {
  "an opening handshake without an end is given up": async (world) => {
    await world.connect();
    world.taken();
    await world.clock.advance(9999);
    equal(world.socket.closed, undefined);
    const first = world.socket;
    await world.clock.advance(1);
    equal([Boolean(first.closed), world.taken()], [true, [["waiting", 550]]]);
    // It opens too late.
    first.onopen?.({});
    equal(world.taken(), []);
  },
  "a silent server is asked, and an answer of any kind is life": async (world) => {
    const { connection } = await inRoom(world);
    await world.clock.advance(25_000);
    equal(without(world.last(), "id"), { ping: true });
    await world.clock.advance(9999);
    await world.answer({ error: "bad_request" });
    await world.clock.advance(25_000);
    await world.answer({ pong: true });
    equal([connection.state, world.told()], ["open", []]);
  },
  "no answer to the question means reconnecting and resuming": async (world) => {
    await inRoom(world);
    await world.say(message("p1", "x"));
    await world.clock.advance(35_000);
    await world.clock.advance(1000);
    await world.accept();
    equal([world.sockets.length, without(world.last(), "id")], [2, { join: "tea", after: "p1", last: 50 }]);
  },
  "a request without an answer means reconnecting": async (world) => {
    const { room } = await inRoom(world);
    outcome(room.send("x"));
    await world.clock.advance(10_000);
    equal(world.taken(), [["waiting", 550]]);
  },
  "more requests do not put the end off": async (world) => {
    const { connection, room } = await inRoom(world);
    for (let second = 0; second < 10; second++) {
      outcome(room.send(second));
      await world.clock.advance(1000);
    }
    equal(connection.state, "waiting");
  },
  "an infinite heartbeat never asks": async (world) => {
    const connection = await world.connect({ heartbeat: Infinity });
    await world.accept();
    await world.clock.advance(1e9);
    equal([connection.state, world.socket.sent, world.clock.timers], ["open", [], 0]);
  },
  "a slow answer on a busy connection is waited for": async (world) => {
    const { room } = await inRoom(world);
    const sent = outcome(room.send("x"));
    const request = world.last();
    for (let second = 0; second < 60; second++) {
      await world.clock.advance(1000);
      await world.say(message(`q${second}`, second));
    }
    await world.say({ room: "tea", id: request.id, sent: { at: "q60", members: 1 } });
    equal([await sent, world.sockets.length], [{ at: "q60", members: 1 }, 1]);
  },
  "wake asks an open connection": async (world) => {
    const { connection } = await inRoom(world);
    connection.wake();
    equal(without(world.last(), "id"), { ping: true });
    await world.clock.advance(10_000);
    equal(connection.state, "waiting");
  },
};
