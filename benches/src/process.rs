//! Runs a server in a separate process on its own core, and reads the kernel's figures for it.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use crate::{
    BoxError,
    cores::Cores,
    server::{self, Threads},
};

/// The name of Bun, which is an external program.
const BUN: &str = "bun";

/// The name of µWebSockets, which is an external program.
const UWEBSOCKETS: &str = "uwebsockets";

/// The names of the same with a room.
const BUN_ROOM: &str = "room-bun";
const UWEBSOCKETS_ROOM: &str = "room-uwebsockets";

/// The prefix of the names of servers of another build of this program, whose path is in the variable `OTHER`.
pub const OTHER: &str = "other-";

/// A running server, which is killed when this value is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    address: SocketAddr,
}

impl Process {
    /// Starts the server called `name` and waits until it listens.
    ///
    /// # Errors
    ///
    /// If the server does not start.
    pub fn start(name: &str, threads: Threads, cores: &Cores) -> Result<Self, BoxError> {
        let command = if let Some(program) = external_program(name) {
            let mut command = cores.pinned_for_server(&program);
            let script = match name {
                BUN => Some("peers/bun.js"),
                BUN_ROOM => Some("peers/bun-room.js"),
                _ => None,
            };
            command.args(script.map(|script| Path::new(env!("CARGO_MANIFEST_DIR")).join(script)));
            command
        } else {
            let (program, name) = match name.strip_prefix(OTHER) {
                Some(name) => (
                    env::var("OTHER").map_err(|error| format!("OTHER: {error}"))?,
                    name,
                ),
                None => (env::current_exe()?.display().to_string(), name),
            };
            let mut command = cores.pinned_for_server(&program);
            command.args(["serve", name, "--attached"]);
            if let Some(workers) = threads.workers {
                command.args(["--workers", &workers.to_string()]);
            }
            if let Some(polls) = threads.event_interval {
                command.args(["--event-interval", &polls.to_string()]);
            }
            command
        };
        Self::spawn(name, command)
    }

    /// Starts the server called `name` of this binary under valgrind's callgrind.
    ///
    /// # Errors
    ///
    /// If the server does not start, or is an external program.
    pub fn start_under_callgrind(name: &str, cores: &Cores) -> Result<Self, BoxError> {
        if external_program(name).is_some() {
            return Err(format!("{name} is an external program, which cannot be counted").into());
        }
        let mut command = cores.pinned_for_server("valgrind");
        command
            .args([
                "--tool=callgrind",
                "--callgrind-out-file=/dev/null",
                "--vgdb=no",
                &format!("--zero-before=*{}", server::ZERO_COUNTS),
            ])
            .arg(env::current_exe()?)
            .args(["serve", name, "--attached"])
            .stderr(Stdio::piped());
        Self::spawn(name, command)
    }

    fn spawn(name: &str, mut command: Command) -> Result<Self, BoxError> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let mut stdout = child.stdout.take().map(BufReader::new);
        if let Some(stdout) = &mut stdout {
            stdout.read_line(&mut line)?;
        }
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .and_then(|address| address.parse().ok());
        let Some(address) = address else {
            child.kill()?;
            child.wait()?;
            return Err(format!("{name} does not print its address: {line:?}").into());
        };
        Ok(Self {
            child,
            stdout,
            address,
        })
    }

    /// Returns the address on which the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the CPU time of all its threads, from the scheduler's count in nanoseconds.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn cpu_time(&self) -> Result<Duration, BoxError> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let account = fs::read_to_string(task?.path().join("schedstat"))?;
            let running = account.split(' ').next().unwrap_or_default();
            nanoseconds += running.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Waits until all its threads sleep.
    ///
    /// # Errors
    ///
    /// If the threads do not all sleep within ten seconds, or the process has ended.
    pub fn wait_until_idle(&self) -> Result<(), BoxError> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.is_idle()? {
            if Instant::now() > deadline {
                return Err("the server does not become idle".into());
            }
            thread::sleep(Duration::from_micros(20));
        }
        Ok(())
    }

    fn is_idle(&self) -> Result<bool, BoxError> {
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = fs::read_to_string(task?.path().join("stat"))?;
            // The state follows the name in parentheses. The name may contain parentheses.
            let state = stat.rsplit(") ").next().unwrap_or_default();
            if !state.starts_with('S') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Has callgrind forget the instructions so far.
    ///
    /// # Errors
    ///
    /// If the server does not answer.
    pub fn zero_counts(&mut self) -> Result<(), BoxError> {
        let (Some(stdin), Some(stdout)) = (&mut self.child.stdin, &mut self.stdout) else {
            return Err("the server has no pipes".into());
        };
        stdin.write_all(b"0")?;
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        match line.trim() {
            server::ZERO_COUNTS => Ok(()),
            _ => Err(format!("not an answer: {line:?}").into()),
        }
    }

    /// Ends a server that runs under callgrind, and returns the number of its instructions since the last
    /// [`zero_counts`](Self::zero_counts).
    ///
    /// # Errors
    ///
    /// If callgrind has counted nothing.
    pub fn finish_under_callgrind(mut self) -> Result<u64, BoxError> {
        // The server exits at the end of its standard input.
        drop(self.child.stdin.take());
        let mut report = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut report)?;
        }
        let collected = report
            .lines()
            .find_map(|line| line.split("Collected : ").nth(1))
            .ok_or_else(|| format!("valgrind counted nothing: {report}"))?;
        Ok(collected.trim().parse()?)
    }

    /// Returns its resident memory in bytes.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn memory(&self) -> Result<u64, BoxError> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let kibibytes = rollup
            .lines()
            .find_map(|line| line.strip_prefix("Rss:"))
            .and_then(|rest| rest.split_whitespace().next())
            .ok_or("no Rss in smaps_rollup")?;
        Ok(u64::from_str(kibibytes)? * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors mean that the process has already ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns whether the server called `name` can be started. External programs may be missing.
#[must_use]
pub fn is_available(name: &str) -> bool {
    let Some(program) = external_program(name) else {
        return true;
    };
    let version = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Returns the external program of the server called `name`, or `None` for an engine of this binary.
fn external_program(name: &str) -> Option<String> {
    match name {
        BUN | BUN_ROOM => Some(env::var("BUN").unwrap_or_else(|_| "bun".to_owned())),
        UWEBSOCKETS => Some(env::var("UWEBSOCKETS").unwrap_or_else(|_| {
            // The output of `peers/uwebsockets/build`.
            concat!(env!("CARGO_MANIFEST_DIR"), "/../target/uwebsockets/echo").to_owned()
        })),
        UWEBSOCKETS_ROOM => Some(env::var("UWEBSOCKETS_ROOM").unwrap_or_else(|_| {
            concat!(env!("CARGO_MANIFEST_DIR"), "/../target/uwebsockets/room").to_owned()
        })),
        _ => None,
    }
}
