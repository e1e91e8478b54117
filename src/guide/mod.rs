//! The guide: one page for each task. Its code is tested.
//!
//! - Begin: [`start`], [`handlers`], [`authentication`].
//! - Send and receive: [`messages`], [`sending`], [`push_only`], [`ends`].
//! - Rooms: [`rooms`], [`slow_members`], [`presence`], [`history`], [`json_rooms`], [`pages`], [`capacity`].
//! - In production: [`limits`], [`layers`], [`http2`], [`proxies`], [`shutdown`], [`logs_and_metrics`], [`security`].
//! - Tests, and failures: [`testing`], [`when_it_does_not_connect`].
//! - From another crate: [`from_axum`], [`from_tungstenite`], [`from_ws`].
//!
//! The code uses axum 0.8. If this documentation is built without a feature, links to the items of that feature are
//! plain text.

#![cfg_attr(
    not(all(
        feature = "axum",
        feature = "client",
        feature = "deflate",
        feature = "http2",
        feature = "hub",
        feature = "json",
        feature = "metrics",
        feature = "test-util",
        feature = "tracing"
    )),
    allow(
        rustdoc::broken_intra_doc_links,
        rustdoc::private_intra_doc_links,
        reason = "items of a feature that is off"
    )
)]

pub mod authentication;
pub mod capacity;
pub mod ends;
pub mod from_axum;
pub mod from_tungstenite;
pub mod from_ws;
pub mod handlers;
pub mod history;
pub mod http2;
pub mod json_rooms;
pub mod layers;
pub mod limits;
pub mod logs_and_metrics;
pub mod messages;
pub mod pages;
pub mod presence;
pub mod proxies;
pub mod push_only;
pub mod rooms;
pub mod security;
pub mod sending;
pub mod shutdown;
pub mod slow_members;
pub mod start;
pub mod testing;
pub mod when_it_does_not_connect;
