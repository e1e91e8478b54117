//! Markdown tables, and what stands in them.

use std::{cmp::Ordering, fmt};

/// A table that is aligned by hand, since people read it before a browser does.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Begins a table with these headings.
    #[must_use]
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self::with(headings.map(str::to_owned).to_vec())
    }

    /// Begins a table with these headings.
    #[must_use]
    pub fn with(headings: Vec<String>) -> Self {
        Self {
            rows: vec![headings],
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(headings) = self.rows.first() else {
            return Ok(());
        };
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        };
        for (number, row) in self.rows.iter().enumerate() {
            for (column, cell) in row.iter().enumerate() {
                // Names to the left, figures to the right.
                match column {
                    0 => write!(f, "| {cell:<0$} |", width(column))?,
                    _ => write!(f, " {cell:>0$} |", width(column))?,
                }
            }
            writeln!(f)?;
            if number == 0 {
                for column in 0..headings.len() {
                    match column {
                        0 => write!(f, "| {} |", "-".repeat(width(column)))?,
                        _ => write!(f, " {}: |", "-".repeat(width(column) - 1))?,
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// Returns the value in the middle, or the mean of the two that are.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Writes a number with a comma before each group of three digits.
#[must_use]
pub fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Writes a time, given in seconds, in the unit that suits it.
#[must_use]
pub fn time(seconds: f64) -> String {
    match seconds.total_cmp(&0.01) {
        Ordering::Less => format!("{:.0} µs", seconds * 1e6),
        _ => format!("{:.1} ms", seconds * 1e3),
    }
}
