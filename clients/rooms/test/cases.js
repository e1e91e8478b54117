// What the module promises, one case for each promise. Each gets a new world. They run in Node and in browsers.

export * from "./cases/connections.js";
export * from "./cases/rooms.js";
export * from "./cases/sending.js";
