//! The limits on the size and the duration of a message.

use tokio::{
    io::AsyncReadExt,
    time::{Instant, sleep},
};
use tower_websocket::Config;

use super::{BUFFER, MIB, MILLI, assert_refused, received, seconds};
use crate::support::{
    pipe,
    wire::{BINARY, CONTINUATION, FIN, PING, TEXT, frame, header, write},
};

#[tokio::test(start_paused = true)]
async fn refuses_a_message_over_the_limit_at_its_head() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_message_size(500), BUFFER);
    write(&mut client, &frame(FIN | BINARY, &[1; 500])).await;
    assert_eq!(received(&mut socket).await, 500);
    // Only the head, and of its mask nothing.
    write(&mut client, &header(FIN | BINARY, 501, true)).await;
    assert_refused(socket, client, "TooLarge", 1009).await;
}

#[tokio::test(start_paused = true)]
async fn refuses_fragments_that_are_over_the_limit_together() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_message_size(500), BUFFER);
    for _ in 0..2 {
        write(&mut client, &frame(BINARY, &[1; 300])).await;
        write(&mut client, &frame(FIN | CONTINUATION, &[1; 200])).await;
        assert_eq!(received(&mut socket).await, 500);
    }
    write(&mut client, &frame(BINARY, &[1; 300])).await;
    write(&mut client, &header(FIN | CONTINUATION, 201, true)).await;
    assert_refused(socket, client, "TooLarge", 1009).await;
}

#[tokio::test(start_paused = true)]
async fn refuses_a_mebibyte_and_one_byte_by_default() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let message = frame(FIN | BINARY, &vec![1; MIB]);
    let (length, ()) = tokio::join!(received(&mut socket), write(&mut client, &message));
    assert_eq!(length, MIB);
    write(&mut client, &header(FIN | BINARY, MIB + 1, true)).await;
    assert_refused(socket, client, "TooLarge", 1009).await;
}

#[tokio::test(start_paused = true)]
async fn refuses_a_frame_over_the_limit_of_frames() {
    let (mut socket, mut client) = pipe::socket(Config::new().max_frame_size(100), BUFFER);
    let fragments = [
        frame(TEXT, &[b'x'; 100]),
        frame(CONTINUATION, &[b'x'; 100]),
        frame(FIN | CONTINUATION, &[b'x'; 100]),
    ];
    write(&mut client, &fragments.concat()).await;
    assert_eq!(received(&mut socket).await, 300);
    write(&mut client, &header(FIN | TEXT, 126, true)).await;
    assert_refused(socket, client, "TooLarge", 1009).await;
}

#[tokio::test(start_paused = true)]
async fn refuses_one_fragment_too_many() {
    for (config, allowed) in [
        (Config::new().max_fragments(20, 16), 20),
        (Config::new(), 16_384),
    ] {
        let (mut socket, mut client) = pipe::socket(config, 256 * 1024);
        let mut message = frame(BINARY, &[1]);
        for _ in 2..allowed {
            message.extend(frame(CONTINUATION, &[1]));
        }
        let begun = message.clone();
        message.extend(frame(FIN | CONTINUATION, &[1]));
        write(&mut client, &message).await;
        assert_eq!(received(&mut socket).await, allowed);
        // One of them is not the last.
        write(&mut client, &begun).await;
        write(&mut client, &frame(CONTINUATION, &[1])).await;
        write(&mut client, &frame(FIN | CONTINUATION, &[1])).await;
        assert_refused(socket, client, "TooManyFragments", 1008).await;
    }
}

#[tokio::test(start_paused = true)]
async fn refuses_one_empty_fragment_too_many() {
    for (config, allowed) in [
        (Config::new().max_fragments(100, 5), 5),
        (Config::new(), 16),
    ] {
        let (mut socket, mut client) = pipe::socket(config, BUFFER);
        let mut message = frame(TEXT, b"");
        for _ in 1..allowed {
            message.extend(frame(CONTINUATION, b""));
        }
        let begun = message.clone();
        // Neither one with a payload nor the last one counts.
        message.extend(frame(CONTINUATION, b"x"));
        message.extend(frame(FIN | CONTINUATION, b""));
        write(&mut client, &message).await;
        assert_eq!(received(&mut socket).await, 1);
        write(&mut client, &begun).await;
        write(&mut client, &frame(CONTINUATION, b"")).await;
        assert_refused(socket, client, "TooManyFragments", 1008).await;
    }
}

#[tokio::test(start_paused = true)]
async fn gives_a_message_a_minute_from_its_first_byte_to_its_last() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let message = frame(FIN | BINARY, &[1; 100]);
    write(&mut client, &message[..1]).await;
    sleep(seconds(60) - MILLI).await;
    write(&mut client, &message[1..]).await;
    assert_eq!(received(&mut socket).await, 100);

    let start = Instant::now();
    for byte in &message[..60] {
        write(&mut client, &[*byte]).await;
        sleep(seconds(1)).await;
    }
    assert_refused(socket, client, "TooSlow", 1008).await;
    assert_eq!(start.elapsed(), seconds(60));
}

#[tokio::test(start_paused = true)]
async fn gives_all_fragments_of_a_message_one_time_together() {
    let (socket, mut client) = pipe::socket(Config::new().assembly_timeout(seconds(7)), BUFFER);
    let start = Instant::now();
    write(&mut client, &frame(TEXT, b"x")).await;
    // Pings between the fragments do not extend the time.
    for _ in 0..3 {
        sleep(seconds(2)).await;
        write(&mut client, &frame(FIN | PING, b"")).await;
        write(&mut client, &frame(CONTINUATION, b"x")).await;
    }
    assert_refused(socket, client, "TooSlow", 1008).await;
    assert_eq!(start.elapsed(), seconds(7));
}

#[tokio::test(start_paused = true)]
async fn gives_a_control_frame_no_longer_than_a_message() {
    let (socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let start = Instant::now();
    write(&mut client, &frame(FIN | PING, b"half")[..7]).await;
    assert_refused(socket, client, "TooSlow", 1008).await;
    assert_eq!(start.elapsed(), seconds(60));
}

#[tokio::test(start_paused = true)]
async fn does_not_count_the_time_in_which_output_is_blocked_for_a_message() {
    let (mut socket, mut client) = pipe::socket(Config::new(), BUFFER);
    let message = frame(FIN | BINARY, &[1; 100]);
    write(&mut client, &message[..50]).await;
    sleep(MILLI).await;
    // The peer takes this slowly, and the other half of its message is not read before that.
    let sent = vec![7; 3 * BUFFER];
    socket.send(sent.clone()).await.unwrap();
    sleep(MILLI).await;
    write(&mut client, &message[50..]).await;
    let mut taken = vec![0; header(FIN | BINARY, sent.len(), false).len() + sent.len()];
    for piece in taken.chunks_mut(300) {
        sleep(seconds(9)).await;
        client.read_exact(piece).await.unwrap();
    }
    assert_eq!(received(&mut socket).await, 100);
}
