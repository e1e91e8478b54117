//! Rules about time, without a clock: each takes the moment as an argument.

pub(crate) mod backlog;
pub(crate) mod keepalive;
pub(crate) mod limit;
mod moment;
pub(crate) mod rate;

pub(crate) use self::moment::Moment;
