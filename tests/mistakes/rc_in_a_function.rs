//! An `Rc` that lives across an await of an `async fn`.
// error: future cannot be sent between threads safely
// says: `Rc<i32>`
// says: await occurs here

use std::rc::Rc;

use tower_websocket::{Error, WebSocket, WebSocketLayer};

async fn counts(mut socket: WebSocket) -> Result<(), Error> {
    let number = Rc::new(1);
    socket.send("Hello").await?;
    drop(number);
    Ok(())
}

fn main() {
    let _ = WebSocketLayer::new(counts);
}
