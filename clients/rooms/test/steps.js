// Steps and objects that the cases share.

export const JOIN = (after) => ({ join: "tea", ...(after && { after }), last: 50, id: 1 });
/** Returns an object without some of its fields. */
export const without = (object, ...names) => Object.fromEntries(Object.entries(object).filter(([name]) => !names.includes(name)));

/** Connects and joins the room tea, which has a history. */
export async function inRoom(world, { options, ...roomOptions } = {}) {
  const connection = await world.connect(options);
  const room = world.join(connection, "tea", { last: 50, ...roomOptions });
  await world.accept();
  await world.welcome("tea", { at: "p0" });
  world.taken();
  return { connection, room };
}

/** The connection is lost, and the next one is accepted. */
export async function reconnect(world) {
  const attempts = world.sockets.length;
  await world.drop();
  while (world.sockets.length === attempts) await world.clock.advance(100);
  await world.accept();
}

export const message = (at, data, by = "b2") => ({ room: "tea", at, by, data });
