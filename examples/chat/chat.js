// The page of the example: rooms, members, typing, unread marks, and signs of missing messages.

import { connect } from "./rooms.js";

const LAST = 50;
/** The most lines of a room in the page. */
const MAX_LINES = 500;
/** How long a sign of typing is shown, in milliseconds. Signs are sent at most twice in this time. */
const TYPING = 4000;
const GAPS = {
  epoch: "The server was restarted. Messages may be missing here.",
  trimmed: "You were away for a long time. Messages are missing here.",
  too_much: "You were away for a long time. Messages are missing here.",
};

const $ = (id) => document.getElementById(id);
const rooms = new Map();
let shown;
let connection;

/** Makes an element. Children are elements or texts: nothing that somebody wrote is parsed as HTML. */
function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Returns a hue, always the same for a name. */
const hue = (name) => [...name].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 360, 7);

const tinted = (made, name) => {
  made.style.setProperty("--hue", hue(name));
  return made;
};

const list = new Intl.ListFormat("en");
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const calendar = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const isToday = (date) => date.toDateString() === new Date(Date.now()).toDateString();

// ---- The connection ----

function start(name) {
  $("me").firstElementChild.textContent = `You are ${name}.`;
  const url = new URL("ws", location.href);
  url.hash = "";
  url.searchParams.set("name", name);
  connection = connect(url, { onState: showState });
  const names = JSON.parse(localStorage.getItem("rooms") ?? '["lobby","garden","workshop"]');
  names.forEach(add);
  show();
  addEventListener("hashchange", show);
}

function showState(state, { delay, code }) {
  const status = $("status");
  status.dataset.state = state;
  $("retry").hidden = state !== "waiting";
  status.textContent = { connecting: "Connecting", open: "Connected", closed: "Closed" }[state] ?? "Not connected";
  status.title = state === "waiting" ? `Close code ${code}. The next attempt is in ${Math.ceil(delay / 1000)} s.` : "";
  if (state !== "waiting") return;
  for (const one of rooms.values()) [...one.typing.keys()].forEach((author) => stopsTyping(one, author));
  if (shown) showMembers();
}

$("retry").addEventListener("click", () => connection.wake());

// ---- Rooms ----

function add(name) {
  const state = { name, unread: 0, typing: new Map(), waiting: new Map(), isFilled: false, isAtEnd: true };
  state.log = element("div", { className: "log", role: "log", tabIndex: 0, hidden: true });
  state.log.setAttribute("aria-label", `Messages in ${name}`);
  state.log.addEventListener("scroll", () => {
    state.isAtEnd = isAtEnd(state);
    if (state.isAtEnd) $("down").hidden = true;
  });
  // A keyboard on the screen takes half of the room.
  new ResizeObserver(() => state.isAtEnd && toEnd(state)).observe(state.log);
  state.badge = element("span", { className: "unread", hidden: true });
  state.link = element("a", { href: `#${name}` }, name, state.badge);
  $("logs").append(state.log);
  $("rooms").append(element("li", {}, state.link));
  state.room = connection.join(name, {
    last: LAST,
    onWelcome: ({ messages }) => welcomed(state, messages),
    onMessage: (message) => receive(state, message),
    onMembers: () => state === shown && showMembers(),
    onGap: (gap) => mark(state, "gap", gapText(gap)),
    onEnd: (code) => mark(state, "gap", `You are not in this room: ${code}.`),
  });
  rooms.set(name, state);
  return state;
}

/** Shows the room that the address names. */
function show() {
  const name = location.hash.slice(1);
  if (/^[a-z0-9-]{1,32}$/.test(name) && !rooms.has(name)) {
    add(name);
    keepRooms();
  }
  const next = rooms.get(name) ?? rooms.values().next().value;
  if (shown && shown !== next) {
    shown.log.hidden = true;
    shown.link.removeAttribute("aria-current");
    shown.log.querySelector(".new")?.remove();
  }
  const isFirst = !shown;
  shown = next;
  shown.log.hidden = false;
  shown.link.setAttribute("aria-current", "page");
  shown.link.scrollIntoView({ block: "nearest", inline: "nearest" });
  $("title").textContent = shown.name;
  $("leave").hidden = rooms.size < 2;
  $("down").hidden = true;
  toEnd(shown);
  shown.log.querySelector(".new")?.scrollIntoView({ behavior: "instant", block: "center" });
  read();
  showMembers();
  showTyping();
  // The focus goes with the reader, but not to a keyboard that covers half of a phone.
  if (!isFirst) (matchMedia("(hover: hover)").matches ? $("text") : $("title")).focus();
}

const keepRooms = () => localStorage.setItem("rooms", JSON.stringify([...rooms.keys()]));

$("leave").addEventListener("click", () => {
  shown.room.leave();
  shown.log.remove();
  shown.link.parentElement.remove();
  rooms.delete(shown.name);
  keepRooms();
  location.hash = rooms.keys().next().value;
});

$("add").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = $("add-name").value;
  $("add").reset();
});

// ---- Messages ----

function welcomed(state, messages) {
  // A screen reader would read the whole history.
  state.log.ariaBusy = String(messages > 0 && !state.isFilled);
  state.left = messages;
  if (!messages) filled(state);
}

function filled(state) {
  state.isFilled = true;
  state.log.ariaBusy = "false";
  if (!state.log.firstChild) state.log.append(element("p", { className: "empty" }, "Nobody has said anything yet."));
}

function receive(state, { data, by, key, own, past }) {
  const isOld = past && !state.isFilled;
  if (past && !--state.left) setTimeout(filled, 0, state);
  const author = key ?? state.room.members.find(({ id }) => id === by)?.value?.name ?? "somebody";
  // Other programs may send anything.
  if (data?.typing === true && !own) return types(state, author);
  if (typeof data?.text !== "string") return;
  stopsTyping(state, author);
  state.waiting.get(data.ref)?.remove();
  state.waiting.delete(data.ref);
  const isUnseen = !isOld && !own && (state !== shown || document.hidden);
  if (isUnseen && !state.unread++) mark(state, "new", "New messages");
  append(state, message(state, author, data, own || key === localStorage.getItem("name")));
  if (isUnseen) showUnread();
}

function message(state, author, { text, time }, own) {
  const item = element("div", { className: "message" });
  const last = [...state.log.children].findLast((child) => !child.matches(".pending"));
  const isSame = Boolean(last?.matches(".message") && last.dataset.author === author);
  item.dataset.author = author;
  item.classList.toggle("own", own);
  item.classList.toggle("same", isSame);
  const name = tinted(element("span", { className: own || isSame ? "unseen" : "name" }, author), author);
  const bubble = element("div", { className: "bubble" }, element("span", { className: "text" }, text));
  const at = new Date(time);
  if (Number.isFinite(at.getTime())) {
    bubble.append(element("time", { dateTime: at.toISOString(), title: at.toLocaleString() }, (isToday(at) ? clock : calendar).format(at)));
  }
  item.append(name, bubble);
  return item;
}

/** Adds a line in the middle of the log. */
function mark(state, className, text) {
  if (className === "new") state.log.querySelector(".new")?.remove();
  append(state, element("p", { className }, text));
}

const gapText = ({ reason, lost }) =>
  GAPS[reason] ??
  (lost ? `Your connection was too slow: ${lost} ${lost === 1 ? "message is" : "messages are"} missing here.` : "Messages may be missing here.");

/** Appends a line before those that are still being sent. */
function append(state, item) {
  state.log.querySelector(".empty")?.remove();
  state.log.insertBefore(item, state.log.querySelector(".pending"));
  if (state.log.children.length > MAX_LINES) state.log.firstChild.remove();
  if (state.isAtEnd || item.matches(".own")) toEnd(state);
  else if (state === shown) $("down").hidden = false;
}

const isAtEnd = ({ log }) => log.scrollHeight - log.scrollTop - log.clientHeight < 80;
function toEnd(state) {
  state.isAtEnd = true;
  state.log.scrollTo({ top: state.log.scrollHeight, behavior: "instant" });
}
$("down").addEventListener("click", () => shown.log.scrollTo({ top: shown.log.scrollHeight }));

/** Marks the shown room as read. */
function read() {
  if (!shown || document.hidden) return;
  shown.unread = 0;
  showUnread();
}

function showUnread() {
  for (const { unread, badge } of rooms.values()) {
    badge.hidden = unread === 0;
    badge.replaceChildren(String(unread), element("span", { className: "unseen" }, " unread"));
  }
  const sum = [...rooms.values()].reduce((sum, { unread }) => sum + unread, 0);
  document.title = `${sum ? `(${sum}) ` : ""}${shown?.name ?? ""} – Chat`;
}

document.addEventListener("visibilitychange", read);

// ---- Sending ----

async function send(state, text) {
  const data = { text, time: Date.now(), ref: crypto.getRandomValues(new Uint32Array(2)).join("-") };
  const item = message(state, localStorage.getItem("name"), data, true);
  const note = element("div", { className: "note" });
  item.classList.add("pending");
  item.append(note);
  state.log.querySelector(".empty")?.remove();
  state.log.append(item);
  state.waiting.set(data.ref, item);
  toEnd(state);
  const tell = (...parts) => {
    note.replaceChildren(...parts);
    if (state.isAtEnd) toEnd(state);
  };
  const slow = setTimeout(() => tell(state.room.joined ? "Sending" : "Waiting for the connection"), 500);
  try {
    await state.room.send(data);
  } catch ({ code }) {
    item.classList.add("failed");
    const again = element("button", { type: "button" }, "Send again");
    const forget = element("button", { type: "button" }, "Remove");
    const why = code === "unknown" ? "This message may not have arrived." : `Not sent: ${code}.`;
    tell(why, " ", again, forget);
    for (const button of [again, forget]) {
      button.addEventListener("click", () => {
        item.remove();
        $("text").focus();
      });
    }
    again.addEventListener("click", () => send(state, text));
    return;
  } finally {
    clearTimeout(slow);
  }
  note.remove();
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  $("composer").reset();
  lastSign = 0;
  if (text) send(shown, text);
});

$("text").addEventListener("keydown", (event) => {
  // A key that ends the composition of a character sends nothing.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

// ---- Typing ----

let lastSign = 0;
$("text").addEventListener("input", () => {
  if (!$("text").value || Date.now() - lastSign < TYPING / 2) return;
  lastSign = Date.now();
  shown.room.send({ typing: true }, { fleeting: true, others: true }).catch(() => {});
});

function types(state, author) {
  clearTimeout(state.typing.get(author));
  state.typing.set(author, setTimeout(stopsTyping, TYPING, state, author));
  showTyping();
}

function stopsTyping(state, author) {
  clearTimeout(state.typing.get(author));
  if (state.typing.delete(author)) showTyping();
}

function showTyping() {
  const names = [...shown.typing.keys()];
  const who = names.length > 3 ? "Several people" : list.format(names);
  const text = names.length ? `${who} ${names.length === 1 ? "is" : "are"} typing …` : "";
  if ($("typing").textContent !== text) $("typing").textContent = text;
}

// ---- Who is here ----

function showMembers() {
  const { members, count, joined } = shown.room;
  const mine = localStorage.getItem("name");
  const names = members.map(({ key, value }) => key ?? value?.name ?? "somebody").sort((a, b) => a.localeCompare(b));
  const items = names.map((name) => {
    const item = tinted(element("li", {}, element("span", {}, name)), name);
    item.dataset.initial = [...name][0].toUpperCase();
    if (name === mine) item.append(element("small", {}, "you"));
    return item;
  });
  $("members").replaceChildren(...items);
  // Without a connection, the list is that of the past.
  $("who").textContent = joined ? `${count} here` : "not here";
  $("people-title").textContent = joined ? `Who is here (${count})` : "Who was here";
}

$("who").addEventListener("click", () => {
  const isOpen = $("who").ariaExpanded === "true";
  $("who").ariaExpanded = String(!isOpen);
});
addEventListener("keydown", ({ key }) => {
  if (key !== "Escape" || $("who").ariaExpanded !== "true") return;
  $("who").ariaExpanded = "false";
  $("who").focus();
});

// ---- The name ----

const hello = $("hello");
hello.addEventListener("cancel", (event) => localStorage.getItem("name") || event.preventDefault());
hello.addEventListener("close", () => {
  const name = $("name").value.trim();
  if (!name) return localStorage.getItem("name") || hello.showModal();
  if (name === localStorage.getItem("name")) return;
  const isFirst = !connection;
  localStorage.setItem("name", name);
  isFirst ? start(name) : location.reload();
});
$("rename").addEventListener("click", () => {
  $("name").value = localStorage.getItem("name");
  hello.showModal();
});

const name = localStorage.getItem("name");
name ? start(name) : hello.showModal();
