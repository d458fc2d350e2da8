//! One measurement as a JSON line; several as a table with medians and ranges.

use std::fmt::Write;

use serde::Serialize;

use super::record::Outcome;
use super::usage::Usage;

/// A measurement is called disturbed if others used more than this share of one processor.
const DISTURBED_SHARE: f64 = 0.15;

/// One measurement. The names are those that the other loaders of the comparison print as well.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// What was measured.
    pub label: String,
    /// The operation: always "put".
    pub op: &'static str,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// C.
    pub c: usize,
    /// K.
    pub conns: usize,
    /// Length of each value.
    pub value: usize,
    /// How long it was measured.
    pub secs: f64,
    /// Proposals answered a second.
    pub ops_s: f64,
    /// Median latency.
    pub p50_us: u64,
    /// One proposal in a hundred takes longer.
    pub p99_us: u64,
    /// One proposal in a thousand takes longer.
    pub p999_us: u64,
    /// The longest latency.
    pub max_us: u64,
    /// Error answers and connections' errors, warm-up included.
    pub errors: u64,
    /// CPU of all servers.
    pub srv_cpu_s: f64,
    /// The same, for each proposal.
    pub srv_cpu_us_op: f64,
    /// CPU of the load itself.
    pub cli_cpu_s: f64,
    /// CPU that others used.
    pub foreign_cpu_s: f64,
    /// Memory of each server at the end.
    pub srv_rss_mib: Vec<u64>,
    /// Bytes that all servers together caused to be written to disk, for each proposal.
    pub srv_written_bytes_op: f64,
    /// The longest time without any success.
    pub gap_ms: f64,
}

impl Row {
    /// Fills in what follows from a load's outcome and what was used in the meantime; `secs` must be set.
    pub fn with(mut self, outcome: &Outcome, used: &Usage) -> Row {
        let latencies = &outcome.latencies_us;
        let operations = latencies.len().max(1) as f64;
        self.op = "put";
        self.ops_s = round(latencies.len() as f64 / self.secs, 0);
        self.p50_us = latencies.value_at_quantile(0.5);
        self.p99_us = latencies.value_at_quantile(0.99);
        self.p999_us = latencies.value_at_quantile(0.999);
        self.max_us = latencies.max();
        self.errors = outcome.error_count();
        self.srv_cpu_s = round(used.servers_cpu_s, 2);
        self.srv_cpu_us_op = round(used.servers_cpu_s * 1e6 / operations, 2);
        self.cli_cpu_s = round(used.client_cpu_s, 2);
        self.foreign_cpu_s = round(used.foreign_cpu_s(), 2);
        self.srv_written_bytes_op = round(used.servers_written_bytes as f64 / operations, 0);
        self
    }

    /// The measurement as one line.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts can be written as JSON")
    }

    fn is_disturbed(&self) -> bool {
        self.foreign_cpu_s > DISTURBED_SHARE * self.secs
    }
}

/// All measurements as a table for people. A row with its median, and its range if there are several.
pub fn table(rows: &[Row]) -> String {
    let mut out = String::new();
    let Some(first) = rows.first() else { return out };
    let _ = writeln!(
        out,
        "{}: {} nodes, C={} over K={} connections, {}-byte values, {} s{}",
        first.label,
        first.nodes,
        first.c,
        first.conns,
        first.value,
        first.secs,
        if rows.len() > 1 {
            format!(", median (min .. max) of {} rounds", rows.len())
        } else {
            String::new()
        }
    );
    let mut line = |name: &str, unit: &str, decimals: usize, of: &dyn Fn(&Row) -> f64| {
        let values: Vec<f64> = rows.iter().map(of).collect();
        let _ = writeln!(out, "  {name:<24} {}", figure(&values, decimals, unit));
    };
    line("throughput", "ops/s", 0, &|row| row.ops_s);
    line("latency p50", "ms", 3, &|row| row.p50_us as f64 / 1e3);
    line("latency p99", "ms", 3, &|row| row.p99_us as f64 / 1e3);
    line("latency p99.9", "ms", 3, &|row| row.p999_us as f64 / 1e3);
    line("latency max", "ms", 3, &|row| row.max_us as f64 / 1e3);
    line("servers' CPU", "us/op", 2, &|row| row.srv_cpu_us_op);
    line("servers' CPU", "s", 2, &|row| row.srv_cpu_s);
    line("client's CPU", "s", 2, &|row| row.cli_cpu_s);
    line("others' CPU", "s", 2, &|row| row.foreign_cpu_s);
    line("servers' memory", "MiB, the largest", 0, &|row| {
        row.srv_rss_mib.iter().max().map_or(0.0, |mib| *mib as f64)
    });
    line("written to disk", "bytes/op, all servers", 0, &|row| row.srv_written_bytes_op);
    line("longest pause", "ms", 1, &|row| row.gap_ms);
    line("errors", "", 0, &|row| row.errors as f64);
    let disturbed = rows.iter().filter(|row| row.is_disturbed()).count();
    if disturbed > 0 {
        let _ = writeln!(
            out,
            "  DISTURBED: in {disturbed} of {} rounds others used more than 15 % of a CPU",
            rows.len()
        );
    }
    out
}

/// `median unit`, and the range if there is one.
pub fn figure(values: &[f64], decimals: usize, unit: &str) -> String {
    let mut text = format!("{:>12.decimals$} {unit}", median(values));
    if values.len() > 1 {
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let _ = write!(text, "  ({least:.decimals$} .. {most:.decimals$})");
    }
    text.trim_end().to_string()
}

/// The middle value; of an even number the mean of both middle ones; of none 0.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

/// Rounded to this many decimals; what is not a number becomes 0.
pub fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    match (value * scale).round() / scale {
        rounded if rounded.is_finite() => rounded,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hdrhistogram::Histogram;

    use super::*;

    /// Odd, even and no values.
    #[test]
    fn medians() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[9.0, 1.0, 5.0, 6.0]), 5.5);
    }

    /// A single value has no range, several have theirs.
    #[test]
    fn figures() {
        assert_eq!(figure(&[1.25], 1, "ms").trim(), "1.2 ms");
        assert_eq!(figure(&[3.0, 1.0, 2.0], 0, "ops/s").trim(), "2 ops/s  (1 .. 3)");
    }

    fn row() -> Row {
        let mut latencies_us = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        (1..=1000).for_each(|us| latencies_us.record(us).unwrap());
        let errors = BTreeMap::from([("BUSY".to_string(), 2), ("closed".to_string(), 1)]);
        let outcome = Outcome { latencies_us, errors, first_error: None };
        let used = Usage {
            servers_cpu_s: 0.5,
            client_cpu_s: 0.1,
            machine_cpu_s: 1.0,
            servers_written_bytes: 500_000,
        };
        Row { label: "spaxos-3".into(), secs: 2.0, srv_rss_mib: vec![20, 21, 22], ..Row::default() }
            .with(&outcome, &used)
    }

    /// Throughput, percentiles and costs follow from histogram, time and usage.
    #[test]
    fn figures_follow_from_the_outcome() {
        let row = row();
        assert_eq!(
            (row.ops_s, row.p50_us, row.p99_us, row.p999_us, row.max_us),
            (500.0, 500, 990, 999, 1000)
        );
        assert_eq!((row.errors, row.srv_cpu_us_op, row.srv_written_bytes_op), (3, 500.0, 500.0));
        assert_eq!((row.cli_cpu_s, row.foreign_cpu_s), (0.1, 0.4));
    }

    /// A measurement without a single answer has zeros, not NaN, which JSON does not know.
    #[test]
    fn nothing_measured_is_zero() {
        let latencies_us = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        let outcome = Outcome { latencies_us, errors: BTreeMap::new(), first_error: None };
        let row = Row::default().with(&outcome, &Usage::default());
        assert_eq!((row.ops_s, row.p50_us, row.srv_cpu_us_op), (0.0, 0, 0.0));
    }

    /// One line, with the names that the comparison's script reads.
    #[test]
    fn json_has_the_common_names() {
        let json = row().json();
        assert!(!json.contains('\n'), "{json}");
        for part in
            ["\"ops_s\":500.0", "\"p999_us\":999", "\"srv_rss_mib\":[20,21,22]", "\"foreign_cpu_s\":0.4"]
        {
            assert!(json.contains(part), "{part} in {json}");
        }
    }

    /// The table says what was measured, and that others disturbed it.
    #[test]
    fn table_warns_of_disturbance() {
        let quiet = Row { foreign_cpu_s: 0.1, ..row() };
        assert!(!table(std::slice::from_ref(&quiet)).contains("DISTURBED"));
        let both = table(&[row(), quiet]);
        assert!(both.contains("DISTURBED: in 1 of 2") && both.contains("(500 .. 500)"), "{both}");
        assert_eq!(table(&[]), "");
    }
}
