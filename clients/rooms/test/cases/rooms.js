// Resuming, gaps, the ends of rooms, and their members.

import { JOIN, inRoom, message, reconnect } from "../steps.js";
import { equal, outcome } from "../world.js";

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
  "the number of remembered positions is bounded": async (world) => {
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
  "a member id of another server is nobody's own": async (world) => {
    const own = [];
    await inRoom(world, { onMessage: (message) => own.push(message.own) });
    await world.say(message("p1", 1, "a1"));
    await reconnect(world);
    await world.welcome("tea", { me: "a2", at: "p2", recovery: "recovered" });
    await world.say(message("p3", 3, "a1"));
    await reconnect(world);
    await world.welcome("tea", { me: "a3", at: "e2-0", recovery: "gap", reason: "epoch" });
    await world.say(message("e2-1", 4, "a1"), message("e2-2", 5, "a2"), message("e2-3", 6, "a3"));
    equal(own, [true, true, false, false, true]);
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
  "objects that are neither answers nor news of a room are ignored": async (world) => {
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
