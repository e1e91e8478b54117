//! A server in a process of its own, on a core of its own, and what the kernel knows of it.

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    str::FromStr,
    thread,
    time::{Duration, Instant},
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
        let command = if let Some(program) = foreign(name) {
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
        Self::spawn(name, command)
    }

    /// Starts the server called `name`, one of this binary's, under valgrind's callgrind.
    ///
    /// # Errors
    ///
    /// When it does not start, or is another program.
    pub fn start_under_callgrind(name: &str, cores: &Cores) -> Result<Self, BoxError> {
        if foreign(name).is_some() {
            return Err(format!("{name} is another program, which is not counted").into());
        }
        let mut command = cores.pinned_for_server("valgrind");
        command
            .args([
                "--tool=callgrind",
                "--callgrind-out-file=/dev/null",
                "--vgdb=no",
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

    /// Waits until all its threads sleep: it has nothing more to do.
    ///
    /// # Errors
    ///
    /// When it does not come to rest in ten seconds, or is gone.
    pub fn wait_until_idle(&self) -> Result<(), BoxError> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.is_idle()? {
            if Instant::now() > deadline {
                return Err("the server does not come to rest".into());
            }
            thread::sleep(Duration::from_micros(20));
        }
        Ok(())
    }

    fn is_idle(&self) -> Result<bool, BoxError> {
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = fs::read_to_string(task?.path().join("stat"))?;
            // The state follows the name, which is in parentheses and may hold some itself.
            let state = stat.rsplit(") ").next().unwrap_or_default();
            if !state.starts_with('S') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Ends a server that was started under callgrind, and returns the instructions of its whole life.
    ///
    /// # Errors
    ///
    /// When callgrind has counted nothing.
    pub fn finish_under_callgrind(mut self) -> Result<u64, BoxError> {
        // The server ends with its standard input.
        drop(self.child.stdin.take());
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut said)?;
        }
        let collected = said
            .lines()
            .find_map(|line| line.split("Collected : ").nth(1))
            .ok_or_else(|| format!("valgrind counted nothing: {said}"))?;
        Ok(collected.trim().parse()?)
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
