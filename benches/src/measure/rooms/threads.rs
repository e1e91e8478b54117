//! Connections in memory, and threads that use a hub without a network.

use std::{
    fs,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::DuplexStream,
    runtime::{Builder, Runtime},
};
use tower_websocket::{Config, WebSocket};

use crate::{BoxError, cores::Cores, load::frames::Size};

/// The size of sent messages.
pub(super) const SIZE: Size = Size(64);

/// Connections whose peers read nothing. They are driven only while the runtime runs.
#[derive(Debug)]
pub(super) struct Connections {
    pub(super) runtime: Runtime,
    pub(super) sockets: Vec<WebSocket>,
    _peers: Vec<DuplexStream>,
}

impl Connections {
    pub(super) fn new(count: usize) -> Result<Self, BoxError> {
        const MINUTE: Duration = Duration::from_secs(60);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let config = Config::new()
            .keepalive(10 * MINUTE, MINUTE)
            .write_timeout(10 * MINUTE);
        let guard = runtime.enter();
        let (mut sockets, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (stream, peer) = tokio::io::duplex(1024);
            sockets.push(WebSocket::from_io(stream, config.clone()));
            peers.push(peer);
        }
        drop(guard);
        Ok(Self {
            runtime,
            sockets,
            _peers: peers,
        })
    }
}

/// The work of a thread.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    /// The number of repetitions.
    pub(super) times: f64,
    /// Its CPU time in seconds.
    pub(super) cpu: f64,
    /// The elapsed time in seconds.
    pub(super) took: f64,
}

impl Done {
    /// Returns the CPU nanoseconds of one repetition.
    pub(super) fn cpu_each(self) -> f64 {
        self.cpu * 1e9 / self.times
    }
}

/// How often a call of a work repeats it. Between two calls, the thread checks whether it has to end.
pub(super) const BATCH: usize = 256;

/// Runs each work for `time`, in a thread and on a core of its own. A call of a work repeats it [`BATCH`] times.
pub(super) fn run<W: FnMut() -> Result<(), BoxError> + Send>(
    cores: &Cores,
    time: Duration,
    works: Vec<(usize, W)>,
) -> Result<Vec<Done>, BoxError> {
    let barrier = Barrier::new(works.len());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = works
            .into_iter()
            .map(|(core, mut work)| {
                let (barrier, is_over) = (&barrier, &is_over);
                scope.spawn(move || {
                    cores.pin_thread(core);
                    work()?;
                    barrier.wait();
                    let cpu = thread_cpu()?;
                    let begun = Instant::now();
                    let mut times = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        work()?;
                        times += BATCH;
                        if begun.elapsed() > time {
                            is_over.store(true, Ordering::Relaxed);
                        }
                    }
                    Ok(Done {
                        times: times as f64,
                        cpu: thread_cpu()? - cpu,
                        took: begun.elapsed().as_secs_f64(),
                    })
                })
            })
            .collect();
        let done = threads.into_iter().map(|thread| {
            let done: Result<Done, BoxError> =
                thread.join().map_err(|_| BoxError::from("panicked"))?;
            done
        });
        done.collect()
    })
}

/// Returns the CPU time of this thread in seconds.
fn thread_cpu() -> Result<f64, BoxError> {
    // The scheduler's count is up to date after a yield.
    thread::yield_now();
    let account = fs::read_to_string("/proc/thread-self/schedstat")?;
    let running = account.split(' ').next().unwrap_or_default();
    Ok(running.parse::<f64>()? / 1e9)
}
