//! Peers that break a rule: each gets a Close that names the rule, even while it is still sending.

mod support;

use std::{net::SocketAddr, time::Duration};

use support::{tcp, wire};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};
use tower_websocket::{Config, Echo, WebSocketLayer};
use wire::{
    BINARY, CLOSE, CONTINUATION, FIN, PING, TEXT, frame, header, open, read_close, read_frame,
    write,
};

const GUARD: Duration = Duration::from_secs(10);
const MIB: usize = 1024 * 1024;

async fn serve(config: Config) -> SocketAddr {
    let echo = WebSocketLayer::new(Echo::new()).config(config);
    tcp::serve(echo.into_service()).await
}

/// Every violation, with the code that answers it.
fn violations() -> Vec<(&'static str, u16, Vec<u8>)> {
    let with_rsv = |bit: u8| frame(FIN | TEXT | bit, b"x");
    let close_payload = |payload: &[u8]| frame(FIN | CLOSE, payload);
    vec![
        (
            "message of 1 MiB + 1 byte",
            1009,
            frame(FIN | TEXT, &vec![b'x'; MIB + 1]),
        ),
        (
            "fragments of 1 MiB + 1 byte",
            1009,
            [
                frame(BINARY, &vec![0; MIB]),
                frame(FIN | CONTINUATION, &[0]),
            ]
            .concat(),
        ),
        ("header that declares 2^63 - 1 bytes", 1009, {
            let mut head = vec![FIN | BINARY, 0xff];
            head.extend((u64::MAX >> 1).to_be_bytes());
            head.extend([0; 4]);
            head
        }),
        (
            "text that is not UTF-8",
            1007,
            frame(FIN | TEXT, b"\xce\xba\xff"),
        ),
        (
            "fragmented text that is not UTF-8",
            1007,
            [frame(TEXT, b"\xce"), frame(FIN | CONTINUATION, b"\xff")].concat(),
        ),
        (
            "text cut inside a character",
            1007,
            frame(FIN | TEXT, b"\xce"),
        ),
        (
            "unmasked frame",
            1002,
            [header(FIN | TEXT, 5, false), b"Hello".to_vec()].concat(),
        ),
        ("first reserved bit", 1002, with_rsv(0x40)),
        ("second reserved bit", 1002, with_rsv(0x20)),
        ("third reserved bit", 1002, with_rsv(0x10)),
        ("reserved data opcode", 1002, frame(FIN | 0x3, b"")),
        ("reserved control opcode", 1002, frame(FIN | 0xb, b"")),
        ("fragmented ping", 1002, frame(PING, b"")),
        ("ping of 126 bytes", 1002, frame(FIN | PING, &[0; 126])),
        (
            "continuation of nothing",
            1002,
            frame(FIN | CONTINUATION, b"x"),
        ),
        (
            "message inside a message",
            1002,
            [frame(TEXT, b"a"), frame(FIN | TEXT, b"b")].concat(),
        ),
        ("Close of one byte", 1002, close_payload(&[3])),
        ("Close with 999", 1002, close_payload(&999u16.to_be_bytes())),
        (
            "Close with 1005",
            1002,
            close_payload(&1005u16.to_be_bytes()),
        ),
        (
            "Close with 1006",
            1002,
            close_payload(&1006u16.to_be_bytes()),
        ),
        (
            "Close with 5000",
            1002,
            close_payload(&5000u16.to_be_bytes()),
        ),
        (
            "Close with a reason that is not UTF-8",
            1007,
            close_payload(b"\x03\xe8\xff"),
        ),
    ]
}

#[tokio::test]
async fn tells_the_peer_which_rule_it_broke() {
    let address = serve(Config::new()).await;
    for (name, code, bytes) in violations() {
        let mut client = open(address, "/").await;
        write(&mut client, &bytes).await;
        let close = timeout(GUARD, read_close(&mut client)).await;
        assert_eq!(close.expect(name), Some(code), "{name}");
        let mut rest = Vec::new();
        let end = timeout(GUARD, client.read_to_end(&mut rest))
            .await
            .expect(name);
        assert_eq!(end.expect(name), 0, "{name}: nothing follows the Close");
    }
}

#[tokio::test]
async fn tells_the_peer_also_while_it_is_still_sending() {
    let address = serve(Config::new()).await;
    let noise = vec![0; 4 * MIB];
    for (name, code, bytes) in violations() {
        let mut client = open(address, "/").await;
        // Writes to the end before it reads, as a client does that sends in a loop.
        write(&mut client, &bytes).await;
        client.write_all(&noise).await.expect(name);
        let close = timeout(GUARD, read_close(&mut client)).await;
        assert_eq!(close.expect(name), Some(code), "{name}");
    }
}

#[tokio::test]
async fn answers_what_came_before_the_violation() {
    let mut client = open(serve(Config::new()).await, "/").await;
    let segment = [frame(FIN | TEXT, b"good"), frame(FIN | TEXT, b"\xff")].concat();
    write(&mut client, &segment).await;
    assert_eq!(read_frame(&mut client).await.unwrap().payload, b"good");
    assert_eq!(read_close(&mut client).await, Some(1007));
}

#[tokio::test]
async fn accepts_a_message_of_exactly_the_limit() {
    let mut client = open(serve(Config::new()).await, "/").await;
    let message = vec![7; MIB];
    write(&mut client, &frame(FIN | BINARY, &message)).await;
    let echo = timeout(GUARD, read_frame(&mut client))
        .await
        .unwrap()
        .unwrap();
    assert!(
        echo.payload == message,
        "{} bytes came back",
        echo.payload.len()
    );
}

#[tokio::test]
async fn follows_the_limit_that_is_set() {
    let mut client = open(serve(Config::new().max_message_size(10)).await, "/").await;
    write(&mut client, &frame(FIN | TEXT, b"0123456789")).await;
    assert_eq!(
        read_frame(&mut client).await.unwrap().payload,
        b"0123456789"
    );
    write(&mut client, &frame(FIN | TEXT, b"0123456789a")).await;
    assert_eq!(read_close(&mut client).await, Some(1009));
}
