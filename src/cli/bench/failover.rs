//! `bench --kill-leader N`: how long nobody is served after the leader is killed with -9.
//!
//! The load runs all the time, its connections spread over all nodes and moving on when their node fails.
//! What counts for a kill is the longest time without any success from just before it until the killed node
//! is back and has caught up, so that a disturbance by its return counts as well.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::cluster::{self, Cluster, Interrupt};
use super::super::error::Error;
use super::super::output;
use super::load;
use super::record::{Outcome, Progress, Window};
use super::report::{figure, median, round};

/// The longest wait for a kill, a return or a recovery.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);
/// Successes that must follow a kill, and a restart, before the next step: some hundred rounds of all
/// clients.
const STEADY_ANSWERS: u64 = 2_000;

/// The result of the kills.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gaps {
    /// What was measured.
    pub label: String,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// C.
    pub c: usize,
    /// K.
    pub conns: usize,
    /// T of the cluster.
    pub election_ms: u64,
    /// The longest time without success of each kill.
    pub gaps_ms: Vec<f64>,
    /// Their median.
    pub median_ms: f64,
    /// The longest.
    pub worst_ms: f64,
    /// Error answers and connections' errors; kills cause some.
    pub errors: u64,
}

impl Gaps {
    /// Each gap, the median and the worst, in ms and in T.
    pub fn table(&self) -> String {
        let in_t = |ms: f64| format!("{:.2} T", ms / self.election_ms as f64);
        let each = self
            .gaps_ms
            .iter()
            .zip(1..)
            .map(|(ms, kill)| format!("  kill {kill:<3} {ms:>8.1} ms  {}\n", in_t(*ms)));
        format!(
            "{}: {} nodes, C={} over K={} connections, T={} ms, longest time without success per kill\n{}  median {}  {}\n  worst  {}  {}\n",
            self.label,
            self.nodes,
            self.c,
            self.conns,
            self.election_ms,
            each.collect::<String>(),
            figure(&[self.median_ms], 1, "ms").trim_start(),
            in_t(self.median_ms),
            figure(&[self.worst_ms], 1, "ms").trim_start(),
            in_t(self.worst_ms),
        )
    }
}

/// Kills the leader of a loaded cluster `kills` times.
pub fn run(
    cluster: &mut Cluster,
    load_spec: &load::Spec,
    kills: u32,
    interrupt: &Interrupt,
) -> Result<(Vec<f64>, Outcome), Error> {
    let progress = Progress::default();
    let now = Instant::now();
    let window = Window { start: now, stop: now + STEP_TIMEOUT * 4 * (kills + 1) };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run(load_spec, window, &progress));
        let gaps = kill_repeatedly(cluster, &progress, kills, interrupt);
        progress.stop.store(true, Ordering::Relaxed);
        let outcome = load.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((gaps?, outcome.map_err(Error::io("run the load"))?))
    })
}

fn kill_repeatedly(
    cluster: &mut Cluster,
    progress: &Progress,
    kills: u32,
    interrupt: &Interrupt,
) -> Result<Vec<f64>, Error> {
    let mut gaps_ms = Vec::new();
    for kill in 1..=kills {
        wait_until_steady(progress, interrupt)?;
        let leader = cluster.wait_for_leader()?;
        progress.longest_gap_us.store(0, Ordering::Relaxed);
        cluster.kill_node(leader);
        wait_until_steady(progress, interrupt)?;
        let survivor = (leader + 1) % cluster.nodes().len();
        let chosen = cluster::status_number(cluster.nodes()[survivor].client, "chosen").unwrap_or(0);
        cluster.start_node(leader)?;
        cluster.wait_for_applied(leader, chosen, STEP_TIMEOUT)?;
        wait_until_steady(progress, interrupt)?;
        let gap_ms = round(progress.longest_gap_us.load(Ordering::Relaxed) as f64 / 1e3, 1);
        output::tell(&format!(
            "kill {kill} of {kills}: node {} led, {gap_ms} ms without success",
            leader + 1
        ));
        gaps_ms.push(gap_ms);
    }
    Ok(gaps_ms)
}

fn wait_until_steady(progress: &Progress, interrupt: &Interrupt) -> Result<(), Error> {
    let answered = || progress.answered.load(Ordering::Relaxed);
    let wanted = answered() + STEADY_ANSWERS;
    interrupt
        .wait_for("the load to be served", STEP_TIMEOUT, || Ok(Some(()).filter(|()| answered() >= wanted)))
}

/// The median and the worst of the gaps.
pub fn summarize(gaps_ms: &[f64]) -> (f64, f64) {
    (median(gaps_ms), gaps_ms.iter().copied().fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each gap, the median and the worst are printed in ms and in T.
    #[test]
    fn table_is_in_ms_and_t() {
        let gaps_ms = vec![300.0, 600.0, 450.0];
        let (median_ms, worst_ms) = summarize(&gaps_ms);
        let label = "spaxos-3".to_string();
        let gaps = Gaps {
            label,
            nodes: 3,
            c: 16,
            conns: 15,
            election_ms: 300,
            gaps_ms,
            median_ms,
            worst_ms,
            errors: 4,
        };
        let table = gaps.table();
        assert!(table.contains("median 450.0 ms  1.50 T"), "{table}");
        assert!(table.contains("worst  600.0 ms  2.00 T"), "{table}");
        assert!(table.contains("kill 1      300.0 ms  1.00 T"), "{table}");
    }
}
