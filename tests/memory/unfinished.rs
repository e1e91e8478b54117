//! Messages that do not end.

use tokio::{
    io::{AsyncWriteExt, duplex},
    time::{Instant, sleep, timeout},
};
use tower_websocket::{Config, Message, WebSocket};

use super::{PIPE, SECOND, run};
use crate::support::{
    handlers::receive,
    memory::{Growth, KIB, MIB},
    wire::{BINARY, CONTINUATION, FIN, TEXT, frame, header, read_close, write},
};

/// Sends what `next` says, also after the Close, until it says nothing or the server is gone;
/// returns how much it had sent when the Close came, and its code.
async fn tell<'a>(
    config: Config,
    growth: &mut Growth,
    mut next: impl FnMut(usize) -> Option<&'a [u8]>,
) -> (usize, Option<u16>) {
    let (server, client) = duplex(PIPE);
    let receiver = receive(WebSocket::from_io(server, config));
    let (mut reader, mut writer) = tokio::io::split(client);
    let close = tokio::spawn(async move { read_close(&mut reader).await });
    let mut sent = 0;
    let mut sampled = 0;
    let mut closed_after = None;
    while let Some(bytes) = next(sent) {
        if writer.write_all(bytes).await.is_err() {
            break;
        }
        sent += bytes.len();
        if closed_after.is_none() && close.is_finished() {
            closed_after = Some(sent);
        }
        if sent - sampled >= 256 * KIB || closed_after == Some(sent) {
            sampled = sent;
            growth.sample();
        }
    }
    let code = timeout(120 * SECOND, close).await.unwrap().unwrap();
    growth.sample();
    drop(writer);
    let _ = receiver.await.unwrap();
    (closed_after.unwrap_or(sent), code)
}

pub(crate) fn empty_fragments() {
    run(async {
        let mut growth = Growth::start();
        let first = frame(TEXT, b"");
        let more = frame(CONTINUATION, b"").repeat(1000);
        let (sent, code) = tell(Config::new(), &mut growth, |sent| {
            match sent / first.len() {
                0 => Some(&first),
                1..2_000_000 => Some(&more),
                _ => None,
            }
        })
        .await;
        let fragments = sent / first.len();
        println!("- closed with {code:?} when {fragments} were sent");
        assert_eq!(code, Some(1008));
        // It was 17 that made the server close; the others were on their way.
        assert!(fragments <= 1 + PIPE, "{fragments}");
        growth.assert_within(64 * KIB, "growth");
    });
}

/// Without limits they are a message as any other.
pub(crate) fn unlimited_empty_fragments() {
    run(async {
        let mut growth = Growth::start();
        let (server, mut client) = duplex(PIPE);
        let config = Config::new().max_fragments(u32::MAX, u32::MAX);
        let mut socket = WebSocket::from_io(server, config);
        let receiving = tokio::spawn(async move { socket.recv().await });
        let thousand = frame(CONTINUATION, b"").repeat(1000);
        write(&mut client, &frame(TEXT, b"all")).await;
        for _ in 0..2000 {
            write(&mut client, &thousand).await;
        }
        growth.sample();
        write(&mut client, &frame(FIN | CONTINUATION, b" of it")).await;
        let message = receiving.await.unwrap().unwrap().unwrap();
        assert_eq!(message, Message::from("all of it"));
        growth.assert_within(64 * KIB, "growth");
    });
}

pub(crate) fn endless(opcode: u8, len: usize, code: u16) {
    run(async {
        let fragment = vec![b'x'; len];
        let first = frame(opcode, &fragment);
        let more = frame(CONTINUATION, &fragment);
        let mut growth = Growth::start();
        let (sent, closed) = tell(Config::new(), &mut growth, |sent| {
            (sent < 4 * MIB).then_some(if sent == 0 { &first } else { &more })
        })
        .await;
        println!("- closed with {closed:?} after {sent} bytes");
        assert_eq!(closed, Some(code));
        // The allocator keeps buffers that the message has outgrown.
        growth.assert_within(MIB + 128 * KIB, "growth");
    });
}

pub(crate) fn frames_over_the_limit() {
    run(async {
        let mut growth = Growth::start();
        for declared in [MIB + 1, 1 << 40, usize::MAX >> 1] {
            let head = header(FIN | BINARY, declared, true);
            let (_, code) = tell(Config::new(), &mut growth, |sent| {
                (sent == 0).then_some(&head)
            })
            .await;
            println!("- a frame of {declared} bytes: closed with {code:?}");
            assert_eq!(code, Some(1009), "{declared}");
        }
        growth.assert_within(64 * KIB, "growth");
    });
}

pub(crate) fn a_byte_a_second() {
    run(async {
        let mut growth = Growth::start();
        let (server, mut client) = duplex(PIPE);
        let start = Instant::now();
        let receiver = receive(WebSocket::from_io(server, Config::new()));
        write(&mut client, &header(FIN | BINARY, MIB, true)).await;
        for _ in 0..59 {
            sleep(SECOND).await;
            write(&mut client, b"x").await;
        }
        assert!(!receiver.is_finished());
        assert_eq!(read_close(&mut client).await, Some(1008));
        assert_eq!(start.elapsed(), 60 * SECOND);
        println!("- closed with 1008 after 60 s");
        growth.sample();
        growth.assert_within(64 * KIB, "growth");
    });
}
