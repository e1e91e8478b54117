// A client of the subprotocol `rooms.v1.json`. rooms.d.ts describes what is exported, README.md how it behaves.

const PROTOCOL = "rooms.v1.json";
/** How many positions a room remembers, to drop messages that come twice. */
const MAX_SEEN = 1000;
/** A connection that was open for this long, in milliseconds, was no failure. */
const GOOD = 10_000;

export class RoomsError extends Error {
  constructor(code) {
    super(code);
    this.name = "RoomsError";
    this.code = code;
  }
}

/** Calls a function of the user. Its error is reported like that of any event listener. */
const call = (listener, ...values) => {
  try {
    listener?.(...values);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
};

/** `setTimeout` would run a longer delay at once. */
const later = (run, delay) => (delay < 2 ** 31 ? setTimeout(run, delay) : undefined);

const remember = (set, value) => {
  set.add(value);
  if (set.size > MAX_SEEN) set.delete(set.values().next().value);
};

/** Members with the same key are one. No id begins with this character. */
const identity = ({ id, key }) => (key === undefined ? id : `=${key}`);

export function connect(url, options = {}) {
  const {
    WebSocket: Socket = globalThis.WebSocket,
    protocols = [],
    minDelay = 100,
    maxDelay = 30_000,
    timeout = 10_000,
    heartbeat = 25_000,
    maxQueue = 100,
    onState,
  } = options;

  const rooms = new Map();
  /** Functions that take the answer, or undefined when the connection is lost. */
  const requests = new Map();
  let state = "connecting";
  let socket, attempt, retryTimer, retryAt, watchdog, isExpecting;
  let lastId = 0;
  let failures = 0;
  let startedAt = 0;
  let openedAt = 0;

  const resolve = (from) => {
    const address = new URL(from, globalThis.location?.href);
    address.protocol = address.protocol.replace("http", "ws");
    return address.href;
  };
  // A wrong URL is an error of the caller, and not a reason to try again.
  const fixed = typeof url === "function" ? undefined : resolve(url);

  const setState = (next, detail) => {
    state = next;
    call(onState, next, { ...detail });
  };

  const open = async () => {
    const mine = (attempt = {});
    startedAt = Date.now();
    openedAt = 0;
    setState("connecting");
    // The listener may have closed the connection.
    if (attempt !== mine) return;
    expect();
    try {
      const address = fixed ?? resolve(await url());
      // Meanwhile, the connection may have been closed, or the time was over.
      if (attempt !== mine) return;
      socket = new Socket(address, [PROTOCOL, ...protocols]);
    } catch (error) {
      if (attempt === mine) lost({ reason: String(error) });
      return;
    }
    socket.onopen = () => {
      openedAt = Date.now();
      heard();
      setState("open");
      rooms.forEach((room) => room.open());
    };
    socket.onmessage = ({ data }) => receive(data);
    socket.onclose = lost;
    socket.onerror = () => {};
  };

  const release = () => {
    const old = socket;
    socket = attempt = undefined;
    clearTimeout(watchdog);
    clearTimeout(retryTimer);
    isExpecting = false;
    if (old) old.onopen = old.onmessage = old.onclose = null;
    return old;
  };

  const forget = () => {
    const unanswered = [...requests.values()];
    requests.clear();
    unanswered.forEach((take) => take());
  };

  /** The connection has ended, or counts as dead. */
  const lost = ({ code = 1006, reason = "" } = {}) => {
    release()?.close();
    forget();
    rooms.forEach((room) => room.lost());
    if (openedAt && Date.now() - openedAt >= GOOD) failures = 0;
    const ceiling = Math.min(maxDelay, minDelay * 10 * 2 ** failures++);
    const delay = minDelay + Math.random() * Math.max(0, ceiling - minDelay);
    retryIn(delay);
    setState("waiting", { code, reason, delay });
  };

  const retryIn = (delay) => {
    clearTimeout(retryTimer);
    retryAt = Date.now() + delay;
    retryTimer = later(open, delay);
  };

  /** The page is seen again, or the device is online: connects at once, or checks the connection. */
  const wake = () => {
    if (globalThis.document?.hidden) return;
    if (state === "waiting") {
      failures = 0;
      // However often this is called, attempts have a distance.
      const soonest = Math.max(Date.now(), startedAt + minDelay * 10);
      if (soonest < retryAt) retryIn(soonest - Date.now());
    } else if (state === "open") {
      ping();
    }
  };

  const ping = () => {
    write('{"ping":true', ++lastId);
  };

  /** Something has arrived, so the connection lives. After a silence, it is asked. */
  const heard = () => {
    clearTimeout(watchdog);
    isExpecting = false;
    watchdog = later(ping, heartbeat);
  };

  /** Something has to arrive in time, otherwise the connection is dead. */
  const expect = () => {
    if (isExpecting) return;
    clearTimeout(watchdog);
    isExpecting = true;
    watchdog = later(() => lost({ reason: "timeout" }), timeout);
  };

  /** Sends an object. `text` has its JSON without the last brace. */
  const write = (text, id) => {
    if (id !== undefined) {
      text += `,"id":${id}`;
      expect();
    }
    socket.send(text + "}");
  };

  const link = {
    maxQueue,
    write,
    request(object, take) {
      requests.set(++lastId, take);
      write(typeof object === "string" ? object : JSON.stringify(object).slice(0, -1), lastId);
    },
    remove: (name) => rooms.delete(name),
    isOpen: () => state === "open",
    minDelay,
  };

  const receive = (data) => {
    heard();
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return;
    }
    // A server sends objects only.
    const take = requests.get(message?.id);
    if (take) {
      requests.delete(message.id);
      take(message);
    } else if (message?.id === undefined) {
      rooms.get(message?.room)?.take(message);
    }
  };

  const listen = (change) => {
    globalThis[change]?.("online", wake);
    globalThis.document?.[change]("visibilitychange", wake);
  };

  listen("addEventListener");
  // The caller has to have the connection before a listener hears of it.
  retryIn(0);

  return {
    get state() {
      return state;
    },
    wake,
    join(name, roomOptions = {}) {
      if (state === "closed") throw new RoomsError("closed");
      if (rooms.has(name)) throw new RoomsError("joined_already");
      const room = makeRoom(name, roomOptions, link);
      rooms.set(name, room);
      room.open();
      return room.api;
    },
    close(code = 1000, reason = "") {
      if (state === "closed") return;
      listen("removeEventListener");
      release()?.close(code, reason);
      setState("closed", { code, reason });
      forget();
      [...rooms.values()].forEach((room) => room.end("closed"));
    },
  };
}

function makeRoom(name, options, link) {
  const { last, silent, onMessage, onMembers, onGap, onWelcome, onEnd, onError } = options;
  const members = new Map();
  /** The ids of this client: one for each connection. */
  const own = new Set();
  const seen = new Set();
  /** Positions of own messages that were answered before they came. */
  const answered = new Set();
  let at = options.after;
  let me, ended;
  let generation = 0;
  let refusals = 0;
  let isJoined = false;
  let wasJoined = false;
  /** How many messages of the past are still to come. */
  let past = 0;
  let count = 0;
  /** Messages to send after the next welcome, and messages that wait for their answer. */
  let queue = [];
  let flight = [];
  let ready;
  const isReady = new Promise((resolve, reject) => {
    ready = { resolve, reject };
  });
  // A caller that does not wait for it gets no unhandled rejection.
  isReady.catch(() => {});

  const open = () => {
    if (ended || !link.isOpen()) return;
    const mine = generation;
    link.request({ join: name, after: at, last, silent }, (answer) => {
      if (!answer || ended) return;
      if (answer.welcome) return welcomed(answer.welcome);
      // Some refusals pass: the connection that was lost may still have its place.
      const passes = answer.error === "unavailable" || (answer.error === "room_full" && wasJoined);
      if (!passes) return end(answer.error, true);
      const delay = link.minDelay * 10 * 2 ** Math.min(refusals++, 5) * (1 + Math.random());
      setTimeout(() => mine === generation && open(), delay);
    });
  };

  const welcomed = (welcome) => {
    const { recovery, reason, messages = 0, withheld } = welcome;
    const isLost = wasJoined && recovery === "fresh" && welcome.at === undefined;
    isJoined = wasJoined = true;
    refusals = 0;
    // Another server may give the ids of former members to others.
    if (reason === "epoch" || (recovery === "fresh" && welcome.at === undefined)) own.clear();
    me = welcome.me;
    own.add(me);
    past = messages;
    // Otherwise the messages of the past move the position: a cut in between loses none of them.
    if (!past) at = welcome.at;
    ready.resolve();
    call(onWelcome, { me, recovery, reason, messages });
    if (recovery === "gap") call(onGap, { reason });
    else if (withheld) call(onGap, { reason: "withheld" });
    else if (isLost) call(onGap, { reason: "no_history" });
    if (!past) settle();
    queue.splice(0).forEach(transmit);
  };

  const take = (message) => {
    if (!isJoined) return;
    if ("data" in message) receive(message);
    else if (message.gap) gap(message.gap);
    else if (message.left_room) end(message.left_room, true);
    else if (message.error) call(onError, new RoomsError(message.error));
    else roster(message);
  };

  const receive = ({ data, by, key, at: position }) => {
    const isPast = past > 0;
    const isOwn = own.has(by);
    let isKnown = false;
    if (position !== undefined) {
      at = position;
      isKnown = seen.has(position);
      remember(seen, position);
      if (isOwn && !isKnown) isKnown = confirm(by, position, data);
    }
    if (!isKnown) call(onMessage, { data, by, key, at: position, own: isOwn, past: isPast });
    if (isPast) passed(1);
  };

  const gap = (told) => {
    call(onGap, told);
    // It stands in the place of messages that were announced.
    if (past > 0) passed(told.lost);
  };

  const passed = (messages) => {
    past = Math.max(0, past - messages);
    if (!past) settle();
  };

  /** An own message has come: it was sent. Returns whether the page shows it already. */
  const confirm = (by, position, data) => {
    if (answered.delete(position)) return false;
    const json = JSON.stringify(data);
    const entry = flight.find((entry) => entry.by === by && entry.json === json && entry.at === undefined);
    if (!entry) return false;
    entry.at = position;
    if (entry.isLost) entry.resolve({ at: position });
    return entry.isLost && entry.others;
  };

  /** All of the past has come. Lost messages that are not in it are unknown. A fulfilled promise stays fulfilled. */
  const settle = () => {
    flight = flight.filter((entry) => !(entry.isLost && (entry.reject(new RoomsError("unknown")), true)));
  };

  const transmit = (entry) => {
    if (entry.fleeting) {
      link.write(entry.text);
      return entry.resolve({});
    }
    entry.by = me;
    flight.push(entry);
    link.request(entry.text, (answer) => {
      // `lost` decides about messages without an answer.
      if (!answer) return;
      flight = flight.filter((other) => other !== entry);
      if (!answer.sent) return entry.reject(new RoomsError(answer.error));
      const { at: position } = answer.sent;
      if (position !== undefined) remember(entry.others ? seen : answered, position);
      entry.resolve(answer.sent);
    });
  };

  const lost = () => {
    generation++;
    isJoined = false;
    const unsettled = flight;
    flight = [];
    for (const entry of unsettled) {
      if (entry.at !== undefined) entry.resolve({ at: entry.at });
      else if (at === undefined) entry.reject(new RoomsError("unknown"));
      else {
        entry.isLost = true;
        flight.push(entry);
      }
    }
  };

  const roster = (news) => {
    const changes = { joined: [], updated: [], left: [] };
    const remove = (member) => {
      const who = identity(member);
      const old = members.get(who);
      if (members.delete(who)) changes.left.push(old);
    };
    const put = (member) => {
      const old = members.get(identity(member));
      members.set(identity(member), member);
      if (!old) changes.joined.push(member);
      else if (JSON.stringify(old) !== JSON.stringify(member)) changes.updated.push(member);
    };
    // A room that has become large lists nobody, which does not mean that they left.
    if (news.count !== undefined) members.clear();
    if (news.members) {
      const there = new Set(news.members.map(identity));
      [...members.values()].filter((member) => !there.has(identity(member))).forEach(remove);
    }
    for (const list of [news.members, news.joined, news.updated]) list?.forEach(put);
    news.left?.forEach(remove);
    count = news.count ?? members.size;
    call(onMembers, changes);
  };

  const end = (code, isTold) => {
    if (ended) return;
    ended = new RoomsError(code);
    isJoined = false;
    link.remove(name);
    ready.reject(ended);
    queue.splice(0).forEach((entry) => entry.reject(ended));
    flight.splice(0).forEach((entry) => entry.reject(new RoomsError("unknown")));
    if (isTold) call(onEnd, code);
  };

  const send = (data, { others, fleeting, latest } = {}) =>
    new Promise((resolve, reject) => {
      const text = JSON.stringify({ send: name, data, others, fleeting, latest }).slice(0, -1);
      const entry = { text, json: JSON.stringify(data), others: Boolean(others), fleeting, resolve, reject };
      if (ended) reject(ended);
      else if (isJoined) transmit(entry);
      else if (fleeting || queue.length >= link.maxQueue) reject(new RoomsError("offline"));
      else queue.push(entry);
    });

  const leave = () =>
    new Promise((resolve) => {
      if (!ended && link.isOpen()) link.request({ leave: name }, () => resolve());
      else resolve();
      end("left");
    });

  const api = {
    name,
    ready: isReady,
    send,
    leave,
    get me() {
      return me;
    },
    get at() {
      return at;
    },
    get joined() {
      return isJoined;
    },
    get members() {
      return [...members.values()];
    },
    get count() {
      return count;
    },
  };
  return { api, open, take, lost, end };
}
