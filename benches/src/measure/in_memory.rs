//! Counts the instructions of an engine per message, without a network. They include the in-memory stream.

use std::{
    env,
    process::{Command, Stdio},
};

use super::Plan;
use crate::{
    BoxError,
    load::frames::{Answer, Shape, Size},
    subject::{ENGINES, Engine, Subject},
    table::{Table, grouped},
};

const SIZES: [usize; 4] = [32, 1 << 10, 16 << 10, 1 << 20];

/// An engine and its work while valgrind counts.
#[derive(Clone, Debug)]
pub struct Counted {
    /// The engine that echoes.
    pub engine: Engine,
    /// The size of the messages.
    pub size: Size,
    /// Whether the messages are text instead of binary.
    pub text: bool,
    /// The number of bursts of messages.
    pub bursts: usize,
}

impl Counted {
    /// Returns the number of messages that the engine can read at once.
    fn burst(&self) -> usize {
        (64 * 1024 / self.size.0.max(1)).clamp(1, 256)
    }

    /// Echoes the messages in this process.
    ///
    /// # Errors
    ///
    /// If the runtime cannot be built.
    pub fn run(&self) -> Result<(), BoxError> {
        let shape = Shape {
            size: self.size.0,
            text: self.text,
            websocket: true,
            answer: Answer::Same,
        };
        let subject = Subject::new(self.engine, shape)?;
        for _ in 0..self.bursts {
            subject.echo(self.burst());
        }
        Ok(())
    }

    /// Returns the number of instructions of a process that echoes the messages.
    fn count(&self, name: &str) -> Result<u64, BoxError> {
        let mut command = Command::new("valgrind");
        command
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(env::current_exe()?)
            .args(["count", name, &self.size.0.to_string()])
            .arg(if self.text { "text" } else { "binary" })
            .arg(self.bursts.to_string())
            .stdin(Stdio::null());
        let output = command
            .output()
            .map_err(|error| format!("valgrind: {error}"))?;
        let report = String::from_utf8_lossy(&output.stderr);
        let collected = report
            .lines()
            .find_map(|line| line.split("Collected : ").nth(1))
            .ok_or_else(|| format!("valgrind counted nothing: {report}"))?;
        Ok(collected.trim().parse()?)
    }
}

/// Counts for each engine and size: the difference between two processes with different numbers of messages.
pub(super) fn run(plan: &Plan) -> Result<(), BoxError> {
    let mut headings = vec!["instructions per message".to_owned()];
    for kind in ["binary", "text"] {
        headings.extend(SIZES.map(|size| format!("{} {kind}", Size(size))));
    }
    let mut table = Table::with(headings);
    for (name, engine) in ENGINES {
        // At its start it spins to measure the processor's clock, so its instructions vary.
        if engine == Engine::Sockudo {
            continue;
        }
        if matches!(&plan.names, Some(names) if !names.iter().any(|asked| asked == name)) {
            continue;
        }
        let mut row = vec![name.to_owned()];
        for text in [false, true] {
            for size in SIZES.map(Size) {
                let [few, many] = [8, 24].map(|bursts| Counted {
                    engine,
                    size,
                    text,
                    bursts,
                });
                let messages = (many.bursts - few.bursts) * few.burst();
                let instructions = many.count(name)?.saturating_sub(few.count(name)?);
                row.push(grouped(instructions as f64 / messages as f64));
            }
        }
        table.row(row);
    }
    println!("### in memory\n");
    table.publish("in-memory", plan.into.as_deref())
}
