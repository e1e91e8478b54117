//! Answers a valid handshake: calls the handler and applies the limits.

use std::{
    future::{Future, poll_fn},
    mem,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, Uri, Version, header::SEC_WEBSOCKET_EXTENSIONS,
    request::Parts,
};
use tokio::{
    runtime::Handle,
    time::{Sleep, sleep},
};

use crate::{
    config::Config,
    connections::Permit,
    handler::{Accept, Configure, Handler},
    handshake::{
        HandshakeError, HandshakeRequest, Refusal, RefusalParts, answer,
        request::{Opening, check, join_cookies},
        subprotocol,
    },
    layer::{
        admission::{Admission, Place},
        guard::Sent,
        report,
        response::ResponseBody,
        shared::{Settings, Shared},
        task::{Opened, Serve},
        upgrade::Handover,
    },
    socket::{HandshakeInfo, Setup, Values},
    words::{Panicked, catch_panic},
};

/// The answer to a valid handshake.
pub(crate) enum Answer {
    /// Accepted. The flag exists over HTTP/1 only.
    Switching(Response<()>, Option<Sent>),
    Refused(Response<Bytes>),
}

impl<B> From<Answer> for Response<ResponseBody<B>> {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Switching(response, Some(sent)) => {
                response.map(|()| ResponseBody::switching(sent))
            }
            Answer::Switching(response, None) => response.map(|()| ResponseBody::default()),
            Answer::Refused(response) => response.map(ResponseBody::text),
        }
    }
}

/// A valid handshake that has not been decided on yet.
pub(crate) struct Handshake<H> {
    shared: Arc<Shared<H>>,
    request: Parts,
    /// Kept apart, because the handler may change the request.
    offer: Offer,
    /// `None` over HTTP/2.
    accept_key: Option<HeaderValue>,
    /// `None` is an error only after the handler has accepted: tests without a server see its refusals.
    handover: Option<Handover>,
    permit: Permit,
}

/// The client's offer in its handshake.
#[derive(Default)]
struct Offer {
    uri: Uri,
    version: Version,
    /// The subprotocols that it offered.
    subprotocols: Vec<String>,
    extensions: Vec<HeaderValue>,
}

impl Offer {
    fn of(request: &Parts) -> Self {
        let extensions = request.headers.get_all(SEC_WEBSOCKET_EXTENSIONS);
        Self {
            uri: request.uri.clone(),
            version: request.version,
            subprotocols: offered(&request.headers),
            extensions: extensions.iter().cloned().collect(),
        }
    }
}

impl<H> Handshake<H> {
    /// Checks a handshake for this layer, and takes a place among the connections for it.
    pub(crate) fn begin(
        shared: &Arc<Shared<H>>,
        mut request: Parts,
        opening: Opening,
    ) -> Result<Self, HandshakeError> {
        match Self::admitted(shared, &request, opening) {
            Ok((accept_key, permit)) => {
                join_cookies(&mut request.headers);
                Ok(Self {
                    shared: Arc::clone(shared),
                    offer: Offer::of(&request),
                    handover: Handover::take(&mut request.extensions),
                    request,
                    accept_key,
                    permit,
                })
            }
            Err(error) => {
                shared.refused(&error, request.uri.path());
                Err(error)
            }
        }
    }

    fn admitted(
        shared: &Shared<H>,
        request: &Parts,
        opening: Opening,
    ) -> Result<(Option<HeaderValue>, Permit), HandshakeError> {
        // The functions of an origin policy are user code and may panic.
        let settings = &shared.settings;
        let check = || check(request, opening, &settings.origins, settings.max_head_size);
        let accept_key = catch_panic(check).map_err(accept_panicked)??;
        if !runs_in_tokio() {
            shared.upgrade_unsupported();
            return Err(HandshakeError::UpgradeUnsupported);
        }
        Ok((accept_key, shared.connections.admit()?))
    }

    #[cfg(feature = "axum")]
    pub(crate) const fn request(&self) -> &Parts {
        &self.request
    }

    /// Answers the handshake according to `decision`. If it is accepted, `serve` serves the connection. `name` is the
    /// handler's name in warnings.
    pub(crate) fn finish<S: Serve>(
        mut self,
        decision: Result<Result<Accept, Refusal>, HandshakeError>,
        serve: S,
        name: &'static str,
    ) -> Answer {
        let shared = Arc::clone(&self.shared);
        let offer = mem::take(&mut self.offer);
        let (uri, version) = (offer.uri.clone(), offer.version);
        match self.open(decision, offer, serve, name) {
            Ok(answer) => answer,
            Err(refused) => {
                if let Some(error) = refused.extensions().get() {
                    shared.refused(error, uri.path());
                }
                Answer::Refused(answer::without_connection_headers(*refused, version))
            }
        }
    }

    fn open<S: Serve>(
        mut self,
        decision: Result<Result<Accept, Refusal>, HandshakeError>,
        offer: Offer,
        serve: S,
        name: &'static str,
    ) -> Result<Answer, Box<Response<Bytes>>> {
        let shared = Arc::clone(&self.shared);
        let settings = &shared.settings;
        let (mut accept, close) = match decision {
            Err(error) => return Err(failed(error)),
            Ok(Ok(accept)) => (accept, None),
            Ok(Err(refusal)) => match refusal.into_parts() {
                RefusalParts {
                    response,
                    close: None,
                } => return Err(Box::new(answer::refused(response))),
                RefusalParts { response, close } => (Accept::with_headers(response), close),
            },
        };
        let Some(mut handover) = self.handover.take() else {
            shared.upgrade_unsupported();
            return Err(failed(HandshakeError::UpgradeUnsupported));
        };
        let config = match accept.configure.take() {
            None => Arc::clone(&settings.config),
            Some(configure) => configured(&settings.config, configure).map_err(failed)?,
        };
        let (deflation, extensions) = config.agree(offer.extensions).unzip();
        let chosen = self.choose(&accept, close.is_some(), &offer.subprotocols);
        let chosen = chosen.map_err(failed)?;
        let places = self.admit(settings, close.is_some());
        let places = places.map_err(failed)?;
        let span = settings.spans.span(self.permit.id(), &self.request);
        let span = span.map_err(|panicked| failed(accept_panicked(panicked)))?;
        let field = chosen.and_then(|name| HeaderValue::from_str(name).ok());
        let subprotocol = chosen.map(Box::from);
        let sent = self.accept_key.is_some().then(|| match settings.unguarded {
            true => Sent::unguarded(),
            false => Sent::default(),
        });
        let response = answer::switching(self.accept_key, field, extensions, accept.headers);

        // Not earlier: the answer is sent after this poll, and then hyper spawns the task that sends for the
        // stream.
        if sent.is_none() {
            handover.accept_stream();
        }
        let info = HandshakeInfo {
            handler: name,
            request: match settings.drops_request || accept.drops_request {
                true => HandshakeRequest::without_details(self.request),
                false => HandshakeRequest::new(self.request),
            },
            subprotocol,
        };
        let opened = Opened {
            serve,
            upgrade_timeout: settings.upgrade_timeout,
            handover,
            sent: sent.clone(),
            setup: Setup {
                deflation,
                probes: info.request.version() == Version::HTTP_2,
                ..Setup::new(config)
            },
            values: Values::new(accept.carried, accept.identity),
            close,
            places,
        };
        opened
            .spawn(self.permit, info, span)
            .map_err(|error| failed(error.into()))?;
        Ok(Answer::Switching(response, sent))
    }

    /// Chooses the subprotocol. `is_closing`: the connection is accepted only to send a Close.
    fn choose<'o>(
        &self,
        accept: &Accept,
        is_closing: bool,
        offered: &'o [String],
    ) -> Result<Option<&'o str>, HandshakeError> {
        let settings = &self.shared.settings;
        let preferred = match accept.subprotocols.as_slice() {
            [] => &settings.subprotocols,
            names => names,
        };
        let chosen = subprotocol::choose(preferred, offered);
        if is_closing {
            // If a browser offers subprotocols and none is chosen, it does not read the Close.
            return Ok(chosen.or_else(|| offered.first().map(String::as_str)));
        }
        if chosen.is_none() {
            if settings.requires_subprotocol || accept.requires_subprotocol {
                let spoken = preferred.join(", ").into();
                return Err(HandshakeError::SubprotocolRequired { spoken });
            }
            if !offered.is_empty() {
                report::no_subprotocol(self.request.uri.path());
            }
        }
        Ok(chosen)
    }

    /// Takes a place of each limit that counts the connection.
    fn admit(&self, settings: &Settings, is_closing: bool) -> Result<Box<[Place]>, HandshakeError> {
        let limits = settings.key_limits.iter();
        // A refused client has no key, because the handler has not identified it.
        let limits = limits.filter(|limit| !is_closing || limit.is_by_peer());
        let places = limits.filter_map(|limit| {
            // The function that returns the key is user code and may panic.
            match catch_panic(|| limit.admit(&self.request)) {
                Ok(Admission::Admitted(place)) => Some(Ok(place)),
                Ok(Admission::Full) => Some(Err(HandshakeError::TooManyOfKey)),
                Ok(Admission::NoKey { is_first }) => {
                    if is_first {
                        report::key_missing();
                    }
                    None
                }
                Ok(Admission::NoPeer { is_first }) => {
                    if is_first {
                        report::peer_missing();
                    }
                    Some(Err(HandshakeError::UnknownPeer))
                }
                Err(panicked) => Some(Err(accept_panicked(panicked))),
            }
        });
        places.collect()
    }
}

impl<H: Handler> Handshake<H> {
    /// Asks the handler, and answers.
    pub(crate) async fn answer(mut self) -> Answer {
        let shared = Arc::clone(&self.shared);
        let limit = sleep(shared.settings.accept_timeout);
        let decision = accept(&*shared.handler, &mut self.request, limit).await;
        self.finish(decision, Arc::clone(&shared.handler), shared.handler.name())
    }
}

/// Writes the answer to a handshake that failed.
fn failed(error: HandshakeError) -> Box<Response<Bytes>> {
    Box::new(answer::failed(error))
}

/// Makes the settings of one connection.
fn configured(config: &Config, configure: Configure) -> Result<Arc<Config>, HandshakeError> {
    // The function is user code and may panic.
    let config = catch_panic(|| configure.apply(config.clone()));
    config.map(Arc::new).map_err(accept_panicked)
}

/// Reports a panic of the handler, or of a function given to the layer.
#[expect(clippy::needless_pass_by_value, reason = "it is for `map_err`")]
fn accept_panicked(panicked: Panicked) -> HandshakeError {
    report::accept_panicked(&panicked);
    HandshakeError::AcceptPanicked
}

fn offered(headers: &HeaderMap) -> Vec<String> {
    // No error is possible: `check` has already parsed the list.
    let offered = subprotocol::offered(headers).unwrap_or_default();
    offered.into_iter().map(str::to_owned).collect()
}

/// Calls the handler's `accept`, until `limit` is ready.
///
/// Catches panics. Otherwise a panic would end the HTTP connection without an answer, and over HTTP/2 all
/// requests on it.
async fn accept<H: Handler>(
    handler: &H,
    request: &mut Parts,
    limit: Sleep,
) -> Result<Result<Accept, Refusal>, HandshakeError> {
    let mut limit = pin!(limit);
    let mut accept = pin!(Some(async move { handler.accept(request).await }));
    let mut poll = |cx: &mut Context<'_>| {
        let accept = accept.as_mut().as_pin_mut().map(|accept| accept.poll(cx));
        match accept.unwrap_or(Poll::Pending) {
            Poll::Ready(accept) => Poll::Ready(Ok(accept)),
            Poll::Pending => limit
                .as_mut()
                .poll(cx)
                .map(|()| Err(HandshakeError::AcceptTimeout)),
        }
    };
    let answer = poll_fn(|cx| {
        catch_panic(|| poll(cx))
            .unwrap_or_else(|panicked| Poll::Ready(Err(accept_panicked(panicked))))
    });
    let answer = answer.await;
    // Dropped here, because its `Drop` may panic as well.
    if let Err(panicked) = catch_panic(|| accept.set(None)) {
        report::accept_panicked(&panicked);
    }
    answer
}

/// Returns whether a task with timers can be spawned here.
fn runs_in_tokio() -> bool {
    // Without the time driver `sleep` panics. tokio has no other way to detect it.
    Handle::try_current().is_ok() && catch_panic(|| drop(sleep(Duration::ZERO))).is_ok()
}
