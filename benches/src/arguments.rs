//! The command line.

use std::{str::FromStr, time::Duration};

use crate::{
    BoxError,
    measure::{Mode, Plan, in_memory::Counted},
    server::{Serve, Threads, shapes::Number},
};

/// The command of the command line.
#[derive(Debug)]
pub enum Arguments {
    /// Run a server.
    Serve(Serve),
    /// Echo while valgrind counts.
    Count(Counted),
    /// Measure servers.
    Measure(Plan),
    /// Print the usage.
    Help,
}

impl Arguments {
    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    ///
    /// If an argument is unknown or has no valid value.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, BoxError> {
        let mut plan = Plan::default();
        let mut first = true;
        while let Some(argument) = arguments.next() {
            match &*argument {
                "serve" if first => return serve(arguments).map(Self::Serve),
                "count" if first => return count(arguments).map(Self::Count),
                // `cargo bench` passes this to every bench.
                "--bench" => {}
                "--help" | "-h" => return Ok(Self::Help),
                "--text" => plan.text = true,
                "--burst" => plan.burst = true,
                "--into" => plan.into = Some(value(&mut arguments, &argument)?.into()),
                "--against" => plan.against = Some(value(&mut arguments, &argument)?.into()),
                "--record" => plan.record = Some(value(&mut arguments, &argument)?.into()),
                "--rounds" => plan.rounds = number::<usize>(&mut arguments, &argument)?.max(1),
                "--seconds" => {
                    let seconds = number(&mut arguments, &argument)?;
                    plan.time = Duration::try_from_secs_f64(seconds)?;
                }
                "--mode" | "--modes" => {
                    plan.modes = Mode::list(&value(&mut arguments, &argument)?)?;
                }
                "--peers" => {
                    let names = value(&mut arguments, &argument)?;
                    plan.names = Some(names.split(',').map(str::to_owned).collect());
                }
                "--shape" | "--shapes" => {
                    plan.names = Some(shapes(&value(&mut arguments, &argument)?)?);
                }
                _ => return Err(format!("{argument} is not understood; try --help").into()),
            }
            first = false;
        }
        Ok(Self::Measure(plan))
    }
}

/// Returns `raw`, and the servers with these shape numbers.
fn shapes(numbers: &str) -> Result<Vec<String>, BoxError> {
    let mut names = vec!["raw".to_owned()];
    for number in numbers.split(',') {
        let Number(name) = number.parse()?;
        names.push(name.to_owned());
    }
    Ok(names)
}

fn serve(mut arguments: impl Iterator<Item = String>) -> Result<Serve, BoxError> {
    let engine = arguments.next().ok_or("serve what?")?.parse()?;
    let mut serve = Serve {
        engine,
        threads: Threads::default(),
        attached: false,
    };
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--attached" => serve.attached = true,
            "--workers" => serve.threads.workers = Some(number(&mut arguments, &argument)?),
            "--event-interval" => {
                serve.threads.event_interval = Some(number(&mut arguments, &argument)?);
            }
            _ => return Err(format!("{argument} is not understood; try --help").into()),
        }
    }
    Ok(serve)
}

fn count(mut arguments: impl Iterator<Item = String>) -> Result<Counted, BoxError> {
    Ok(Counted {
        engine: value(&mut arguments, "count")?.parse()?,
        size: value(&mut arguments, "count")?.parse()?,
        text: value(&mut arguments, "count")? == "text",
        bursts: number(&mut arguments, "count")?,
    })
}

fn value(arguments: &mut impl Iterator<Item = String>, option: &str) -> Result<String, BoxError> {
    let value = arguments.next();
    value.ok_or_else(|| format!("{option} needs a value").into())
}

fn number<N: FromStr>(
    arguments: &mut impl Iterator<Item = String>,
    option: &str,
) -> Result<N, BoxError> {
    let value = value(arguments, option)?;
    let number = value.parse();
    number.map_err(|_| format!("{option} needs a number, not {value}").into())
}
