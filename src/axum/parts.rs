//! Extractors of axum in a layer's handler.

use std::future::Future;

use axum_core::{extract::FromRequestParts, response::IntoResponse};
use http::request::Parts;

use crate::handshake::Refusal;

/// Extracts with axum's extractors in [`Handler::accept`](crate::Handler::accept) and
/// [`decide`](crate::decide), where a rejection becomes the [`Refusal`] as it is: status, headers and body.
///
/// Its methods are those of axum's trait of the same name, whose errors `?` does not turn into a [`Refusal`].
/// Import this one in its place.
///
/// # Examples
///
/// ```
/// use axum::extract::{Path, Query};
/// use std::collections::HashMap;
/// use tower_websocket::{Accept, Error, WebSocketLayer, axum::RequestPartsExt, decide};
///
/// let layer = WebSocketLayer::new(decide(
///     async |request| {
///         let Path(room): Path<String> = request.extract().await?;
///         let Query(query): Query<HashMap<String, String>> = request.extract().await?;
///         Ok((Accept::new(), (room, query)))
///     },
///     async |mut socket, (room, query)| {
///         socket.send(format!("{room}: {query:?}")).await?;
///         Ok::<_, Error>(())
///     },
/// ));
/// let app: axum::Router = axum::Router::new().route_service("/rooms/{room}", layer.into_service());
/// ```
pub trait RequestPartsExt: sealed::Sealed {
    /// Extracts a value that needs no state.
    ///
    /// # Errors
    ///
    /// The rejection, as a [`Refusal`].
    ///
    /// # Cancel safety
    ///
    /// As the extractor's.
    fn extract<T>(&mut self) -> impl Future<Output = Result<T, Refusal>> + Send
    where
        T: FromRequestParts<()>;

    /// Extracts a value with a state, which the handler has.
    ///
    /// # Errors
    ///
    /// The rejection, as a [`Refusal`].
    ///
    /// # Cancel safety
    ///
    /// As the extractor's.
    fn extract_with_state<T, S>(
        &mut self,
        state: &S,
    ) -> impl Future<Output = Result<T, Refusal>> + Send
    where
        T: FromRequestParts<S>,
        S: Send + Sync;
}

impl RequestPartsExt for Parts {
    async fn extract<T>(&mut self) -> Result<T, Refusal>
    where
        T: FromRequestParts<()>,
    {
        self.extract_with_state(&()).await
    }

    async fn extract_with_state<T, S>(&mut self, state: &S) -> Result<T, Refusal>
    where
        T: FromRequestParts<S>,
        S: Send + Sync,
    {
        let response = match T::from_request_parts(self, state).await {
            Ok(value) => return Ok(value),
            Err(rejection) => rejection.into_response(),
        };
        Err(Refusal::collect(response).await)
    }
}

mod sealed {
    #[expect(unnameable_types, reason = "no other crate implements it")]
    pub trait Sealed {}

    impl Sealed for http::request::Parts {}
}
