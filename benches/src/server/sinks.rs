//! Two ways to echo on a socket that is a `Stream` and a `Sink`.

use futures_util::{Sink, SinkExt, Stream, StreamExt, future::FutureExt};

/// Sends each answer before it receives the next message, as the examples of the other crates do.
pub(super) async fn each<S, M, E, A>(mut socket: S, answer: A)
where
    S: Stream<Item = Result<M, E>> + Sink<M> + Unpin,
    A: Fn(M) -> Option<M>,
{
    while let Some(Ok(message)) = socket.next().await {
        if let Some(message) = answer(message)
            && socket.send(message).await.is_err()
        {
            return;
        }
    }
}

/// Feeds the answers, and flushes them when no further message has arrived.
pub(crate) async fn batched<S, M, E, A>(mut socket: S, answer: A)
where
    S: Stream<Item = Result<M, E>> + Sink<M> + Unpin,
    A: Fn(M) -> Option<M>,
{
    loop {
        let next = match socket.next().now_or_never() {
            Some(next) => next,
            None => {
                if socket.flush().await.is_err() {
                    return;
                }
                socket.next().await
            }
        };
        let Some(Ok(message)) = next else {
            return;
        };
        if let Some(message) = answer(message)
            && socket.feed(message).await.is_err()
        {
            return;
        }
    }
}
