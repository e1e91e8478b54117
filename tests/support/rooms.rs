//! A server of `rooms.v1.json`, and clients that speak it.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{io, time::Duration};

use serde_json::{Value, json};
use tokio::time::timeout;
use tower_websocket::{
    Accept, Refusal, WebSocketLayer,
    hub::{Admission, Denied, HubConfig, JsonRooms, RoomConfig},
    testing::{self, Client, Request},
};

pub(crate) type Rooms = JsonRooms<Value, String>;

/// Users with a name may join each room. Only `ann` may join `secret`, `broken` fails, `news` is read-only, and `stage`
/// shows silent members.
pub(crate) fn rooms(settings: impl Fn(&str) -> RoomConfig<Value> + Send + Sync + 'static) -> Rooms {
    rooms_of(HubConfig::new().rooms(settings))
}

pub(crate) fn rooms_of(config: HubConfig<Value>) -> Rooms {
    JsonRooms::decide(
        config,
        async |request| {
            let user = request.headers.get("x-user");
            let user = user.and_then(|name| name.to_str().ok());
            let user = user.ok_or_else(Refusal::unauthorized)?.to_owned();
            Ok((Accept::new(), user))
        },
        async |user, room| {
            let admission = Admission::new(json!({ "name": user })).key(user.clone());
            match &*room {
                "secret" if user != "ann" => Err(Denied::forbidden()),
                "broken" => Err(io::Error::other("the database is gone"))?,
                "news" => Ok(admission.read_only()),
                "stage" => Ok(admission.visible()),
                _ => Ok(admission),
            }
        },
    )
}

pub(crate) struct Peer {
    pub(crate) client: Client,
}

impl Peer {
    pub(crate) async fn connect(rooms: &Rooms, user: &str) -> Self {
        let service = WebSocketLayer::new(rooms.clone()).into_service();
        let request = Request::new("/")
            .header("x-user", user)
            .subprotocol("rooms.v1.json");
        let client = testing::connect(service, request).await.unwrap();
        assert_eq!(client.subprotocol(), Some("rooms.v1.json"));
        Self { client }
    }

    pub(crate) async fn say(&mut self, request: Value) {
        self.say_text(request.to_string()).await;
    }

    pub(crate) async fn say_text(&mut self, text: impl Into<String>) {
        self.client.send(text.into()).await.unwrap();
    }

    /// Receives the next object.
    pub(crate) async fn hear(&mut self) -> Value {
        let next = timeout(Duration::from_secs(30), self.client.recv_json());
        next.await.expect("an object").unwrap().expect("an object")
    }

    /// Receives the next object that is not about members.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let heard = self.hear().await;
            let fields = heard.as_object().unwrap();
            let presence = ["members", "joined", "updated", "left", "count"];
            if !presence.iter().any(|name| fields.contains_key(*name)) {
                return heard;
            }
        }
    }

    pub(crate) async fn ask(&mut self, request: Value) -> Value {
        self.say(request).await;
        self.next().await
    }

    /// Joins a room, and returns the welcome.
    pub(crate) async fn join(&mut self, room: &str) -> Value {
        let mut answer = self.ask(json!({ "join": room, "id": 1 })).await;
        assert_eq!(answer["room"], room, "{answer}");
        assert_eq!(answer["id"], 1, "{answer}");
        answer["welcome"].take()
    }

    /// Asserts that everything was answered: a ping is answered next.
    pub(crate) async fn assert_silent(&mut self) {
        assert_eq!(
            self.ask(json!({ "ping": true, "id": 999 })).await,
            json!({ "id": 999, "pong": true })
        );
    }

    /// Receives until the end, and returns the close code.
    pub(crate) async fn code(&mut self) -> Option<u16> {
        let end = async {
            while let Ok(Some(_)) = self.client.recv().await {}
            self.client.closed().await
        };
        let closed = timeout(Duration::from_secs(30), end).await;
        let closed = closed.expect("the connection ends");
        closed.code().map(tower_websocket::CloseCode::get)
    }
}
