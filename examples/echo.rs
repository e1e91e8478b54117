//! An HTTP server that answers plain requests and echoes WebSocket messages, with a test page.
//!
//! ```text
//! cargo run --release --example echo
//! ```
//!
//! Then open <http://127.0.0.1:3000/> in a browser, or use any other client:
//!
//! ```text
//! curl http://127.0.0.1:3000/time
//! websocat ws://127.0.0.1:3000/ws
//! ```
//!
//! Text comes back as `Echo: …`, binary unchanged. The first argument sets the port or the address:
//! `cargo run --release --example echo 0.0.0.0:8080`. Port 0 takes a free port. With
//! `--features deflate` large messages are compressed for clients that offer compression, such as browsers.

use std::{
    env,
    error::Error,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{Router, response::Html, routing::get};
use tokio::net::TcpListener;
use tower_websocket::{Config, Echo, WebSocketLayer};

pub(crate) fn app() -> Router {
    let config = Config::new();
    #[cfg(feature = "deflate")]
    let config = config.deflate(tower_websocket::Deflate::new());
    let websocket = WebSocketLayer::new(Echo::prefixed("Echo: "))
        .path("/ws")
        .config(config);
    Router::new()
        .route("/", get(Html(CONSOLE)))
        .route("/time", get(time))
        .layer(websocket)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let argument = env::args().nth(1).unwrap_or_else(|| "3000".to_owned());
    let address = match argument.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => argument,
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}/", listener.local_addr()?);
    axum::serve(listener, app()).await?;
    Ok(())
}

/// Answers with the seconds since 1970, as an example of a plain request.
async fn time() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    format!("{}\n", since.unwrap_or_default().as_secs())
}

/// The page at `/`: a console that connects to `/ws` of the same host.
const CONSOLE: &str = r##"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Echo over WebSocket</title>
<link rel="icon" href="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path d='M2 5h9L8 2M14 11H5l3 3' fill='none' stroke='%236366f1' stroke-width='2'/></svg>">
<style>
  :root {
    color-scheme: light dark;
    --page: #f4f5f8; --card: #fff; --line: #dfe2ea; --text: #1b1f2a; --soft: #5b6375;
    --accent: #4f46e5; --on-accent: #fff; --field: #fff; --hover: #eef0f6;
    --good: #13713f; --good-bg: #dcf5e6; --wait: #85540a; --wait-bg: #fcefd2; --bad: #ab2431; --bad-bg: #fce3e5;
  }
  @media (prefers-color-scheme: dark) {
    :root {
      --page: #0f1118; --card: #181b25; --line: #2c3140; --text: #e8eaf1; --soft: #a0a8bb;
      --accent: #8b93ff; --on-accent: #10121c; --field: #11141c; --hover: #232838;
      --good: #74dca1; --good-bg: #15352a; --wait: #f2c46d; --wait-bg: #392d15; --bad: #ff9aa2; --bad-bg: #3f1d25;
    }
  }
  * { box-sizing: border-box; }
  body {
    margin: 0; height: 100vh; height: 100dvh; padding: clamp(.75rem, 3vw, 2rem);
    display: flex; justify-content: center; background: var(--page); color: var(--text);
    font: 16px/1.5 system-ui, sans-serif;
  }
  main {
    width: 100%; max-width: 46rem; display: flex; flex-direction: column; overflow: hidden;
    background: var(--card); border: 1px solid var(--line); border-radius: 14px;
    box-shadow: 0 1px 2px rgb(0 0 0 / .05), 0 12px 32px rgb(0 0 0 / .07);
  }
  header { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; padding: 1rem 1.25rem; border-bottom: 1px solid var(--line); }
  h1 { margin: 0; font-size: 1.15rem; line-height: 1.3; }
  header > :first-child { flex: 1 1 14rem; min-width: 0; }
  #address { color: var(--soft); font: .85rem ui-monospace, monospace; overflow-wrap: anywhere; }
  #state { padding: .2rem .7rem; border-radius: 99px; font-size: .85rem; font-weight: 600; white-space: nowrap; color: var(--wait); background: var(--wait-bg); }
  #state::before { content: "●"; margin-right: .4em; }
  #state[data-state=connected] { color: var(--good); background: var(--good-bg); }
  #state[data-state=closed] { color: var(--bad); background: var(--bad-bg); }
  #log { flex: 1; min-height: 6rem; margin: 0; padding: .75rem 1.25rem; overflow-y: auto; list-style: none; font: .875rem/1.5 ui-monospace, monospace; }
  #log li { display: grid; grid-template-columns: 5.5rem 1fr auto; gap: 0 .75rem; padding: .3rem 0; }
  #log li + li { border-top: 1px solid color-mix(in srgb, var(--line) 55%, transparent); }
  #log b { font-weight: 500; color: var(--soft); }
  #log li[data-from=server] b { color: var(--accent); }
  #log li[data-from=server] span { font-weight: 600; }
  #log li[data-from=page] span { color: var(--soft); }
  #log span { white-space: pre-wrap; overflow-wrap: anywhere; min-width: 0; }
  #log small { font-size: .78rem; line-height: 1.7; color: var(--soft); white-space: nowrap; }
  form { padding: 1rem 1.25rem; border-top: 1px solid var(--line); display: grid; gap: .75rem; }
  label { font-size: .85rem; font-weight: 600; }
  input, button { font: inherit; border-radius: 8px; border: 1px solid var(--line); min-height: 2.6rem; color: inherit; }
  input { width: 100%; margin-top: .25rem; padding: .4rem .75rem; background: var(--field); font-weight: 400; }
  button { padding: .35rem .9rem; background: none; cursor: pointer; font-size: .92rem; }
  button:hover:enabled { background: var(--hover); }
  button:disabled { opacity: .5; cursor: not-allowed; }
  #send { background: var(--accent); border-color: var(--accent); color: var(--on-accent); font-weight: 600; }
  #send:hover:enabled { filter: brightness(1.08); background: var(--accent); }
  :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  #log:focus-visible { outline-offset: -2px; }
  .row { display: flex; flex-wrap: wrap; gap: .5rem; }
  .row i { flex: 1; }
  @media (max-width: 30rem) { #log li { grid-template-columns: 4.6rem 1fr; } #log small { grid-column: 2; } #log small:empty { display: none; } .row i { display: none; } .row button { flex: 1 1 40%; } }
</style>
</head>
<body>
<main>
  <header>
    <div>
      <h1>Echo over WebSocket</h1>
      <div id="address"></div>
    </div>
    <div id="state" role="status">connecting</div>
  </header>
  <ol id="log" role="log" aria-label="Messages" tabindex="0"></ol>
  <form id="form">
    <label>Message
      <input id="message" autocomplete="off" autofocus placeholder="Hello">
    </label>
    <div class="row">
      <button id="send" disabled>Send text</button>
      <button id="send-binary" type="button" disabled>Send as binary</button>
      <i></i>
      <button id="time" type="button">GET /time</button>
      <button id="toggle" type="button">Close</button>
    </div>
  </form>
</main>
<script>
"use strict";
const [form, message, send, sendBinary, time, toggle, log, state] =
  ["form", "message", "send", "send-binary", "time", "toggle", "log", "state"].map((id) => document.getElementById(id));
const address = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`;
const meanings = {
  1000: "normal closure", 1001: "going away", 1002: "protocol error", 1005: "no code given",
  1006: "no closing handshake", 1007: "invalid text", 1008: "policy violation", 1009: "message too big",
  1011: "server error", 1012: "service restart", 1013: "try again later",
};
let socket, sent; // `sent` holds the send time of each message. Echoes arrive in the same order.
document.getElementById("address").textContent = address;

function connect() {
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  sent = [];
  show("connecting", "connecting");
  socket.onopen = () => {
    show("connected", "connected");
    note("page", "open", "connected");
    message.focus();
  };
  socket.onmessage = ({ data }) => {
    const took = `${(performance.now() - sent.shift()).toFixed(1)} ms`;
    note("server", "← " + kind(data), text(data), took);
  };
  socket.onclose = ({ code, reason, wasClean }) => {
    show("closed", `closed ${code}`);
    const why = [`code ${code}`, meanings[code], reason, wasClean ? "clean" : "not clean"];
    note("page", "closed", why.filter(Boolean).join(", "));
  };
}

function show(now, words) {
  state.dataset.state = now;
  state.textContent = words;
  send.disabled = sendBinary.disabled = now !== "connected";
  toggle.textContent = now === "closed" ? "Connect" : "Close";
}

const kind = (data) => (typeof data === "string" ? "text" : "binary");

// Shows text as it is and bytes in hexadecimal. Long data is cut.
function text(data) {
  const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  const size = data.length ?? data.byteLength;
  const head = typeof data === "string" ? data.slice(0, 600) : hex(new Uint8Array(data).subarray(0, 200));
  if (size === 0) return "(empty)";
  return size > (typeof data === "string" ? 600 : 200) ? `${head} … (${size} in all)` : head;
}

function note(from, what, words, aside = "") {
  const line = document.createElement("li");
  line.dataset.from = from;
  for (const [tag, content] of [["b", what], ["span", words], ["small", aside]]) {
    line.appendChild(document.createElement(tag)).textContent = content;
  }
  log.append(line);
  while (log.children.length > 500) log.firstChild.remove();
  log.scrollTop = log.scrollHeight;
}

function transmit(data) {
  note("client", "→ " + kind(data), text(data));
  sent.push(performance.now());
  socket.send(data);
  message.value = "";
  message.focus();
}

form.onsubmit = (event) => {
  event.preventDefault();
  transmit(message.value);
};
sendBinary.onclick = () => transmit(new TextEncoder().encode(message.value));
toggle.onclick = () => (socket.readyState === WebSocket.CLOSED ? connect() : socket.close(1000));
time.onclick = async () => {
  const started = performance.now();
  try {
    const answer = await fetch("/time");
    const took = `${(performance.now() - started).toFixed(1)} ms`;
    note("server", "← HTTP", `${answer.status} ${(await answer.text()).trim()}`, took);
  } catch (error) {
    note("page", "HTTP", error.message);
  }
};
connect();
</script>
</body>
</html>
"##;
