//! Parts of a test that measure memory, each in a process of its own.
//!
//! They measure the anonymous part of the resident set in `/proc/self/smaps_rollup`, which the kernel counts page by
//! page. Without this file, nothing is measured.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{env, fs, process::Command};

pub(crate) const KIB: usize = 1024;
pub(crate) const MIB: usize = 1024 * KIB;

/// The environment variable that names the part to the process that runs it.
const PART: &str = "TOWER_WEBSOCKET_MEMORY_PART";

/// Runs the parts of the test called `test` one after the other. The test must do nothing else.
pub(crate) fn measure(test: &str, parts: &[(&str, fn())]) {
    measure_with(&[], test, parts);
}

/// Like [`measure`], with these environment variables in addition.
pub(crate) fn measure_with(environment: &[(&str, &str)], test: &str, parts: &[(&str, fn())]) {
    if let Some(wanted) = env::var_os(PART) {
        let (_, part) = parts.iter().find(|(name, _)| *name == wanted).unwrap();
        return part();
    }
    if resident().is_none() {
        println!("skipped: this system has no /proc/self/smaps_rollup to measure memory with");
        return;
    }
    let mut failed = Vec::new();
    for (name, _) in parts {
        let start = std::time::Instant::now();
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg(test)
            .env(PART, name)
            .envs(environment.iter().copied())
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        println!("{name}, in {} ms:", start.elapsed().as_millis());
        let told = String::from_utf8(output.stdout).unwrap();
        for line in told.lines().filter(|line| line.starts_with("- ")) {
            println!("  {line}");
        }
        if !output.status.success() {
            println!("{}", String::from_utf8_lossy(&output.stderr));
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Runs a part with a paused clock: time advances only when all tasks are idle.
pub(crate) fn run(part: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(part);
}

/// Returns how many bytes of memory that no file backs are resident.
pub(crate) fn resident() -> Option<usize> {
    let table = fs::read_to_string("/proc/self/smaps_rollup").ok()?;
    let line = table.lines().find(|line| line.starts_with("Anonymous:"))?;
    let kib: usize = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * KIB)
}

/// The growth of resident memory since the start.
pub(crate) struct Growth {
    start: usize,
    pub(crate) most: usize,
}

impl Growth {
    pub(crate) fn start() -> Self {
        let start = resident().unwrap();
        Self { start, most: 0 }
    }

    /// Has the same start as `other`, and no samples.
    pub(crate) const fn since(other: &Self) -> Self {
        let start = other.start;
        Self { start, most: 0 }
    }

    /// Returns the growth until now.
    pub(crate) fn sample(&mut self) -> usize {
        let now = resident().unwrap().saturating_sub(self.start);
        self.most = self.most.max(now);
        now
    }

    /// Prints the largest sample, and asserts that it is at most `bound` bytes.
    pub(crate) fn assert_within(&self, bound: usize, what: &str) {
        println!("- {what}: {} KiB of {}", self.most / KIB, bound / KIB);
        assert!(self.most <= bound, "{what}: {} KiB", self.most / KIB);
    }
}
