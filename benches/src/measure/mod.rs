//! The modes of measurement, and their tables.

mod compare;
pub mod echo;
pub mod in_memory;
mod instructions;
mod others;
pub mod rooms;
mod shapes;
mod two_workers;

use std::{path::PathBuf, str::FromStr, time::Duration};

use crate::{BoxError, cores::Cores, load::frames::Size, process};

/// One kind of measurement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Echoed messages.
    Echo(echo::Echo),
    /// Opening handshakes.
    Upgrades,
    /// Plain requests, with the layer and without it.
    Http,
    /// A thousand connections on different runtimes.
    Workers,
    /// Connections in memory on one and on two workers.
    TwoWorkers,
    /// The memory of idle connections.
    Memory,
    /// Eight shapes of handler.
    Shapes,
    /// The instructions of a server per message.
    Instructions,
    /// The instructions of an engine per message, without a network.
    InMemory,
    /// Rooms.
    Rooms(rooms::Rooms),
}

/// The options of the command line.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The modes to measure.
    pub modes: Vec<Mode>,
    /// The servers to measure, or `None` for the defaults of each mode.
    pub names: Option<Vec<String>>,
    /// The number of rounds.
    pub rounds: usize,
    /// The measured time per server and round.
    pub time: Duration,
    /// Whether messages are text instead of binary.
    pub text: bool,
    /// Whether a client waits for all answers before it sends again.
    pub burst: bool,
    /// The file whose tables are replaced.
    pub into: Option<PathBuf>,
    /// The file of recorded instructions to compare with.
    pub against: Option<PathBuf>,
    /// The file to which counted instructions are written.
    pub record: Option<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            modes: Mode::ALL
                .iter()
                .flat_map(|group| Mode::group(group))
                .collect(),
            names: None,
            rounds: 5,
            time: Duration::from_millis(500),
            text: false,
            burst: false,
            into: None,
            against: None,
            record: None,
        }
    }
}

impl Plan {
    /// Returns the duration of the warm-up.
    fn warm_up(&self) -> Duration {
        (self.time / 2).min(Duration::from_millis(300))
    }

    /// Returns the requested servers, or else those of `usual` that are available.
    fn names(&self, usual: &[&str]) -> Vec<String> {
        match &self.names {
            Some(names) => names.clone(),
            None => usual
                .iter()
                .filter(|name| process::is_available(name))
                .map(|name| (*name).to_owned())
                .collect(),
        }
    }
}

impl Mode {
    /// The groups of modes. A run without `--mode` measures all of them.
    const ALL: [&'static str; 12] = [
        "pingpong",
        "pipelined",
        "shapes",
        "h2",
        "upgrades",
        "http",
        "workers",
        "two-workers",
        "memory",
        "instructions",
        "in-memory",
        "rooms",
    ];

    /// Parses modes and groups of modes, separated by commas.
    ///
    /// # Errors
    ///
    /// If a name is unknown.
    pub fn list(written: &str) -> Result<Vec<Self>, BoxError> {
        let mut modes = Vec::new();
        for name in written.split(',') {
            match name {
                "all" => modes.extend(Self::ALL.iter().flat_map(|group| Self::group(group))),
                group if Self::ALL.contains(&group) => modes.extend(Self::group(group)),
                name if name.starts_with("rooms-") => {
                    let found = rooms::MODES.iter().find(|(known, _)| *known == name);
                    let (_, rooms) = found.ok_or_else(|| format!("there is no mode {name}"))?;
                    modes.push(Self::Rooms(*rooms));
                }
                echo => modes.push(Self::Echo(echo.parse()?)),
            }
        }
        Ok(modes)
    }

    fn group(name: &str) -> Vec<Self> {
        let echoes = |connections: &[usize], sizes: &[usize], depths: &[usize]| {
            let mut modes = Vec::new();
            for &depth in depths {
                for &size in sizes {
                    for &connections in connections {
                        modes.push(Self::Echo(echo::Echo::new(connections, Size(size), depth)));
                    }
                }
            }
            modes
        };
        match name {
            "pingpong" => {
                let mut modes = echoes(&[1, 100, 1000], &[32, 1 << 10, 16 << 10], &[1]);
                modes.extend(echoes(&[1, 10, 100], &[1 << 20], &[1]));
                modes
            }
            "pipelined" => echoes(&[1, 100], &[32, 1 << 10], &[16, 64]),
            "h2" => {
                let shared = |clients, size, depth, connections| {
                    Self::Echo(echo::Echo::new(clients, Size(size), depth).over(connections))
                };
                vec![
                    shared(1, 32, 1, 1),
                    shared(100, 32, 1, 1),
                    shared(100, 1 << 10, 1, 1),
                    shared(100, 16 << 10, 1, 1),
                    shared(1, 1 << 20, 1, 1),
                    shared(100, 32, 16, 1),
                    shared(100, 32, 1, 10),
                ]
            }
            "upgrades" => vec![Self::Upgrades],
            "http" => vec![Self::Http],
            "workers" => vec![Self::Workers],
            "two-workers" => vec![Self::TwoWorkers],
            "memory" => vec![Self::Memory],
            "shapes" => vec![Self::Shapes],
            "instructions" => vec![Self::Instructions],
            "in-memory" => vec![Self::InMemory],
            "rooms" => rooms::MODES.map(|(_, rooms)| Self::Rooms(rooms)).to_vec(),
            _ => Vec::new(),
        }
    }
}

/// Measures the modes of `plan` and prints tables to standard output.
///
/// # Errors
///
/// If a server does not start, or gives a wrong answer.
pub fn run(plan: &Plan) -> Result<(), BoxError> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let cores = Cores::pin();
    let echoes = plan.modes.iter().filter_map(|mode| match mode {
        Mode::Echo(echo) => Some(*echo),
        _ => None,
    });
    echo::run(&echoes.collect::<Vec<_>>(), plan, &cores)?;
    for mode in &plan.modes {
        match mode {
            Mode::Echo(_) => {}
            Mode::Upgrades => others::upgrades(plan, &cores)?,
            Mode::Http => others::http(plan, &cores)?,
            Mode::Workers => others::workers(plan, &cores)?,
            Mode::TwoWorkers => two_workers::run(plan, &cores)?,
            Mode::Memory => others::memory(plan, &cores)?,
            Mode::Shapes => shapes::run(plan, &cores)?,
            Mode::Instructions => instructions::run(plan, &cores)?,
            Mode::InMemory => in_memory::run(plan)?,
            Mode::Rooms(rooms) => rooms::run(*rooms, plan, &cores)?,
        }
    }
    Ok(())
}

impl FromStr for echo::Echo {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let (clients, shared) = match written.split_once('/') {
            Some((clients, connections)) => (clients, Some(connections)),
            None => (written, None),
        };
        let parts: Vec<_> = clients.split('x').collect();
        let (connections, size, depth) = match parts[..] {
            [connections, size] => (connections, size, "1"),
            [connections, size, depth] => (connections, size, depth),
            _ => return Err(format!("there is no mode {written}")),
        };
        let count = |digits: &str| match digits.parse() {
            Ok(0) | Err(_) => Err(format!("{digits} is not a positive number, in {written}")),
            Ok(count) => Ok(count),
        };
        let clients = count(connections)?;
        let echo = Self::new(clients, size.parse()?, count(depth)?);
        match shared.map(count).transpose()? {
            Some(shared) if shared > clients => Err(format!("too many connections in {written}")),
            Some(shared) => Ok(echo.over(shared)),
            None => Ok(echo),
        }
    }
}
