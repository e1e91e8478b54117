// Sending, and the outcome of a message.

import { inRoom, message, reconnect, without } from "../steps.js";
import { equal, outcome, settled } from "../world.js";

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
  "queued messages are sent once": async (world) => {
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
  "a queued message does not change with its object": async (world) => {
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
  "a message for others does not come back in a replay": async (world) => {
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
