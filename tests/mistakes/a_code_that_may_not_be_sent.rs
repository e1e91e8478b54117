//! A constant close code that a Close frame may not have.
// error: E0080
// says: this close code may not be sent

use tower_websocket::CloseCode;

const NO_CLOSE: CloseCode = CloseCode::of::<1006>();

fn main() {
    println!("{NO_CLOSE}");
}
