//! What clients ask for: the objects of `rooms.v1.json`, read without trust.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::answer::Code;

/// The largest `id`: what JavaScript's numbers represent exactly.
const MAX_ID: u64 = (1 << 53) - 1;
/// The longest name of a room, and the longest `latest`, in bytes.
const MAX_NAME: usize = 200;

/// The fields of all requests. Others are ignored.
const NAMES: [&str; 12] = [
    "join", "leave", "send", "ping", "id", "data", "after", "last", "silent", "others", "fleeting",
    "latest",
];

/// A request, or why it is none.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) id: Option<u64>,
    pub(super) asks: Asks<'a>,
}

#[derive(Debug)]
pub(super) enum Asks<'a> {
    Room(Arc<str>, Result<Ask<'a>, Code>),
    Ping,
    /// It names no room.
    Wrong(Code),
}

#[derive(Debug)]
pub(super) enum Ask<'a> {
    Join(Join),
    Leave,
    Send(Send<'a>),
}

#[derive(Debug, Default)]
pub(super) struct Join {
    pub(super) after: Option<String>,
    pub(super) last: usize,
    pub(super) is_silent: bool,
}

#[derive(Debug)]
pub(super) struct Send<'a> {
    /// The JSON as the client wrote it.
    pub(super) data: &'a str,
    pub(super) is_for_others: bool,
    pub(super) is_fleeting: bool,
    pub(super) latest: Option<String>,
}

/// The values of the known fields of an object, as text.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    values: [Option<&'a RawValue>; NAMES.len()],
    /// A known field is there twice. Readers of JSON disagree on which one counts.
    has_repetition: bool,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        let at = place_of(name)?;
        self.values[at]
    }

    /// Reads an optional field. `null` is the same as no field.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Code> {
        match self.get(name) {
            Some(value) => serde_json::from_str(value.get()).map_err(|_| Code::BadRequest),
            None => Ok(None),
        }
    }

    pub(super) fn into_request(self) -> Request<'a> {
        let id = self.id();
        let asks = self.verb().and_then(|verb| match verb {
            "ping" => self.ping(id),
            _ => {
                let room = self.room(verb)?;
                Ok(Asks::Room(room, id.and_then(|_| self.ask(verb))))
            }
        });
        Request {
            id: id.ok().flatten(),
            asks: asks.unwrap_or_else(Asks::Wrong),
        }
    }

    fn id(&self) -> Result<Option<u64>, Code> {
        let id: Option<u64> = self.read("id")?;
        match id {
            Some(id) if id > MAX_ID => Err(Code::BadRequest),
            _ => Ok(id),
        }
    }

    /// Returns the field that says what to do.
    fn verb(&self) -> Result<&'static str, Code> {
        let is_null = |value: &RawValue| value.get() == "null";
        let is_there = |name: &&str| self.get(name).is_some_and(|value| !is_null(value));
        let verbs = ["join", "leave", "send", "ping"];
        let mut verbs = verbs.into_iter().filter(is_there);
        match (verbs.next(), verbs.next()) {
            (Some(verb), None) if !self.has_repetition => Ok(verb),
            _ => Err(Code::BadRequest),
        }
    }

    fn ping(&self, id: Result<Option<u64>, Code>) -> Result<Asks<'a>, Code> {
        match (self.read("ping")?, id?) {
            (Some(true), _) => Ok(Asks::Ping),
            _ => Err(Code::BadRequest),
        }
    }

    fn room(&self, verb: &str) -> Result<Arc<str>, Code> {
        let name = self.read::<String>(verb)?.unwrap_or_default();
        match (1..=MAX_NAME).contains(&name.len()) {
            true => Ok(name.into()),
            false => Err(Code::Name),
        }
    }

    fn ask(&self, verb: &str) -> Result<Ask<'a>, Code> {
        let flag = |name: &str| self.read(name).map(Option::unwrap_or_default);
        Ok(match verb {
            "join" => Ask::Join(Join {
                after: self.read("after")?,
                last: self.read("last")?.unwrap_or_default(),
                is_silent: flag("silent")?,
            }),
            "leave" => Ask::Leave,
            _ => Ask::Send(Send {
                data: self.get("data").ok_or(Code::BadRequest)?.get(),
                is_for_others: flag("others")?,
                is_fleeting: flag("fleeting")?,
                latest: self.latest()?,
            }),
        })
    }

    fn latest(&self) -> Result<Option<String>, Code> {
        let key: Option<String> = self.read("latest")?;
        let is_long = key.as_ref().is_some_and(|key| key.len() > MAX_NAME);
        if is_long {
            Err(Code::BadRequest)
        } else {
            Ok(key)
        }
    }
}

fn place_of(name: &str) -> Option<usize> {
    NAMES.iter().position(|other| *other == name)
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(Name(at)) = map.next_key()? {
                    let Some(at) = at else {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    };
                    let value = map.next_value()?;
                    fields.has_repetition |= fields.values[at].replace(value).is_some();
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// The place of a known field.
struct Name(Option<usize>);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_str<E>(self, name: &str) -> Result<Name, E> {
                Ok(Name(place_of(name)))
            }
        }

        deserializer.deserialize_str(Text)
    }
}
