//! axum's extractors in a layer's handler.

use std::future::Future;

use axum_core::{extract::FromRequestParts, response::IntoResponse};
use http::request::Parts;

use crate::handshake::Refusal;

/// Runs axum's extractors in [`Handler::accept`](crate::Handler::accept) and [`decide`](crate::decide).
///
/// A rejection becomes a [`Refusal`] with the same status, headers and body. The methods have the names of those of
/// axum's own `RequestPartsExt`. `?` does not convert the errors of axum's trait into a [`Refusal`], so import this
/// one instead. The trait is sealed.
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
    /// The rejection of the extractor, as a [`Refusal`].
    ///
    /// # Cancel safety
    ///
    /// The same as that of the extractor.
    fn extract<T>(&mut self) -> impl Future<Output = Result<T, Refusal>> + Send
    where
        T: FromRequestParts<()>;

    /// Extracts a value that needs a state. The handler passes the state.
    ///
    /// # Errors
    ///
    /// The rejection of the extractor, as a [`Refusal`].
    ///
    /// # Cancel safety
    ///
    /// The same as that of the extractor.
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
