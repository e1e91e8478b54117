//! Rules about time, without a clock: the caller passes the current moment.

pub(crate) mod backlog;
pub(crate) mod keepalive;
pub(crate) mod limit;
mod moment;
pub(crate) mod rate;

pub(crate) use self::moment::Moment;
