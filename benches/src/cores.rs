//! Pins the servers to one core and the load generator to another.

use std::{process::Command, thread};

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
}
