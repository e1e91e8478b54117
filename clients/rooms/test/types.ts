// This is only compiled: the types allow the calls of the README.

import { connect, RoomsError, type Gap, type Room, type State } from "tower-websocket-rooms";

interface Line {
  text: string;
}

const connection = connect(async () => new URL("wss://host.example/ws"), {
  protocols: ["token.x"],
  onState: (state: State, { delay }) => console.log(state, delay?.toFixed()),
  WebSocket,
});
connect("/ws");
const room: Room<Line, { name: string }> = connection.join<Line, { name: string }>("tea", {
  last: 50,
  onMessage: ({ data, by, key, at, own, past }) => console.log(data.text, by, key, at, own && past),
  onGap: ({ reason, lost }: Gap) => console.log(reason === "slow", lost),
  onMembers: ({ joined }) => console.log(joined.map(({ value }) => value.name)),
  onWelcome: ({ recovery }) => console.log(recovery === "recovered"),
});
room.send({ text: "x" }, { others: true }).then(
  ({ at, members }) => console.log(at, members),
  (error: RoomsError) => console.log(error.code),
);
room.leave().then(() => connection.close(1000));

// @ts-expect-error: not the type of this room's messages
room.send("x");
// @ts-expect-error: not a state
console.log(connection.state === "closing");
// @ts-expect-error: read-only
room.at = "p1";
// An untyped room takes anything.
connection.join("milk").send([1, 2]);
