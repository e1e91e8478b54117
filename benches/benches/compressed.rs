//! Compressed messages: how many a second, and what large ones do to the connections beside them.
//!
//! ```text
//! cargo bench -p tower-websocket-benches --bench compressed
//! AGAINST=/path/to/another/build/of/it cargo bench -p tower-websocket-benches --bench compressed
//! ```
//!
//! The server is a process of its own on the first core, the clients are on the second one. `AGAINST` is
//! this program as another commit builds it, whose server takes turns with this one's.

use std::{
    env,
    error::Error,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use flate2::{Compress, FlushCompress};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_websocket::{BoxError, Config, Deflate, WebSocket, WebSocketLayer};
use tower_websocket_benches::cores::Cores;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Connections whose throughput is measured, a message outstanding on each.
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 15;
const TURN: Duration = Duration::from_millis(300);

/// Connections with large messages, those beside them, and the time from one small message to the next.
const LARGE: usize = 4;
const OTHERS: usize = 200;
const PAUSE: Duration = Duration::from_millis(20);
const SPELL: Duration = Duration::from_secs(10);

fn main() -> Result<(), BoxError> {
    // cargo adds one of its own.
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match arguments.next().as_deref() {
        Some("serve") => runtime.block_on(serve()),
        wanted => {
            let cores = Cores::pin();
            runtime.block_on(measure(&cores, wanted))
        }
    }
}

async fn serve() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let route = |deflate: Deflate| {
        let config = Config::new()
            .deflate(deflate.min_size(512))
            .max_message_size(64 * MIB);
        let layer = WebSocketLayer::new(echo).config(config);
        Router::new().route("/", get(async || "plain")).layer(layer)
    };
    let takeover = Deflate::new()
        .send_context_takeover()
        .receive_context_takeover();
    let app = Router::new()
        .nest_service("/alone", route(Deflate::new()))
        .nest_service("/takeover", route(takeover));
    Ok(axum::serve(listener, app).await?)
}

async fn echo(mut socket: WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.recv().await? {
        socket.send(message).await?;
    }
    Ok(())
}

/// A server in a process of its own, which ends with this value.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(cores: &Cores, program: &str) -> Result<Self, BoxError> {
        let mut child = cores
            .pinned_for_server(program)
            .arg("serve")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("the server says nothing")?;
        BufReader::new(output).read_line(&mut line)?;
        let address = line.trim().parse()?;
        Ok(Self { child, address })
    }

    /// Returns the microseconds that the process has run so far.
    fn cpu_time(&self) -> Result<f64, BoxError> {
        let account = fs::read_to_string(format!("/proc/{}/schedstat", self.child.id()))?;
        let nanoseconds = account.split(' ').next().ok_or("no account of the time")?;
        Ok(nanoseconds.parse::<f64>()? / 1e3)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client, which sends the same message again and again.
struct Client {
    stream: TcpStream,
    frame: Vec<u8>,
    read: Vec<u8>,
}

impl Client {
    async fn open(address: SocketAddr, path: &str, message: &[u8]) -> Result<Self, BoxError> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        if !head.starts_with(b"HTTP/1.1 101") {
            return Err(String::from_utf8_lossy(&head).into());
        }
        Ok(Self {
            stream,
            frame: frame(message)?,
            read: vec![0; 256 * KIB],
        })
    }

    /// Sends the message and reads the answer, the first byte of whose frame it returns.
    async fn echo(&mut self) -> Result<u8, BoxError> {
        let (mut reader, mut writer) = self.stream.split();
        let reading = async {
            let first = reader.read_u8().await?;
            let mut left = match reader.read_u8().await? {
                126 => u64::from(reader.read_u16().await?),
                127 => reader.read_u64().await?,
                len => u64::from(len),
            };
            while left > 0 {
                let most = self.read.len().min(left as usize);
                left -= reader.read_exact(&mut self.read[..most]).await? as u64;
            }
            Ok::<_, BoxError>(first)
        };
        let writing = async { Ok(writer.write_all(&self.frame).await?) };
        let (first, ()) = tokio::try_join!(reading, writing)?;
        Ok(first)
    }
}

/// Makes a client's frame of a message, masked with zeros, compressed from 512 bytes on.
fn frame(message: &[u8]) -> Result<Vec<u8>, BoxError> {
    let mut payload = message.to_vec();
    let mut first = 0x82;
    if message.len() >= 512 {
        let mut compress = Compress::new(flate2::Compression::new(6), false);
        payload = Vec::with_capacity(message.len() + 1000);
        compress.compress_vec(message, &mut payload, FlushCompress::Sync)?;
        payload.truncate(payload.len() - 4);
        first |= 0x40;
    }
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(len) if len < 126 => frame.push(0x80 | len as u8),
        Ok(len) => {
            frame.push(0x80 | 126);
            frame.extend(len.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    Ok(frame)
}

fn json(len: usize) -> Vec<u8> {
    let rows = (0..).map(|id| {
        format!(
            "{{\"id\":{},\"name\":\"user {id}\",\"on\":true}},",
            id * 7919
        )
    });
    rows.flat_map(String::into_bytes).take(len).collect()
}

/// Measures what is `wanted`, `rates` or `latency`, or both.
async fn measure(cores: &Cores, wanted: Option<&str>) -> Result<(), BoxError> {
    let mut programs = vec![env::current_exe()?.display().to_string()];
    programs.extend(env::var("AGAINST"));
    if wanted != Some("latency") {
        println!("messages a second, {CONNECTIONS} connections");
        for path in ["/alone", "/takeover"] {
            for len in [KIB, 64 * KIB] {
                rates(cores, &programs, path, len).await?;
            }
        }
    }
    if wanted == Some("rates") {
        return Ok(());
    }
    println!("round trips of {OTHERS} connections with 32 bytes, in milliseconds");
    for (large, len, what) in [
        (0, 0, "alone"),
        (LARGE, 64 * MIB, "beside 4 x 64 MiB of zeros"),
    ] {
        for path in ["/alone", "/takeover"] {
            for (index, program) in programs.iter().enumerate() {
                let server = Server::start(cores, program)?;
                let [middle, high, most, echoed] = latency(&server, path, large, len).await?;
                println!(
                    "{what}, {path}{}: p50 {middle:.1}, p99 {high:.1}, most {most:.1}, large echoed {echoed}",
                    ["", ", against"][index]
                );
            }
        }
    }
    Ok(())
}

async fn rates(cores: &Cores, programs: &[String], path: &str, len: usize) -> Result<(), BoxError> {
    let message = json(len);
    let mut servers = Vec::new();
    for program in programs {
        let server = Server::start(cores, program)?;
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(Client::open(server.address, path, &message).await?);
        }
        servers.push((server, clients));
    }
    let mut rates = vec![Vec::new(); servers.len()];
    let mut costs = rates.clone();
    for round in 0..=ROUNDS {
        for index in 0..servers.len() {
            let index = (index + round) % servers.len();
            let (server, clients) = &mut servers[index];
            let before = server.cpu_time()?;
            let (echoed, time, came_back) = turn(std::mem::take(clients)).await?;
            *clients = came_back;
            // The first one warms up.
            if round > 0 {
                rates[index].push(echoed / time.as_secs_f64());
                costs[index].push((server.cpu_time()? - before) / echoed);
            }
        }
    }
    let own = [&rates, &costs].map(|values| median(values[0].clone()));
    print!(
        "{path}, {len} bytes: {:.0} a second, {:.1} us of the server's CPU",
        own[0], own[1]
    );
    if servers.len() > 1 {
        let ratios = [&rates, &costs].map(|values| {
            let ratios = values[0]
                .iter()
                .zip(&values[1])
                .map(|(one, other)| one / other);
            median(ratios.collect())
        });
        print!("; of the other {:.3} and {:.3}", ratios[0], ratios[1]);
    }
    println!();
    Ok(())
}

/// Has all clients send for a turn, and returns how many messages came back in which time.
async fn turn(clients: Vec<Client>) -> Result<(f64, Duration, Vec<Client>), BoxError> {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut echoed = 0_usize;
            while start.elapsed() < TURN {
                if client.echo().await? & 0x40 == 0 {
                    return Err("not compressed".into());
                }
                echoed += 1;
            }
            Ok::<_, BoxError>((client, echoed))
        });
    }
    let (mut clients, mut all) = (Vec::new(), 0);
    while let Some(done) = tasks.join_next().await {
        let (client, echoed) = done??;
        clients.push(client);
        all += echoed;
    }
    Ok((all as f64, start.elapsed(), clients))
}

/// Returns the median, the 99th percentile and the maximum, and how many large messages came back.
async fn latency(
    server: &Server,
    path: &str,
    large: usize,
    len: usize,
) -> Result<[f64; 4], BoxError> {
    let mut tasks = JoinSet::new();
    let zeros = vec![0; len];
    for _ in 0..large {
        let mut client = Client::open(server.address, path, &zeros).await?;
        tasks.spawn(async move {
            let start = Instant::now();
            let mut echoed = 0;
            while start.elapsed() < SPELL {
                match timeout(SPELL, client.echo()).await {
                    Ok(first) => first?,
                    Err(_) => break,
                };
                echoed += 1;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>((echoed, Vec::new()))
        });
    }
    for number in 0..OTHERS {
        let mut client = Client::open(server.address, path, &[b'x'; 32]).await?;
        tasks.spawn(async move {
            let mut times = Vec::new();
            sleep(PAUSE * number as u32 / OTHERS as u32).await;
            let mut due = Instant::now();
            let end = due + SPELL;
            while due < end {
                // From the moment at which it was due: a server that does not answer for long has all
                // that is due meanwhile late.
                client.echo().await?;
                times.push(due.elapsed().as_secs_f64() * 1e3);
                due += PAUSE;
                sleep(due.saturating_duration_since(Instant::now())).await;
            }
            Ok((0, times))
        });
    }
    let (mut all, mut echoed) = (Vec::new(), 0);
    while let Some(done) = tasks.join_next().await {
        let (large, times) = done??;
        all.extend(times);
        echoed += large;
    }
    all.sort_by(f64::total_cmp);
    let at = |share: f64| all[((all.len() - 1) as f64 * share) as usize];
    Ok([at(0.5), at(0.99), at(1.0), f64::from(echoed)])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
