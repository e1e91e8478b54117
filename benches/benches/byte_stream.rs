//! Compares [`WebSocket::into_io`] with the same bytes as messages: 100 MiB in each direction at the same time.
//!
//! ```text
//! cargo bench -p tower-websocket-benches --bench byte_stream         # 15 rounds
//! cargo bench -p tower-websocket-benches --bench byte_stream -- 31
//! ```
//!
//! Server and client have a thread each, over TCP on loopback. `/io` uses `into_io`. The other two ways send messages
//! of 64 KiB: `/shared` clones one payload, and `/copied` copies each message from a slice, as a program with a buffer
//! has to do. Each round measures all three ways, and a ratio compares two rates of the same round. On a busy machine
//! the CPU time of both sides is more reliable than the rate.

use std::{env, fs, net::SocketAddr, thread, time::Instant};

use bytes::Bytes;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, split},
    net::TcpListener,
    runtime::{Builder, Runtime},
};
use tower_websocket::{BoxError, WebSocket, WebSocketLayer, client::connect};

const PIECE: usize = 64 * 1024;
const TOTAL: usize = 100 * 1024 * 1024;
const WAYS: [&str; 3] = ["/io", "/shared", "/copied"];

fn main() -> Result<(), BoxError> {
    // cargo adds the argument `--bench`.
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let rounds = arguments.next().map_or(Ok(15), |rounds| rounds.parse())?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || runtime()?.block_on(serve(listener)));
    let runtime = runtime()?;
    // The first transfers warm up the allocator and the sockets' buffers.
    for way in WAYS {
        runtime.block_on(transfer(address, way))?;
    }
    let mut rates = [const { Vec::new() }; 3];
    let mut ratios = [const { Vec::new() }; 2];
    let mut ticks = [0; 3];
    for round in 0..rounds {
        let mut now = [0.0; 3];
        for turn in 0..3 {
            let way = (round + turn) % 3;
            let before = cpu_ticks()?;
            now[way] = runtime.block_on(transfer(address, WAYS[way]))?;
            ticks[way] += cpu_ticks()? - before;
            rates[way].push(now[way]);
        }
        ratios[0].push(now[0] / now[1]);
        ratios[1].push(now[0] / now[2]);
    }
    for ((way, rates), ticks) in WAYS.iter().zip(&mut rates).zip(ticks) {
        let cpu = ticks as f64 * 10.0 / rounds as f64;
        let rate = median(rates);
        println!("{way:<8} {rate:6.0} MiB/s in each direction, {cpu:4.0} ms of CPU");
    }
    for (way, ratios) in WAYS[1..].iter().zip(&mut ratios) {
        println!("/io ÷ {way:<8} {:.3}", median(ratios));
    }
    Ok(())
}

/// Returns the CPU time of this process so far, in ticks of 10 ms.
fn cpu_ticks() -> Result<u64, BoxError> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in parentheses, may contain anything.
    let (_, fields) = stat.rsplit_once(") ").ok_or("no program name")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u64>);
    let mut next = || times.next().ok_or("too few fields");
    Ok(next()?? + next()??)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

async fn serve(listener: std::net::TcpListener) -> Result<(), BoxError> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let layer = WebSocketLayer::new(async |socket: WebSocket| {
        let way = socket.request().path().to_owned();
        both_ways(socket, &way).await
    });
    let service = layer.into_service();
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection.with_upgrades());
    }
}

/// Returns the rate of one transfer, in MiB a second and direction.
async fn transfer(address: SocketAddr, way: &str) -> Result<f64, BoxError> {
    let (socket, _) = connect(format!("ws://{address}{way}")).await?;
    let start = Instant::now();
    both_ways(socket, way).await?;
    Ok((TOTAL >> 20) as f64 / start.elapsed().as_secs_f64())
}

async fn both_ways(socket: WebSocket, way: &str) -> Result<(), BoxError> {
    let payload = Bytes::from(vec![7; PIECE]);
    match way {
        "/io" => {
            let (mut reader, mut writer) = split(socket.into_io());
            let writes = async {
                for _ in 0..TOTAL / PIECE {
                    writer.write_all(&payload).await?;
                }
                writer.flush().await
            };
            let reads = async {
                let mut buffer = vec![0; PIECE];
                let mut left = TOTAL;
                while left > 0 {
                    left -= reader.read(&mut buffer).await?;
                }
                Ok(())
            };
            tokio::try_join!(writes, reads)?;
        }
        _ => {
            let (mut write_half, mut read_half) = socket.into_split();
            let writes = async {
                for _ in 0..TOTAL / PIECE {
                    let message = match way {
                        "/shared" => payload.clone(),
                        _ => Bytes::copy_from_slice(&payload),
                    };
                    write_half.send(message).await?;
                }
                write_half.flush().await?;
                Ok::<_, BoxError>(())
            };
            let reads = async {
                let mut left = TOTAL;
                while left > 0 {
                    let message = read_half.recv().await?.ok_or("the peer closed")?;
                    left -= message.len();
                }
                Ok(())
            };
            tokio::try_join!(writes, reads)?;
        }
    }
    Ok(())
}
