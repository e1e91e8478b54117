//! Markdown tables, and the formats of their cells.

use std::{cmp::Ordering, fmt, fs, path::Path};

use crate::BoxError;

/// A table whose source text is aligned for readers.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes a table with these headings.
    #[must_use]
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self::with(headings.map(str::to_owned).to_vec())
    }

    /// Makes a table with these headings.
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

    /// Prints the table. Also writes it into the file `into`, between the lines `<!-- table:NAME -->` and
    /// `<!-- /table -->`.
    ///
    /// # Errors
    ///
    /// If the file or the lines do not exist.
    pub fn publish(&self, name: &str, into: Option<&Path>) -> Result<(), BoxError> {
        println!("{self}");
        let Some(path) = into else {
            return Ok(());
        };
        let text = fs::read_to_string(path)?;
        let Some(text) = replaced(&text, name, &self.to_string()) else {
            return Err(format!("{} has no place for a table {name}", path.display()).into());
        };
        Ok(fs::write(path, text)?)
    }
}

/// Returns `text` with the table called `name` replaced by `table`.
fn replaced(text: &str, name: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(&format!("<!-- table:{name} -->\n"))?;
    let (_, after) = rest.split_once("<!-- /table -->")?;
    Some(format!(
        "{before}<!-- table:{name} -->\n\n{table}\n<!-- /table -->{after}"
    ))
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
                // Names are left-aligned, figures right-aligned.
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

/// Returns the median. For an even number of values it is the mean of the middle two.
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

/// Formats a number with a comma before each group of three digits.
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

/// Formats a time, given in seconds, in microseconds or milliseconds.
#[must_use]
pub fn time(seconds: f64) -> String {
    match seconds.total_cmp(&0.01) {
        Ordering::Less => format!("{:.0} µs", seconds * 1e6),
        _ => format!("{:.1} ms", seconds * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_only_the_table_that_is_named() {
        let text = "a\n<!-- table:x -->\n\n| old |\n\n<!-- /table -->\nb\n<!-- table:y -->\n<!-- /table -->\n";
        let once = replaced(text, "y", "| new |\n").unwrap();
        assert_eq!(
            once,
            "a\n<!-- table:x -->\n\n| old |\n\n<!-- /table -->\nb\n<!-- table:y -->\n\n| new |\n\n<!-- /table -->\n"
        );
        assert_eq!(replaced(&once, "y", "| new |\n").unwrap(), once);
        assert_eq!(replaced(text, "z", ""), None);
    }

    #[test]
    fn median_is_the_value_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        for (number, written) in [
            (0.0, "0"),
            (999.4, "999"),
            (1000.0, "1,000"),
            (1.5e6, "1,500,000"),
        ] {
            assert_eq!(grouped(number), written);
        }
    }
}
