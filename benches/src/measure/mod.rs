//! What is measured, in which order, and the tables that come of it.

mod compare;
pub mod echo;
pub mod in_memory;
mod instructions;
mod others;
mod shapes;

use std::{path::PathBuf, str::FromStr, time::Duration};

use crate::{BoxError, cores::Cores, load::frames::Size, process};

/// One kind of measurement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Messages there and back.
    Echo(echo::Echo),
    /// Opening handshakes.
    Upgrades,
    /// Plain requests, with the layer and without it.
    Http,
    /// A thousand connections on different runtimes.
    Workers,
    /// What idle connections weigh.
    Memory,
    /// Eight shapes of handler.
    Shapes,
    /// The instructions of a server for a message.
    Instructions,
    /// The instructions of an engine for a message, without a network.
    InMemory,
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is measured.
    pub modes: Vec<Mode>,
    /// With which servers, where that is not each mode's own choice.
    pub names: Option<Vec<String>>,
    /// How often.
    pub rounds: usize,
    /// How long each time.
    pub time: Duration,
    /// Text messages, rather than binary ones.
    pub text: bool,
    /// Whether a client waits for all answers before it sends again.
    pub burst: bool,
    /// The file whose tables are replaced by those that are measured.
    pub into: Option<PathBuf>,
    /// The file of recorded instructions that those which are counted are compared with.
    pub against: Option<PathBuf>,
    /// The file that counted instructions are written to.
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
    /// Returns how long servers are under load before they are measured.
    fn warm_up(&self) -> Duration {
        (self.time / 2).min(Duration::from_millis(300))
    }

    /// Returns the servers asked for, or those of `usual` that are there.
    fn names(&self, usual: &[&str]) -> Vec<String> {
        match &self.names {
            Some(names) => names.clone(),
            None => usual
                .iter()
                .filter(|name| process::is_there(name))
                .map(|name| (*name).to_owned())
                .collect(),
        }
    }
}

impl Mode {
    /// The groups of modes, all of which make up a whole run.
    const ALL: [&'static str; 10] = [
        "pingpong",
        "pipelined",
        "shapes",
        "h2",
        "upgrades",
        "http",
        "workers",
        "memory",
        "instructions",
        "in-memory",
    ];

    /// Reads modes and groups of modes that are separated by commas.
    ///
    /// # Errors
    ///
    /// When there is none of such a name.
    pub fn list(written: &str) -> Result<Vec<Self>, BoxError> {
        let mut modes = Vec::new();
        for name in written.split(',') {
            match name {
                "all" => modes.extend(Self::ALL.iter().flat_map(|group| Self::group(group))),
                group if Self::ALL.contains(&group) => modes.extend(Self::group(group)),
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
            "memory" => vec![Self::Memory],
            "shapes" => vec![Self::Shapes],
            "instructions" => vec![Self::Instructions],
            "in-memory" => vec![Self::InMemory],
            _ => Vec::new(),
        }
    }
}

/// Measures what `plan` asks for and prints tables to standard output.
///
/// # Errors
///
/// When a server does not start, or does not do what it should.
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
            Mode::Memory => others::memory(plan, &cores)?,
            Mode::Shapes => shapes::run(plan, &cores)?,
            Mode::Instructions => instructions::run(plan, &cores)?,
            Mode::InMemory => in_memory::run(plan)?,
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
            Ok(0) | Err(_) => Err(format!("{digits} is no number, in {written}")),
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
