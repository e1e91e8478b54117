//! Counts the user-space instructions of a server per message. Other work on the machine hardly changes
//! them.
//!
//! The server runs under callgrind in a separate process, so the client's instructions are not counted. The
//! client sends one burst in one write, and waits until all answers have arrived and every thread of the
//! server sleeps. So the server does the same work in each exchange. The counts are zeroed after some exchanges:
//! the start of some servers takes a varying number of instructions, because they measure the processor's clock.
//! The difference from a run without further exchanges excludes the end of the process.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::Command,
};

use super::{Plan, compare, shapes};
use crate::{
    BoxError,
    cores::Cores,
    load::{client, frames::Size},
    process::Process,
    table::{Table, grouped},
};

/// The measured messages: their size, and the number of messages in a burst.
const CASES: [(Size, usize); 3] = [(Size(32), 1), (Size(32), 64), (Size(1 << 10), 16)];

/// The number of exchanges before the count. After it all buffers have their final size.
const WARM_UP: usize = if cfg!(debug_assertions) { 10 } else { 100 };

/// The number of counted exchanges, for each round. A debug build only tests the code.
const COUNTED: usize = if cfg!(debug_assertions) { 20 } else { 200 };

/// The default file of recorded figures.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions-5705e9c.tsv");

/// Counts, prints the table, and writes the figures to the file of `plan`.
pub(super) fn run(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let valgrind = version("valgrind").ok_or("the mode instructions needs valgrind on the path")?;
    let recorded = match cfg!(debug_assertions) {
        true => {
            eprintln!("not compared with recorded figures: this is not a release build");
            None
        }
        false => {
            let usual = PathBuf::from(RECORDED);
            let path = plan
                .against
                .clone()
                .or_else(|| usual.exists().then_some(usual));
            path.map(|path| Recorded::read(&path)).transpose()?
        }
    };
    let mut headings = vec!["instructions per message".to_owned()];
    for (size, depth) in CASES {
        headings.push(match depth {
            1 => format!("{size}"),
            _ => format!("{size}, {depth} deep"),
        });
        headings.extend(
            recorded
                .as_ref()
                .map(|recorded| format!("÷ {}", recorded.name)),
        );
    }
    let mut table = Table::with(headings);
    let compiler = version("rustc").unwrap_or_default();
    let mut record = format!("# {compiler}, {valgrind}, {}\n", std::env::consts::ARCH);
    for name in plan.names(&shapes::names()) {
        let mut row = vec![shapes::title(&name).to_owned()];
        for case in CASES {
            let (size, depth) = case;
            let none = count(&name, case, 0, cores)?;
            let all = count(&name, case, COUNTED * plan.rounds, cores)?;
            let messages = COUNTED * plan.rounds * depth;
            let each = all.saturating_sub(none) as f64 / messages as f64;
            row.push(grouped(each));
            if let Some(recorded) = &recorded {
                let then = recorded.figure(&name, case);
                row.push(then.map_or(String::new(), |then| compare::ratio(each / then)));
            }
            writeln!(record, "{name}\t{}\t{depth}\t{each:.0}", size.0)?;
        }
        table.row(row);
    }
    println!("### instructions\n");
    table.publish("instructions", plan.into.as_deref())?;
    if let Some(path) = &plan.record {
        fs::write(path, record)?;
    }
    Ok(())
}

/// Returns the instructions of a server process for this many exchanges with one client, after the warm-up.
fn count(
    name: &str,
    (size, depth): (Size, usize),
    exchanges: usize,
    cores: &Cores,
) -> Result<u64, BoxError> {
    let messages = compare::messages(name, size, false);
    let mut server = Process::start_under_callgrind(name, cores)?;
    let mut stream = client::connect(server.address(), 0)?;
    if messages.websocket {
        client::shake_hands(&mut stream)?;
        server.wait_until_idle()?;
    }
    let burst = messages.request().repeat(depth);
    let expected = messages.reply().repeat(depth);
    let mut answers = vec![0; expected.len()];
    let mut exchange = |server: &Process, times| {
        for _ in 0..times {
            stream.write_all(&burst)?;
            stream.read_exact(&mut answers)?;
            if answers != expected {
                return Err(format!("{name} sends a wrong answer").into());
            }
            server.wait_until_idle()?;
        }
        Ok::<_, BoxError>(())
    };
    exchange(&server, WARM_UP)?;
    server.zero_counts()?;
    server.wait_until_idle()?;
    exchange(&server, exchanges)?;
    // Keep the connection open: the work of a server that closes it would vary.
    server.finish_under_callgrind()
}

/// Returns the first line of a program's `--version`, or `None` if the program is missing.
fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.to_owned())
}

/// Figures that were recorded before.
struct Recorded {
    /// Their name in the headings of tables.
    name: String,
    figures: Vec<(String, usize, usize, f64)>,
}

impl Recorded {
    fn read(path: &Path) -> Result<Self, BoxError> {
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = stem.strip_prefix("instructions-").unwrap_or(&stem);
        Self::parse(name, &text).ok_or_else(|| format!("{} has no figures", path.display()).into())
    }

    /// Parses lines of a server's name, a size, a depth and a figure, separated by tabs.
    fn parse(name: &str, text: &str) -> Option<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let figures = lines.map(|line| {
            let fields: Vec<_> = line.split('\t').collect();
            let [server, size, depth, figure] = fields[..] else {
                return None;
            };
            let [size, depth] = [size.parse().ok()?, depth.parse().ok()?];
            Some((server.to_owned(), size, depth, figure.parse().ok()?))
        });
        Some(Self {
            name: name.to_owned(),
            figures: figures.collect::<Option<_>>()?,
        })
    }

    fn figure(&self, server: &str, (size, depth): (Size, usize)) -> Option<f64> {
        let mut figures = self.figures.iter();
        figures
            .find(|(name, s, d, _)| name == server && (*s, *d) == (size.0, depth))
            .map(|(.., figure)| *figure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_figures_are_found_by_server_size_and_depth() {
        let text = "# rustc\nraw\t32\t1\t100\nshape-1\t32\t1\t200\nshape-1\t32\t64\t30\n";
        let recorded = Recorded::parse("then", text).unwrap();
        assert_eq!(recorded.figure("shape-1", (Size(32), 1)), Some(200.0));
        assert_eq!(recorded.figure("shape-1", (Size(32), 64)), Some(30.0));
        assert_eq!(recorded.figure("shape-1", (Size(64), 1)), None);
        assert!(Recorded::parse("then", "shape-1\t32\t1\n").is_none());
    }

    #[test]
    fn the_recorded_figures_are_those_of_every_shape_and_case() {
        let recorded = Recorded::read(Path::new(RECORDED)).unwrap();
        for (name, ..) in crate::server::shapes::SHAPES {
            for case in CASES {
                assert!(recorded.figure(name, case).is_some(), "{name}, {case:?}");
            }
        }
    }
}
