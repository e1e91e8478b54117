//! An `Rc` that lives across an await.
// error: future cannot be sent between threads safely
// says: `Rc<i32>`
// says: await occurs here

use std::rc::Rc;

use tower_websocket::{Error, WebSocket, WebSocketLayer};

fn main() {
    let _ = WebSocketLayer::new(async |mut socket: WebSocket| {
        let number = Rc::new(1);
        socket.send("Hello").await?;
        drop(number);
        Ok::<_, Error>(())
    });
}
