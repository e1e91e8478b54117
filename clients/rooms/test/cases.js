// One case for each promise of the module. Each gets a new world. They run in Node and in browsers.

export * from "./cases/connections.js";
export * from "./cases/rooms.js";
export * from "./cases/sending.js";
