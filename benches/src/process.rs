//! A server in a process of its own, on a core of its own, and what the kernel knows of it.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    str::FromStr,
    time::Duration,
};

use crate::{BoxError, cores::Cores, server::Threads};

/// The name that stands for Bun, which is no engine of this binary.
const BUN: &str = "bun";

/// The name that stands for µWebSockets, which is none either.
const UWEBSOCKETS: &str = "uwebsockets";

/// A running server, which ends with this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    /// Starts the server called `name` and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub fn start(name: &str, threads: Threads, cores: &Cores) -> Result<Self, BoxError> {
        let mut command = if let Some(program) = foreign(name) {
            let mut command = cores.pinned_for_server(&program);
            if name == BUN {
                let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/bun.js");
                command.arg(script);
            }
            command
        } else {
            let mut command = cores.pinned_for_server(&env::current_exe()?.display().to_string());
            command.args(["serve", name, "--attached"]);
            if let Some(workers) = threads.workers {
                command.args(["--workers", &workers.to_string()]);
            }
            if let Some(polls) = threads.event_interval {
                command.args(["--event-interval", &polls.to_string()]);
            }
            command
        };
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .and_then(|address| address.parse().ok());
        let Some(address) = address else {
            child.kill()?;
            child.wait()?;
            return Err(format!("{name} does not say where it listens: {line:?}").into());
        };
        Ok(Self { child, address })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the CPU time of all its threads, from the scheduler's own account in nanoseconds.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn cpu_time(&self) -> Result<Duration, BoxError> {
        let mut nanoseconds = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let account = fs::read_to_string(task?.path().join("schedstat"))?;
            let running = account.split(' ').next().unwrap_or_default();
            nanoseconds += running.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }

    /// Returns the bytes of memory that are its own, shared pages counted by their share.
    ///
    /// # Errors
    ///
    /// When the process is gone.
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
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns whether the server called `name` can be started: engines always, others where their
/// program is found.
#[must_use]
pub fn is_there(name: &str) -> bool {
    let Some(program) = foreign(name) else {
        return true;
    };
    let version = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    version.is_ok_and(|status| status.success())
}

/// Returns the program that is the server called `name`, or `None` if that is an engine.
fn foreign(name: &str) -> Option<String> {
    match name {
        BUN => Some(env::var("BUN").unwrap_or_else(|_| "bun".to_owned())),
        UWEBSOCKETS => Some(env::var("UWEBSOCKETS").unwrap_or_else(|_| {
            // Where `peers/uwebsockets/build` puts it.
            concat!(env!("CARGO_MANIFEST_DIR"), "/../target/uwebsockets/echo").to_owned()
        })),
        _ => None,
    }
}
