//! Which core the servers run on, and which one the load generator.

use std::{process::Command, thread};

/// How processes are kept apart.
#[derive(Clone, Debug)]
pub struct Cores {
    /// `taskset` is there, and more than one core.
    pinned: bool,
    server: usize,
}

impl Cores {
    /// Pins this process, as the load generator, to the second core; servers get the first.
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
