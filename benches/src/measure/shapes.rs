//! Compares eight shapes of handler with raw TCP, in one table.

use super::{
    Plan,
    compare::{self, BASELINE, Contestant, ratio},
    echo::Echo,
};
use crate::{BoxError, cores::Cores, load::frames::Size, server::shapes::SHAPES, table::Table};

/// The numbers of outstanding messages on each connection. The table has two columns for each.
const DEPTHS: [usize; 2] = [1, 16];

/// Measures the shapes with 100 connections and 32 B, and prints their table.
pub(super) fn run(plan: &Plan, cores: &Cores) -> Result<(), BoxError> {
    let mut contestants = Contestant::list(&plan.names(&names()));
    for contestant in &mut contestants {
        contestant.label = title(&contestant.name).to_owned();
    }
    let mut headings = vec!["100 connections, 32 B".to_owned()];
    let mut rows: Vec<_> = contestants.iter().map(|c| vec![c.label.clone()]).collect();
    for depth in DEPTHS {
        let mode = Echo::new(100, Size(32), depth);
        let rounds = compare::in_turns(&contestants, plan, cores, |contestant| {
            mode.load(plan, &contestant.name)
        });
        let rounds = rounds.map_err(|error| format!("{mode}: {error}"))?;
        println!("### {mode}\n");
        let (table, medians) = compare::table(&contestants, BASELINE, &rounds);
        println!("{table}");
        headings.push(format!("{depth} deep: rate ÷ raw"));
        headings.push("CPU ÷ raw".to_owned());
        for (row, medians) in rows.iter_mut().zip(medians) {
            row.push(ratio(medians.rate_to_baseline));
            row.push(ratio(medians.cpu_to_baseline));
        }
    }
    let mut table = Table::with(headings);
    for (row, contestant) in rows.into_iter().zip(&contestants) {
        // All its ratios are 1.
        if contestant.name != BASELINE {
            table.row(row);
        }
    }
    println!("### shapes of handler\n");
    table.publish("shapes", plan.into.as_deref())
}

/// Returns the baseline and every shape.
pub(super) fn names() -> Vec<&'static str> {
    let shapes = SHAPES.iter().map(|(name, ..)| *name);
    std::iter::once(BASELINE).chain(shapes).collect()
}

/// Returns the title in tables of the server called `name`.
pub(super) fn title(name: &str) -> &str {
    let shape = SHAPES.iter().find(|(known, ..)| *known == name);
    shape.map_or(name, |(_, _, title)| title)
}
