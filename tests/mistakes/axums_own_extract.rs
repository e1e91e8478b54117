//! axum's own `RequestPartsExt` in a decision.
// error: E0277
// says: `?` couldn't convert the error to `Refusal`

use axum::{RequestPartsExt, extract::Path};
use http::request::Parts;
use tower_websocket::{Accept, BoxError, Handler, Refusal, WebSocket};

struct Chat;

impl Handler for Chat {
    async fn accept(&self, request: &mut Parts) -> Result<Accept, Refusal> {
        let Path(room): Path<String> = request.extract().await?;
        Ok(Accept::new().carry(room))
    }

    async fn handle(&self, _: WebSocket) -> Result<(), BoxError> {
        Ok(())
    }
}

fn main() {}
