//! One connection: its requests in their order, and the rooms that it is in.

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use futures_util::stream::{FuturesUnordered, Stream};

use super::{
    Admission, Denied, JsonRooms,
    answer::{Code, Head},
    request::{self, Ask, Asks, Fields, Request},
};
use crate::{
    BoxError, Message, WebSocket,
    hub::{LeaveReason, MemberId, Membership, Publication, Sent},
    socket::RecvError,
};

/// The end of a membership.
struct End {
    room: Arc<str>,
    member: MemberId,
    reason: LeaveReason,
}

pub(super) struct Session<'a, T: Send + Sync + 'static, I> {
    rooms: &'a JsonRooms<T, I>,
    socket: WebSocket,
    identity: I,
    seats: HashMap<Arc<str>, Seat<T>>,
    ends: FuturesUnordered<Pin<Box<dyn Future<Output = End> + Send>>>,
}

/// The connection in a room.
struct Seat<T: Send + Sync + 'static> {
    membership: Membership<T>,
    is_read_only: bool,
}

enum Next {
    End(End),
    Message(Result<Option<Message>, RecvError>),
}

impl<'a, T, I> Session<'a, T, I>
where
    T: Send + Sync + 'static,
    I: Clone + Send + Sync + 'static,
{
    pub(super) fn new(rooms: &'a JsonRooms<T, I>, socket: WebSocket, identity: I) -> Self {
        Self {
            rooms,
            socket,
            identity,
            seats: HashMap::new(),
            ends: FuturesUnordered::new(),
        }
    }

    pub(super) async fn serve(mut self) -> Result<(), BoxError> {
        loop {
            match self.next().await {
                Next::End(end) => self.ended(end).await?,
                Next::Message(message) => {
                    let Some(message) = message? else {
                        return Ok(());
                    };
                    let fields: Fields<'_> = message.parse_json()?;
                    self.answer(fields.into_request()).await?;
                }
            }
        }
    }

    /// Returns what comes next. Ends come first, so no request is answered as if its room were still there.
    async fn next(&mut self) -> Next {
        let ends = &mut self.ends;
        let mut message = pin!(self.socket.recv());
        poll_fn(|cx| {
            if let Poll::Ready(Some(end)) = Pin::new(&mut *ends).poll_next(cx) {
                return Poll::Ready(Next::End(end));
            }
            message.as_mut().poll(cx).map(Next::Message)
        })
        .await
    }

    /// Tells the client of a membership that the server has ended.
    async fn ended(&mut self, end: End) -> Result<(), BoxError> {
        let seat = self.seats.get(&end.room);
        // Otherwise the client has left, and may have joined again.
        if seat.is_some_and(|seat| seat.membership.id() == end.member) {
            self.seats.remove(&end.room);
            let head = Head {
                room: Some(&end.room),
                id: None,
            };
            self.tell(head.left(end.reason)).await?;
        }
        Ok(())
    }

    async fn answer(&mut self, request: Request<'_>) -> Result<(), BoxError> {
        let Request { id, asks } = request;
        let (room, ask) = match asks {
            Asks::Room(room, ask) => (room, ask),
            Asks::Ping => return self.tell(Head { room: None, id }.pong()).await,
            Asks::Wrong(code) => return self.tell(Head { room: None, id }.error(code)).await,
        };
        let head = Head {
            room: Some(&room),
            id,
        };
        let done = match ask {
            Ok(Ask::Join(join)) => match self.admit(&room).await {
                Ok(admission) => return self.join(head, &room, admission, join).await,
                Err(code) => Err(code),
            },
            Ok(Ask::Leave) => self.leave(&room).map(|()| head.left(LeaveReason::Left)),
            Ok(Ask::Send(send)) => self.send(&room, send).map(|sent| head.sent(&sent)),
            Err(code) => Err(code),
        };
        match done {
            // The client does not want to know.
            Ok(_) if id.is_none() => Ok(()),
            Ok(answer) => self.tell(answer).await,
            Err(code) => self.tell(head.error(code)).await,
        }
    }

    async fn tell(&mut self, answer: Message) -> Result<(), BoxError> {
        Ok(self.socket.send(answer).await?)
    }

    /// Asks the user's function.
    async fn admit(&mut self, room: &Arc<str>) -> Result<Admission<T>, Code> {
        if self.seats.contains_key(room) {
            return Err(Code::JoinedAlready);
        }
        let deciding = (self.rooms.authorize)(self.identity.clone(), Arc::clone(room));
        deciding.await.map_err(|denied| code_of(denied, room))
    }

    async fn join(
        &mut self,
        head: Head<'_>,
        room: &Arc<str>,
        admission: Admission<T>,
        join: request::Join,
    ) -> Result<(), BoxError> {
        let handle = self.rooms.hub.room(Arc::clone(room));
        let mut joining = handle.join(&self.socket, admission.value);
        if let Some(key) = admission.key {
            joining = joining.key(key);
        }
        if join.is_silent && !admission.is_visible {
            joining = joining.silent();
        }
        if let Some(after) = join.after {
            // The client's word for who it was is not taken: it sees the senders of messages.
            joining = joining.resume(after, None);
        }
        let paused = match joining.with_history(join.last).paused().await {
            Ok(paused) => paused,
            Err(error) => return self.tell(head.error(error.into())).await,
        };
        self.tell(head.welcome(&paused)).await?;
        self.keep(room, paused.start(), admission.is_read_only);
        Ok(())
    }

    fn keep(&mut self, room: &Arc<str>, membership: Membership<T>, is_read_only: bool) {
        let (name, member, left) = (Arc::clone(room), membership.id(), membership.left());
        self.ends.push(Box::pin(async move {
            End {
                room: name,
                member,
                reason: left.await,
            }
        }));
        let seat = Seat {
            membership,
            is_read_only,
        };
        self.seats.insert(Arc::clone(room), seat);
    }

    fn leave(&mut self, room: &Arc<str>) -> Result<(), Code> {
        let seat = self.seats.remove(room).ok_or(Code::NotJoined)?;
        match seat.membership.has_left() {
            None => Ok(()),
            Some(_) => Err(Code::NotJoined),
        }
    }

    fn send(&self, room: &Arc<str>, send: request::Send<'_>) -> Result<Sent, Code> {
        let seat = self.seats.get(room).ok_or(Code::NotJoined)?;
        if seat.membership.has_left().is_some() {
            return Err(Code::NotJoined);
        }
        if seat.is_read_only {
            return Err(Code::ReadOnly);
        }
        let mut publication = Publication::new(send.data);
        if send.is_for_others {
            publication = publication.except(seat.membership.id());
        }
        if send.is_fleeting {
            publication = publication.fleeting();
        }
        if let Some(key) = send.latest {
            publication = publication.latest(key);
        }
        Ok(seat.membership.publish(publication)?)
    }
}

#[cfg_attr(
    not(feature = "tracing"),
    expect(unused_variables, reason = "used only in the log")
)]
fn code_of(denied: Denied, room: &str) -> Code {
    let Some(error) = denied.0 else {
        return Code::Forbidden;
    };
    #[cfg(feature = "tracing")]
    {
        let error = &*error as &dyn std::error::Error;
        tracing::warn!(error, ?room, "authorizing the join of a room failed");
    }
    Code::Unavailable
}
