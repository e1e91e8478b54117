//! The samples of metrics that Prometheus scrapes, and their names.

#![allow(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::collections::BTreeMap;

/// The value of each sample, by its name and labels.
pub(crate) type Samples = BTreeMap<String, f64>;

/// Parses the text that Prometheus scrapes, without quantiles.
pub(crate) fn parse(text: &str) -> Samples {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter(|line| !line.is_empty() && !line.contains("quantile="));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// Adds `count` to a sample.
pub(crate) fn add(samples: &mut Samples, name: impl Into<String>, count: usize) {
    *samples.entry(name.into()).or_default() += count as f64;
}

/// Returns the name of the handshakes with this outcome.
pub(crate) fn handshakes(outcome: &str) -> String {
    format!("websocket_handshakes_total{{outcome=\"{outcome}\"}}")
}

/// Returns the name of the ends by this side with this code. Codes from 3000 on have names only if they are `known`.
pub(crate) fn closed(side: &str, code: Option<u16>, known: &[u16]) -> String {
    let code = match code {
        None => "none".to_owned(),
        Some(code) if code < 3000 || known.contains(&code) => code.to_string(),
        Some(_) => "other".to_owned(),
    };
    format!("websocket_closed_total{{side=\"{side}\",code=\"{code}\"}}")
}
