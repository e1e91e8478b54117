//! Handlers, and tasks for their sockets, that several test files use.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    future::Future,
    sync::{Arc, Mutex},
};

use http::request::Parts;
use tokio::{sync::mpsc, task::JoinHandle};
use tower_websocket::{
    Accept, BoxError, Handler, IntoHandler, Refusal, Sender, WebSocket, error::RecvError,
};

#[cfg(feature = "tracing")]
use super::log;

/// Sends every message back, like `Echo`, as a function.
pub(crate) async fn echo(mut socket: WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// Receives until the end in a task, which returns the error if there was one.
pub(crate) fn receive(mut socket: WebSocket) -> JoinHandle<Option<RecvError>> {
    tokio::spawn(async move {
        loop {
            match socket.recv().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    })
}

/// An echo that notes which of its methods were called.
#[derive(Clone)]
pub(crate) struct Recorder {
    calls: Arc<Mutex<Vec<&'static str>>>,
    decide: Arc<Decide>,
}

type Decide = dyn Fn(&mut Parts) -> Result<Accept, Box<Refusal>> + Send + Sync;

impl Recorder {
    pub(crate) fn new() -> Self {
        Self::deciding(|_| Ok(Accept::new()))
    }

    pub(crate) fn deciding(
        decide: impl Fn(&mut Parts) -> Result<Accept, Box<Refusal>> + Send + Sync + 'static,
    ) -> Self {
        #[cfg(feature = "tracing")]
        log::install();
        Self {
            calls: Arc::default(),
            decide: Arc::new(decide),
        }
    }

    pub(crate) fn calls(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().clone()
    }
}

impl Handler for Recorder {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        self.calls.lock().unwrap().push("accept");
        (self.decide)(request).map_err(|refusal| *refusal)
    }

    async fn handle(&self, socket: WebSocket) -> Result<(), BoxError> {
        self.calls.lock().unwrap().push("handle");
        echo(socket).await
    }
}

/// A handler that sends a `Sender` of each socket to the test, before it calls `handle`.
pub(crate) fn handing_out<F>(
    senders: mpsc::UnboundedSender<Sender>,
    handle: impl Fn(WebSocket) -> F + Send + Sync + 'static,
) -> impl Handler
where
    F: Future<Output = Result<(), BoxError>> + Send,
{
    let handler = move |socket: WebSocket| {
        senders.send(socket.sender()).unwrap();
        handle(socket)
    };
    handler.into_handler()
}
