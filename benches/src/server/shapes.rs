//! Eight shapes of handler, as users write them.

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use axum::Router;
use futures_util::{FutureExt, SinkExt, StreamExt, TryStreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc, time};
use tower_websocket::{Error, Message, WebSocket};

use super::ours;
use crate::load::frames;

/// The shape of a handler.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// Receives, and sends the same message back.
    SendBack,
    /// Receives, and sends another message of that size.
    SendAnother,
    /// Receives text, and sends it in upper case.
    UpperCase,
    /// Waits in `select!` for a message or an interval.
    Select,
    /// Splits the socket with `StreamExt::split` and forwards one half to the other.
    Forward,
    /// Boxes `recv` and `send` in a `FuturesUnordered`.
    Unordered,
    /// Moves the socket into a `tokio::spawn`.
    Spawned,
    /// Receives, and answers with a `Sender` in another task.
    OtherTask,
}

/// All shapes. A shape's number is its index plus 1.
pub const SHAPES: [(&str, Shape, &str); 8] = [
    ("shape-1", Shape::SendBack, "1 receive, send it back"),
    (
        "shape-2",
        Shape::SendAnother,
        "2 receive, send another message",
    ),
    ("shape-3", Shape::UpperCase, "3 text to upper case"),
    ("shape-4", Shape::Select, "4 `select!` with an interval"),
    ("shape-5", Shape::Forward, "5 `split` and `forward`"),
    (
        "shape-6",
        Shape::Unordered,
        "6 boxed in a `FuturesUnordered`",
    ),
    ("shape-7", Shape::Spawned, "7 socket in a `tokio::spawn`"),
    ("shape-8", Shape::OtherTask, "8 `Sender` in another task"),
];

impl Shape {
    /// Returns the shape of the server called `name`, or `None` for other servers.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = SHAPES.iter().find(|(known, ..)| *known == name);
        found.map(|(_, shape, _)| *shape)
    }

    /// Returns whether the messages are text, and the handler's answer. `text` is the requested kind.
    #[must_use]
    pub const fn exchange(self, text: bool) -> (bool, frames::Answer) {
        match self {
            Self::SendAnother => (false, frames::Answer::Another),
            Self::UpperCase => (true, frames::Answer::UpperCase),
            _ => (text, frames::Answer::Same),
        }
    }
}

/// A shape number from the command line, as the name of its server.
#[derive(Clone, Copy, Debug)]
pub struct Number(pub &'static str);

impl FromStr for Number {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let number = written.parse::<usize>().ok();
        let found = number.and_then(|number| SHAPES.get(number.checked_sub(1)?));
        found
            .map(|(name, ..)| Self(name))
            .ok_or_else(|| format!("the shapes are 1 to {}, not {written}", SHAPES.len()))
    }
}

pub(super) fn router(shape: Shape) -> Router {
    match shape {
        Shape::SendBack => ours::around(send_back),
        Shape::SendAnother => ours::around(send_another),
        Shape::UpperCase => ours::around(upper_case),
        Shape::Select => ours::around(select),
        Shape::Forward => ours::around(forward),
        Shape::Unordered => ours::around(unordered),
        Shape::Spawned => ours::around(spawned),
        Shape::OtherTask => ours::around(other_task),
    }
}

async fn send_back(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

async fn send_another(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await? {
        socket.send(vec![frames::ANOTHER; message.len()]).await?;
    }
    Ok(())
}

async fn upper_case(mut socket: WebSocket) -> Result<(), Error> {
    while let Some(message) = socket.recv().await? {
        socket.send(message.into_text()?.to_uppercase()).await?;
    }
    Ok(())
}

/// Checks once a second whether the session has become too old.
async fn select(mut socket: WebSocket) -> Result<(), Error> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let begun = Instant::now();
    let mut seconds = time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            message = socket.recv() => match message? {
                Some(message) => socket.send(message).await?,
                None => return Ok(()),
            },
            _ = seconds.tick() => if begun.elapsed() > DAY {
                return Ok(());
            },
        }
    }
}

async fn forward(socket: WebSocket) -> Result<(), Error> {
    let (sink, stream) = socket.split();
    let sink = sink.sink_map_err(Error::from);
    stream.map_err(Error::from).forward(sink).await
}

/// A result of the set in [`unordered`]. It returns the socket, which one future at a time owns.
enum Step {
    Received(WebSocket, Message),
    Sent(WebSocket),
    Over,
}

/// Waits for all its futures in one set, which polls them with its own wakers.
async fn unordered(socket: WebSocket) -> Result<(), Error> {
    let mut steps = FuturesUnordered::new();
    steps.push(receive(socket).boxed());
    while let Some(step) = steps.next().await {
        match step? {
            Step::Received(socket, message) => steps.push(send(socket, message).boxed()),
            Step::Sent(socket) => steps.push(receive(socket).boxed()),
            Step::Over => {}
        }
    }
    Ok(())
}

async fn receive(mut socket: WebSocket) -> Result<Step, Error> {
    Ok(match socket.recv().await? {
        Some(message) => Step::Received(socket, message),
        None => Step::Over,
    })
}

async fn send(mut socket: WebSocket, message: Message) -> Result<Step, Error> {
    socket.send(message).await?;
    Ok(Step::Sent(socket))
}

/// Waits for its task, because some versions of the crate close the connection when a handler returns.
async fn spawned(socket: WebSocket) -> Result<(), Error> {
    tokio::spawn(send_back(socket)).await?
}

async fn other_task(mut socket: WebSocket) -> Result<(), Error> {
    let sender = socket.sender();
    let (answers, mut queue) = mpsc::channel::<Message>(64);
    let answering = tokio::spawn(async move {
        while let Some(message) = queue.recv().await {
            sender.send(message).await?;
        }
        Ok::<_, Error>(())
    });
    while let Some(message) = socket.recv().await? {
        answers.send(message).await?;
    }
    drop(answers);
    answering.await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_names() {
        for (at, (name, _, title)) in SHAPES.iter().enumerate() {
            let number = (at + 1).to_string();
            assert_eq!(number.parse::<Number>().unwrap().0, *name);
            assert_eq!(*name, format!("shape-{number}"));
            assert!(title.starts_with(&number), "{title}");
        }
        for wrong in ["0", "9", "-1", ""] {
            assert!(wrong.parse::<Number>().is_err(), "{wrong}");
        }
    }
}
