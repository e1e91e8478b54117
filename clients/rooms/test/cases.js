// What the module promises, one case for each promise. Each gets a new world. They run in Node and in browsers.

import { equal, outcome, settled } from "./world.js";

const JOIN = (after) => ({ join: "tea", ...(after && { after }), last: 50, id: 1 });
const without = (object, ...names) => Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));

/** Connects and joins the room tea, which has a history. */
async function inRoom(world, { options, ...roomOptions } = {}) {
  const connection = await world.connect(options);
  const room = world.join(connection, "tea", { last: 50, ...roomOptions });
  await world.accept();
  await world.welcome("tea", { at: "p0" });
  world.taken();
  return { connection, room };
}

/** The connection is lost, and the next one is accepted. */
async function reconnect(world) {
  const attempts = world.sockets.length;
  await world.drop();
  while (world.sockets.length === attempts) await world.clock.advance(100);
  await world.accept();
}

const message = (at, data, by = "b2") => ({ room: "tea", at, by, data });

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
  "an infinite heartbeat asks never": async (world) => {
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

export const resuming = {
  "resumes after the last message": async (world) => {
    const { room } = await inRoom(world);
    await world.say(message("p1", 1), message("p2", 2));
    await reconnect(world);
    equal(world.last(), { ...JOIN("p2"), id: 2 });
    await world.welcome("tea", { me: "a2", at: "p4", recovery: "recovered", messages: 2 });
    await world.say(message("p3", 3), message("p4", 4), message("p5", 5));
    const told = [1, 2, 3, 4, 5].map((data) => ["message", data]);
    equal(world.told(), [...told.slice(0, 2), ["welcome", "recovered"], ...told.slice(2)]);
    equal([room.me, room.at], ["a2", "p5"]);
  },
  "resumes before the first message": async (world) => {
    await inRoom(world);
    await reconnect(world);
    equal(world.last().after, "p0");
  },
  "messages say whether they are past and own": async (world) => {
    const seen = [];
    await inRoom(world, { onMessage: ({ by, key, at, own, past }) => seen.push([by, key, at, own, past]) });
    await world.say({ ...message("p1", 1, "a1"), key: "ann" });
    await reconnect(world);
    await world.welcome("tea", { me: "a2", recovery: "recovered", messages: 1 });
    await world.say(message("p2", 2, "a1"), message("p3", 3, "a2"), { room: "tea", data: 4 });
    equal(seen, [
      ["a1", "ann", "p1", true, false], ["a1", undefined, "p2", true, true],
      ["a2", undefined, "p3", true, false], [undefined, undefined, undefined, false, false],
    ]);
  },
  "a cut in the replay loses nothing": async (world) => {
    await inRoom(world);
    await reconnect(world);
    await world.welcome("tea", { at: "p3", recovery: "recovered", messages: 3 });
    await world.say(message("p1", 1));
    await reconnect(world);
    equal(world.last().after, "p1");
  },
  "a cut before the first of the last messages starts afresh": async (world) => {
    const connection = await world.connect();
    world.join(connection, "tea", { last: 2 });
    await world.accept();
    await world.welcome("tea", { at: "p9", messages: 2 });
    await reconnect(world);
    equal(world.last().after, undefined);
    await world.welcome("tea", { at: "p9", messages: 2 });
    equal(world.told(), [["welcome", "fresh"], ["welcome", "fresh"]]);
  },
  "a gap is told in its place, and known messages do not come twice": async (world) => {
    await inRoom(world);
    await world.say(message("p1", 1));
    await reconnect(world);
    await world.welcome("tea", { at: "p9", recovery: "gap", reason: "too_much", messages: 2 });
    await world.say(message("p1", 1), message("p9", 9), message("p10", 10));
    equal(world.told(), [
      ["message", 1], ["welcome", "gap"], ["gap", "too_much"], ["message", 9], ["message", 10],
    ]);
  },
  "what is remembered of positions is bounded": async (world) => {
    await inRoom(world);
    for (let index = 0; index <= 1000; index++) await world.say(message(`p${index}`, index));
    world.taken();
    await world.say(message("p0", 0), message("p1000", 1000));
    equal(world.told(), [["message", 0]]);
  },
  "a gap without messages goes on at the new position": async (world) => {
    const { room } = await inRoom(world);
    await reconnect(world);
    await world.welcome("tea", { at: "e2-0", recovery: "gap", reason: "epoch" });
    equal([room.at, world.told()], ["e2-0", [["welcome", "gap"], ["gap", "epoch"]]]);
  },
  "a gap takes the place of messages in a replay": async (world) => {
    const seen = [];
    const { room } = await inRoom(world, { onMessage: ({ data, past }) => seen.push([data, past]) });
    const sent = outcome(room.send("x"));
    await reconnect(world);
    await world.welcome("tea", { at: "p4", recovery: "recovered", messages: 4 });
    await world.say(message("p1", 1), { room: "tea", gap: { lost: 2, reason: "slow" } }, message("p4", 4), message("p5", 5));
    equal([seen, await sent], [[[1, true], [4, true], [5, false]], "unknown"]);
    await reconnect(world);
    await world.welcome("tea", { at: "p9", recovery: "recovered", messages: 1 });
    await world.say({ room: "tea", gap: { lost: 3, reason: "slow" } }, message("p10", 10));
    equal(seen.at(-1), [10, false]);
  },
  "messages that a replay withholds are a gap": async (world) => {
    await inRoom(world);
    await reconnect(world);
    await world.welcome("tea", { at: "p9", recovery: "recovered", withheld: 2 });
    equal(world.told(), [["welcome", "recovered"], ["gap", "withheld"]]);
  },
  "a gap of a slow client is told": async (world) => {
    const gaps = [];
    await inRoom(world, { onGap: (gap) => gaps.push(gap) });
    await world.say({ room: "tea", gap: { lost: 12, reason: "slow" } });
    equal(gaps, [{ lost: 12, reason: "slow" }]);
  },
  "a room without history tells a gap at each return": async (world) => {
    const connection = await world.connect();
    world.join(connection, "tea");
    await world.accept();
    await world.welcome("tea");
    await reconnect(world);
    await world.welcome("tea");
    equal(world.told(), [["welcome", "fresh"], ["welcome", "fresh"], ["gap", "no_history"]]);
  },
  "a page resumes from a position that it has kept": async (world) => {
    const connection = await world.connect();
    world.join(connection, "tea", { after: "p7" });
    await world.accept();
    equal(world.last().after, "p7");
  },
  "an error in a listener harms nothing": async (world) => {
    const kept = globalThis.queueMicrotask;
    const errors = [];
    globalThis.queueMicrotask = (run) => {
      try {
        run();
      } catch (error) {
        errors.push(error.message);
      }
    };
    try {
      const { room } = await inRoom(world, {
        onMessage: () => {
          throw new Error("mine");
        },
      });
      await world.say(message("p1", 1));
      equal([errors, room.at, world.socket.closed], [["mine"], "p1", undefined]);
    } finally {
      globalThis.queueMicrotask = kept;
    }
  },
  "what is no answer and no room is ignored": async (world) => {
    await inRoom(world);
    world.socket.onmessage({ data: "{" });
    world.socket.onmessage({ data: "null" });
    world.socket.onmessage({ data: new ArrayBuffer(2) });
    await world.say({ id: 99, pong: true }, { news: 1 }, { room: "tea", id: 77, error: "name" }, [1]);
    equal(world.told(), []);
  },
};

export const ending = {
  "a refused join rejects, and is not tried again": async (world) => {
    const connection = await world.connect();
    const room = world.join(connection, "tea");
    const sent = outcome(room.send("x"));
    await world.accept();
    await world.answer({ room: "tea", error: "forbidden" });
    equal([await outcome(room.ready), await sent, await outcome(room.send("y"))], ["forbidden", "forbidden", "forbidden"]);
    await reconnect(world);
    equal([world.socket.sent, world.told()], [[], [["end", "forbidden"]]]);
  },
  "a full room is tried again if the own seat may still be taken": async (world) => {
    const { room } = await inRoom(world);
    await reconnect(world);
    await world.answer({ room: "tea", error: "room_full" });
    equal(room.joined, false);
    await world.clock.advance(1500);
    equal(world.socket.sent.length, 2);
    await world.welcome("tea", { at: "p0", recovery: "recovered" });
    equal([room.joined, world.told()], [true, [["welcome", "recovered"]]]);
  },
  "a server that cannot decide is asked again, less and less often": async (world) => {
    const connection = await world.connect();
    const room = world.join(connection, "tea");
    await world.accept();
    for (let second = 0; second < 600; second++) {
      if (world.last().id !== world.answered && world.last().join) {
        world.answered = world.last().id;
        await world.answer({ room: "tea", error: "unavailable" });
      } else if (world.last().ping) {
        await world.answer({ pong: true });
      }
      await world.clock.advance(1000);
    }
    const joins = world.socket.sent.filter(({ join }) => join).length;
    if (joins < 10 || joins > 25) throw new Error(`${joins} joins in ten minutes`);
    equal([room.joined, world.told()], [false, []]);
  },
  "the server ends a membership": async (world) => {
    const { room } = await inRoom(world);
    await world.say({ room: "tea", left_room: "removed" }, message("p1", 1));
    await reconnect(world);
    equal([world.socket.sent, world.told(), room.joined], [[], [["end", "removed"]], false]);
  },
  "leaving waits for the answer, and the room can be joined again": async (world) => {
    const { connection, room } = await inRoom(world);
    let isLeft = false;
    const left = room.leave().then(() => (isLeft = true));
    const request = world.last();
    const again = world.join(connection, "tea", { last: 50 });
    await world.say(message("p1", "for the old membership"));
    equal([request.leave, isLeft], ["tea", false]);
    await world.say({ room: "tea", id: request.id, left_room: "left" });
    await left;
    await world.welcome("tea", { me: "a2", at: "p1" });
    await world.say(message("p2", 2));
    equal([world.told(), again.me], [[["welcome", "fresh"], ["message", 2]], "a2"]);
    equal(await outcome(room.send("x")), "left");
  },
  "leaving is done when the connection is lost": async (world) => {
    const { room } = await inRoom(world);
    const left = outcome(room.leave());
    await reconnect(world);
    equal([await left, world.socket.sent], [null, []]);
  },
  "a full room is not joined twice after another reconnect": async (world) => {
    await inRoom(world);
    await reconnect(world);
    await world.answer({ room: "tea", error: "room_full" });
    world.clock.chance = 0;
    await reconnect(world);
    await world.clock.advance(9000);
    equal(world.socket.sent.length, 1);
  },
  "leaving without a connection is done at once": async (world) => {
    const connection = await world.connect();
    const room = world.join(connection, "tea");
    await room.leave();
    await world.accept();
    equal(world.socket.sent, []);
  },
  "leaving before the welcome": async (world) => {
    const connection = await world.connect();
    const room = world.join(connection, "tea");
    await world.accept();
    outcome(room.leave());
    await world.welcome("tea");
    equal([world.socket.sent.length, world.told(), await outcome(room.ready)], [2, [], "left"]);
  },
};

export const members = {
  "the list follows snapshots and changes, which are sets": async (world) => {
    const told = [];
    const names = (list) => list.map(({ id, value }) => `${id}${value ?? ""}`).join();
    const { room } = await inRoom(world, {
      onMembers: ({ joined, updated, left }) => told.push([names(joined), names(updated), names(left)].join("|")),
    });
    const [one, two] = [{ id: "1", value: "A" }, { id: "2", key: "bo", value: "B" }];
    await world.say(
      { room: "tea", members: [one, two] },
      // Named again.
      { room: "tea", joined: [one], updated: [{ ...two, value: "C" }] },
      // Another tab of the same user is now the oldest.
      { room: "tea", updated: [{ id: "3", key: "bo", value: "C" }] },
      { room: "tea", joined: [{ id: "4" }], left: [{ id: "1" }, { id: "9" }] },
      { room: "tea", left: [{ id: "3", key: "bo" }] },
      { room: "tea", members: [two] },
    );
    equal(told, ["1A,2B||", "|2C|", "|3C|", "4||1A", "||3C", "2B||4"]);
    equal([room.members, room.count], [[two], 1]);
  },
  "a key that looks like an id is not one": async (world) => {
    const { room } = await inRoom(world);
    await world.say({ room: "tea", members: [{ id: "1" }, { id: "2", key: "1" }] });
    equal(room.count, 2);
  },
  "a large room has a number only, and nobody is said to have left": async (world) => {
    const told = [];
    const { room } = await inRoom(world, { onMembers: ({ left }) => told.push(left.length) });
    await world.say({ room: "tea", members: [{ id: "1" }] }, { room: "tea", count: 1234 });
    equal([room.members, room.count, told], [[], 1234, [0, 0]]);
  },
};

export const sending = {
  "a send is answered": async (world) => {
    const { room } = await inRoom(world);
    const sent = outcome(room.send({ text: "hi" }, { others: true, latest: "k" }));
    equal(without(world.last(), "id"), { send: "tea", data: { text: "hi" }, others: true, latest: "k" });
    await world.answer({ room: "tea", sent: { at: "p1", members: 2 } });
    equal(await sent, { at: "p1", members: 2 });
  },
  "a refused send is rejected with the code": async (world) => {
    const { room } = await inRoom(world);
    const sent = outcome(room.send("x"));
    await world.answer({ room: "tea", error: "read_only" });
    equal(await sent, "read_only");
  },
  "a fleeting message asks for no answer, and its error is told": async (world) => {
    const { room } = await inRoom(world);
    equal(await outcome(room.send(1, { fleeting: true })), {});
    equal(world.last(), { send: "tea", data: 1, fleeting: true });
    await world.say({ room: "tea", error: "read_only" });
    equal(world.told(), [["error", "read_only"]]);
  },
  "messages wait for the connection, in order, but not fleeting ones": async (world) => {
    const { room } = await inRoom(world, { options: { maxQueue: 2 } });
    await world.drop();
    const sent = [1, 2, 3].map((data) => outcome(room.send(data)));
    equal([await outcome(room.send(0, { fleeting: true })), await sent[2]], ["offline", "offline"]);
    await world.clock.advance(1000);
    await world.accept();
    await world.welcome("tea", { at: "p0", recovery: "recovered" });
    equal(world.socket.sent.slice(1).map(({ data }) => data), [1, 2]);
  },
  "what has waited is sent once": async (world) => {
    const { room } = await inRoom(world);
    await world.drop();
    const sent = outcome(room.send("x"));
    equal(await outcome(room.send(0, { fleeting: true })), "offline");
    for (const after of [1, 2]) {
      await world.clock.advance(5000);
      await world.accept();
      await world.welcome("tea", { me: `b${after}`, at: "p0", recovery: "recovered" });
      equal(world.socket.sent.length, 3 - after);
      await world.drop();
    }
    equal(await sent, "unknown");
  },
  "what waits is what was given": async (world) => {
    const { room } = await inRoom(world);
    await world.drop();
    const data = { text: "before" };
    outcome(room.send(data));
    data.text = "after";
    await world.clock.advance(1000);
    await world.accept();
    await world.welcome("tea", { at: "p0", recovery: "recovered" });
    equal(world.last().data, { text: "before" });
  },
  "a send without an answer is never sent again": async (world) => {
    const { room } = await inRoom(world);
    const sent = outcome(room.send("x"));
    await reconnect(world);
    await world.welcome("tea", { me: "a2", at: "p0", recovery: "recovered" });
    equal([await sent, world.socket.sent.length], ["unknown", 1]);
  },
  "a send without an answer that is in the history was sent": async (world) => {
    const { room } = await inRoom(world);
    const sent = [outcome(room.send("x")), outcome(room.send("x")), outcome(room.send("y"))];
    await reconnect(world);
    await world.welcome("tea", { me: "a2", at: "p2", recovery: "recovered", messages: 2 });
    await world.say(message("p1", "x", "a1"), message("p2", "y", "a1"));
    equal(await Promise.all(sent), [{ at: "p1" }, "unknown", { at: "p2" }]);
    equal(world.told(), [["welcome", "recovered"], ["message", "x"], ["message", "y"]]);
  },
  "the echo is an answer": async (world) => {
    const { room } = await inRoom(world);
    const sent = outcome(room.send("x"));
    await world.say(message("p1", "x", "a1"));
    await world.drop();
    equal(await sent, { at: "p1" });
  },
  "an answered send does not vouch for another with the same text": async (world) => {
    const { room } = await inRoom(world);
    const first = outcome(room.send("x"));
    await world.answer({ room: "tea", sent: { at: "p1", members: 1 } });
    const second = outcome(room.send("x"));
    await reconnect(world);
    await world.welcome("tea", { me: "a2", at: "p1", recovery: "recovered", messages: 1 });
    await world.say(message("p1", "x", "a1"));
    equal([await first, await second], [{ at: "p1", members: 1 }, "unknown"]);
    equal(world.told(), [["welcome", "recovered"], ["message", "x"]]);
  },
  "what only others get does not come back in a replay": async (world) => {
    const { room } = await inRoom(world);
    outcome(room.send("answered", { others: true }));
    await world.answer({ room: "tea", sent: { at: "p1", members: 1 } });
    const sent = outcome(room.send("lost", { others: true }));
    await reconnect(world);
    await world.welcome("tea", { me: "a2", at: "p3", recovery: "recovered", messages: 3 });
    await world.say(message("p1", "answered", "a1"), message("p2", "lost", "a1"), message("p3", "x"));
    equal([await sent, world.told()], [{ at: "p2" }, [["welcome", "recovered"], ["message", "x"]]]);
  },
  "an answered send is forgotten": async (world) => {
    const { room } = await inRoom(world);
    outcome(room.send("x"));
    await world.answer({ room: "tea", sent: { at: "p1", members: 1 } });
    await world.say(message("p1", "x", "a1"));
    const sent = outcome(room.send("x"));
    await world.say(message("p2", "x", "a1"));
    await world.drop();
    equal(await sent, { at: "p2" });
  },
  "two echoes answer two sends": async (world) => {
    const { room } = await inRoom(world);
    const sent = [outcome(room.send("x")), outcome(room.send("x"))];
    await world.say(message("p1", "x", "a1"), message("p2", "x", "a1"));
    await world.drop();
    equal(await Promise.all(sent), [{ at: "p1" }, { at: "p2" }]);
  },
  "a late message of the connection before does not vouch for a new one": async (world) => {
    const { room } = await inRoom(world);
    const first = outcome(room.send("x"));
    await reconnect(world);
    await world.welcome("tea", { me: "a2", at: "p0", recovery: "recovered" });
    equal(await first, "unknown");
    const second = outcome(room.send("x"));
    await world.say(message("p1", "x", "a1"));
    await reconnect(world);
    await world.welcome("tea", { me: "a3", at: "p1", recovery: "recovered" });
    equal(await second, "unknown");
  },
  "without a history, a send without an answer is unknown at once": async (world) => {
    const connection = await world.connect();
    const room = world.join(connection, "tea");
    await world.accept();
    await world.welcome("tea");
    const sent = outcome(room.send("x"));
    await world.drop();
    equal(await sent, "unknown");
  },
  "a second cut leaves the question open": async (world) => {
    const { room } = await inRoom(world);
    const sent = outcome(room.send("x"));
    await reconnect(world);
    await world.welcome("tea", { me: "a2", recovery: "recovered", messages: 2 });
    await world.say(message("p1", 1));
    await reconnect(world);
    await world.welcome("tea", { me: "a3", recovery: "recovered", messages: 1 });
    await world.say(message("p2", "x", "a1"));
    equal(await sent, { at: "p2" });
  },
  "a callback may leave before the queue is sent": async (world) => {
    const connection = await world.connect();
    const room = world.join(connection, "tea", { onWelcome: () => outcome(room.leave()) });
    const sent = outcome(room.send("x"));
    await world.accept();
    await world.welcome("tea");
    await settled();
    equal([await sent, world.socket.sent.map(Object.keys)], ["left", [["join", "id"], ["leave", "id"]]]);
  },
};
