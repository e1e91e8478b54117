//! Pins the servers to one core and the load generator to another.

use std::{fs, process::Command, thread};

/// The cores of the processes.
#[derive(Clone, Debug)]
pub struct Cores {
    /// Whether `taskset` and a second core are available.
    pinned: bool,
    server: usize,
}

impl Cores {
    /// Pins this process, the load generator, to the second core. Servers use the first core.
    #[must_use]
    pub fn pin() -> Self {
        let several = thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        let pid = std::process::id().to_string();
        let pinned = several
            && Command::new("taskset")
                .args(["-a", "-c", "-p", "1", &pid])
                .output()
                .is_ok_and(|output| output.status.success());
        if !pinned {
            eprintln!("not pinned: taskset or a second core is missing");
        }
        Self { pinned, server: 0 }
    }

    /// Returns the command that runs `program` on the server's core.
    #[must_use]
    pub fn pinned_for_server(&self, program: &str) -> Command {
        if !self.pinned {
            return Command::new(program);
        }
        let mut command = Command::new("taskset");
        command.args(["-c", &self.server.to_string(), program]);
        command
    }

    /// Lets new threads of this process use both cores.
    pub fn unpin(&self) {
        self.set("0,1", &std::process::id().to_string());
    }

    /// Pins this process to the second core again.
    pub fn pin_again(&self) {
        self.set("1", &std::process::id().to_string());
    }

    /// Pins the calling thread.
    pub fn pin_thread(&self, core: usize) {
        // The link is `PID/task/TID`.
        let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
        let id = thread.file_name().unwrap_or_default().to_string_lossy();
        self.set(&core.to_string(), &id);
    }

    fn set(&self, cores: &str, id: &str) {
        if self.pinned {
            let set = Command::new("taskset")
                .args(["-c", "-p", cores, id])
                .output();
            if !set.is_ok_and(|output| output.status.success()) {
                eprintln!("taskset fails");
            }
        }
    }
}
