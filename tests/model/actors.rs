//! The users of this side of the connection: handlers, holders of sockets, and senders. Each follows
//! orders, one after the other, and reports the results to the model. A new order drops the future of an
//! order that is still in progress.

use std::{
    future::{Future, poll_fn},
    panic::resume_unwind,
    pin::pin,
    task::Poll,
};

use futures_util::{FutureExt, SinkExt};
use tokio::sync::mpsc;
use tower_websocket::{
    BoxError, CloseCode, CloseFrame, Message, Sender, WebSocket, error::TrySendError,
};

use super::{
    oracle::{Shared, Waits},
    words::{BESIDE, End, HOLDER, Place, reason},
};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    Receive,
    ReceiveAll,
    /// Receives and replies until the end.
    Echo,
    Send,
    TrySend,
    /// As a sink does.
    Feed,
    Flush,
    /// Receives one and sends one, at the same time.
    Both,
    /// Receives or sends, whichever comes first.
    Either,
    Close(u16),
    /// Closes with a reason that is too long, which has no effect.
    CloseInvalid,
    CloseSink,
    /// Waits for the end.
    Closed,
    DropSocket,
    Finish(End),
}

impl Order {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Receive => "order: receive, to",
            Self::ReceiveAll => "order: receive all, to",
            Self::Echo => "order: echo, to",
            Self::Send => "order: send, to",
            Self::TrySend => "order: try to send, to",
            Self::Feed => "order: feed, to",
            Self::Flush => "order: flush, to",
            Self::Both => "order: receive and send, to",
            Self::Either => "order: receive or send, to",
            Self::Close(_) => "order: close, to",
            Self::CloseInvalid => "order: close with too long a reason, to",
            Self::CloseSink => "order: close as a sink, to",
            Self::Closed => "order: wait for the end, to",
            Self::DropSocket => "order: drop the socket, to",
            Self::Finish(End::Ok) => "order: return, to",
            Self::Finish(End::Error) => "order: return an error, to",
            Self::Finish(End::Frame(_)) => "order: return a Close, to",
            Self::Finish(End::Panic) => "order: panic, to",
        }
    }
}

pub(crate) type Orders = mpsc::UnboundedReceiver<Order>;

/// A task or handler that follows orders.
pub(crate) struct Actor {
    oracle: Shared,
    id: usize,
    orders: Orders,
    /// The order that interrupted the last one.
    next: Option<Order>,
    /// A new order is checked for before the future of the old one is polled, not after it.
    impatient: bool,
}

impl Actor {
    pub(crate) fn new(oracle: Shared, id: usize, orders: Orders) -> Self {
        Self {
            oracle,
            id,
            orders,
            next: None,
            impatient: false,
        }
    }

    /// Waits for an order. After the last order, returns an order to return.
    async fn order(&mut self) -> Order {
        let next = match self.next.take() {
            Some(order) => Some(order),
            None => self.orders.recv().await,
        };
        next.unwrap_or(Order::Finish(End::Ok))
    }

    /// Polls `work` until it is done or another order comes.
    async fn until_next(&mut self, work: impl Future<Output = ()>) {
        let mut work = pin!(work);
        self.impatient = !self.impatient;
        let (orders, impatient) = (&mut self.orders, self.impatient);
        let next = poll_fn(|cx| {
            if !impatient && work.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            if let Poll::Ready(Some(order)) = orders.poll_recv(cx) {
                return Poll::Ready(Some(order));
            }
            if impatient && work.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            Poll::Pending
        });
        self.next = next.await;
        self.oracle.lock().waits[self.id] = Waits::default();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let mut oracle = self.oracle.lock();
        oracle.waits[self.id] = Waits::default();
        oracle.gone[self.id] = true;
    }
}

/// Awaits a future. While it is pending, `field` of the actor's `Waits` is set.
async fn waiting<F: Future>(
    oracle: &Shared,
    id: usize,
    field: fn(&mut Waits) -> &mut bool,
    future: F,
) -> F::Output {
    let mut future = pin!(future);
    let poll = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
    if let Poll::Ready(output) = poll {
        return output;
    }
    *field(&mut oracle.lock().waits[id]) = true;
    let output = future.await;
    *field(&mut oracle.lock().waits[id]) = false;
    output
}

/// Receives once. Returns whether more messages may come, and whether `recv` was pending.
async fn receive(socket: &mut WebSocket, oracle: &Shared) -> (bool, bool) {
    let mut waited = false;
    let mut recv = pin!(socket.recv());
    let recv = poll_fn(|cx| {
        let poll = recv.as_mut().poll(cx);
        if poll.is_pending() {
            waited = true;
            oracle.lock().ask();
        }
        poll
    });
    let result = waiting(oracle, HOLDER, |waits| &mut waits.message, recv).await;
    (oracle.lock().receive(result), waited)
}

/// Sends one message of a sender, and reports the result.
async fn send<F, E>(oracle: &Shared, id: usize, sender: usize, send: impl FnOnce(Message) -> F)
where
    F: Future<Output = Result<(), E>>,
{
    let (number, message) = oracle.lock().attempt(sender);
    let result = waiting(oracle, id, |waits| &mut waits.room, send(message)).await;
    let mut oracle = oracle.lock();
    match result {
        Ok(()) => oracle.accept(sender, number),
        Err(_) => oracle.refuse(sender),
    }
}

pub(crate) fn try_send(oracle: &Shared, sender: usize, through: &Sender) -> bool {
    let mut oracle = oracle.lock();
    let (number, message) = oracle.attempt(sender);
    match through.try_send(message.clone()) {
        Ok(()) => {
            oracle.accept(sender, number);
            return true;
        }
        Err(TrySendError::Full(returned)) => {
            oracle.note("full for sender", sender);
            oracle.ensure(returned == message, |_| "another one came back".to_owned());
        }
        Err(error) => {
            oracle.refuse(sender);
            let same = error.into_message() == message;
            oracle.ensure(same, |_| "another one came back".to_owned());
        }
    }
    false
}

fn close_code(code: u16) -> CloseCode {
    CloseCode::new(code).unwrap()
}

/// Replies to each message until the end.
async fn echo(socket: &mut WebSocket, oracle: &Shared) {
    // Since `recv` was pending, nothing else was.
    let mut in_turn = false;
    loop {
        let (goes_on, waited) = receive(socket, oracle).await;
        if !goes_on {
            return;
        }
        in_turn |= waited;
        let (number, message) = oracle.lock().attempt(HOLDER);
        let mut late = false;
        let mut send = pin!(socket.send(message));
        let send = poll_fn(|cx| {
            let poll = send.as_mut().poll(cx);
            late |= poll.is_pending();
            poll
        });
        let result = waiting(oracle, HOLDER, |waits| &mut waits.room, send).await;
        in_turn &= !late;
        let mut oracle = oracle.lock();
        match result {
            Ok(()) => oracle.accept(HOLDER, number),
            Err(_) => {
                oracle.refuse(HOLDER);
                if in_turn {
                    oracle.refuse_reply();
                }
            }
        }
    }
}

/// Follows an order to a holder of a socket.
async fn obey(order: Order, socket: &mut WebSocket, beside: &Sender, oracle: &Shared) {
    let send_beside = || send(oracle, HOLDER, BESIDE, |message| beside.send(message));
    match order {
        Order::Receive => drop(receive(socket, oracle).await),
        Order::ReceiveAll => while receive(socket, oracle).await.0 {},
        Order::Echo => echo(socket, oracle).await,
        Order::Send => send(oracle, HOLDER, HOLDER, |message| socket.send(message)).await,
        Order::TrySend => drop(try_send(oracle, BESIDE, beside)),
        Order::Feed => send(oracle, HOLDER, HOLDER, |message| socket.feed(message)).await,
        Order::Flush => {
            let flushed = waiting(oracle, HOLDER, |waits| &mut waits.room, socket.flush()).await;
            if flushed.is_err() {
                oracle.lock().see_end();
            }
        }
        Order::Both => drop(tokio::join!(receive(socket, oracle), send_beside())),
        Order::Either => {
            let mut receive = pin!(receive(socket, oracle));
            let mut send = pin!(send_beside());
            poll_fn(|cx| match receive.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => send.as_mut().poll(cx),
            })
            .await;
        }
        Order::Close(code) => {
            oracle.lock().close(code);
            let close = socket.close(close_code(code), reason(code));
            let closed = waiting(oracle, HOLDER, |waits| &mut waits.end, close).await;
            let mut oracle = oracle.lock();
            oracle.ensure(closed.is_ok(), |_| "the Close was refused".to_owned());
            oracle.see_over(beside.closed().now_or_never());
        }
        Order::CloseInvalid => {
            let closed = socket.close(CloseCode::NORMAL, "x".repeat(124)).await;
            let mut oracle = oracle.lock();
            oracle.ensure(closed.is_err(), |_| {
                "too long a reason was taken".to_owned()
            });
        }
        Order::CloseSink => {
            oracle.lock().close(1000);
            let close = SinkExt::close(socket);
            let closed = waiting(oracle, HOLDER, |waits| &mut waits.end, close).await;
            if closed.is_ok() {
                oracle.lock().see_over(beside.closed().now_or_never());
            }
        }
        Order::Closed => {
            let closed = waiting(oracle, HOLDER, |waits| &mut waits.end, beside.closed()).await;
            oracle.lock().learn(&closed);
        }
        Order::DropSocket | Order::Finish(_) => {}
    }
}

impl Actor {
    /// Follows orders until an order drops the socket, and returns that order.
    async fn hold(&mut self, socket: &mut WebSocket) -> Order {
        let (beside, oracle) = (socket.sender(), self.oracle.clone());
        loop {
            match self.order().await {
                order @ (Order::DropSocket | Order::Finish(_)) => return order,
                order => self.until_next(obey(order, socket, &beside, &oracle)).await,
            }
        }
    }

    /// Runs as a task that holds a socket.
    pub(crate) async fn hold_elsewhere(mut self, mut socket: WebSocket) {
        let order = self.hold(&mut socket).await;
        let panics = order == Order::Finish(End::Panic);
        self.oracle.lock().drop_socket(panics);
        if panics {
            // Prints nothing, unlike a panic.
            resume_unwind(Box::new("as ordered"));
        }
    }

    /// Runs as a handler that holds its socket.
    async fn hold_inside(mut self, mut socket: WebSocket) -> Result<(), BoxError> {
        let end = match self.hold(&mut socket).await {
            Order::Finish(end) => {
                let mut oracle = self.oracle.lock();
                oracle.drop_socket(end == End::Panic);
                oracle.end_handler(end);
                end
            }
            _ => {
                self.oracle.lock().drop_socket(false);
                drop(socket);
                return self.go_on().await;
            }
        };
        result(end)
    }

    /// Runs as a handler without a socket.
    async fn go_on(mut self) -> Result<(), BoxError> {
        let end = loop {
            if let Order::Finish(end) = self.order().await {
                break end;
            }
        };
        self.oracle.lock().end_handler(end);
        result(end)
    }

    /// Runs as a task that sends.
    pub(crate) async fn send_elsewhere(mut self, sender: Sender) {
        let (id, oracle) = (self.id, self.oracle.clone());
        loop {
            let order = self.order().await;
            let work = async {
                match order {
                    Order::Send => send(&oracle, id, id, |message| sender.send(message)).await,
                    Order::TrySend => drop(try_send(&oracle, id, &sender)),
                    Order::Close(code) => {
                        oracle.lock().close(code);
                        let closed = sender.close(close_code(code), reason(code));
                        let mut oracle = oracle.lock();
                        oracle.ensure(closed.is_ok(), |_| "the Close was refused".to_owned());
                    }
                    Order::Closed => {
                        let closed = sender.closed();
                        let closed = waiting(&oracle, id, |waits| &mut waits.end, closed).await;
                        oracle.lock().learn(&closed);
                    }
                    _ => {}
                }
            };
            if let Order::Finish(_) = order {
                return;
            }
            self.until_next(work).await;
        }
    }
}

fn result(end: End) -> Result<(), BoxError> {
    match end {
        End::Ok => Ok(()),
        End::Error => Err("as ordered".into()),
        End::Frame(code) => Err(CloseFrame::new(close_code(code), reason(code))?.into()),
        End::Panic => resume_unwind(Box::new("as ordered")),
    }
}

/// Runs as the handler of a connection. `holder` holds the socket: it is the handler itself, or has its own task.
/// `handler` follows the orders to a handler without a socket.
pub(crate) async fn handle(
    socket: WebSocket,
    place: Place,
    holder: Actor,
    handler: Actor,
) -> Result<(), BoxError> {
    if place == Place::Inside {
        return holder.hold_inside(socket).await;
    }
    let held = tokio::spawn(holder.hold_elsewhere(socket));
    let end = match place {
        Place::Moved => return handler.go_on().await,
        Place::Awaited if held.await.is_err() => End::Error,
        _ => End::Ok,
    };
    handler.oracle.lock().end_handler(end);
    result(end)
}
