//! A cluster in a network that can be cut, with clients at every node: rounds of cut and heal, and how long
//! it takes each time until the cluster serves again.

use std::io::Write;
use std::time::{Duration, Instant};

use spaxos::consensus::protocols::ProtocolName;

use super::cases::Case;
use super::clients::Clients;
use super::harness::{Cluster, Options};
use super::net::{Links, Net};

/// After a heal the first answer of each node comes within this, in T.
const HEALED_WITHIN_T: f64 = 5.0;

/// The same in the median, where there are enough rounds for one.
const HEALED_MEDIAN_T: f64 = 3.0;
const ROUNDS_FOR_A_MEDIAN: usize = 20;

/// A client waits this long at a node that does not serve, so that it need not ask again.
const CLIENT_TIMEOUT_MS: u64 = 60_000;

/// A number from the environment.
pub fn env_or(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

pub struct Scene {
    pub cluster: Cluster,
    clients: Clients,
    /// Dropped after the cluster, which runs in it.
    net: Net,
    t: Duration,
}

/// How long it took, in T, each time.
#[derive(Default)]
pub struct Waits {
    /// From the cut to the first answer; empty if nobody could serve.
    pub after_cut: Vec<f64>,
    /// From the heal to the first answer of any node.
    pub after_heal: Vec<f64>,
    /// From the heal until all nodes answered.
    pub all_after_heal: Vec<f64>,
}

/// A random time, in T: rounds differ in where they meet the timers.
pub fn random_t(least: f64, most: f64) -> f64 {
    least + (most - least) * f64::from(getrandom::u32().unwrap()) / f64::from(u32::MAX)
}

impl Scene {
    /// `None` if this machine does not allow it. The last `down` nodes do not run.
    pub fn start(protocol: ProtocolName, nodes: u64, down: u64, election_ms: u64) -> Option<Scene> {
        let net = Net::new(nodes)?;
        let options =
            Options { timeout_ms: CLIENT_TIMEOUT_MS, election_ms, ..Options::nodes(protocol, nodes) };
        let mut cluster = Cluster::prepare_at(options, |node| net.place(node));
        cluster.start_all();
        for id in nodes - down + 1..=nodes {
            cluster.node(id).kill();
        }
        cluster.leader();
        let clients = Clients::start(cluster.running().map(|node| (node.id, node.client)));
        Some(Scene { cluster, clients, net, t: Duration::from_millis(election_ms) })
    }

    fn running(&self) -> Vec<u64> {
        self.cluster.running().map(|node| node.id).collect()
    }

    /// All nodes, and the leader first.
    fn order(&self) -> Vec<u64> {
        let leader = self.cluster.leader();
        let others = self.cluster.nodes.keys().copied().filter(|id| *id != leader);
        [leader].into_iter().chain(others).collect()
    }

    pub fn seconds_in_t(&self, seconds: f64) -> f64 {
        seconds / self.t.as_secs_f64()
    }

    /// A cut of `cut_t` T, then all links are back.
    pub fn round(&mut self, case: Case, cut_t: f64, waits: &mut Waits) {
        self.settle();
        let links = case.links(&self.order());
        let running = self.running();
        let cut = self.cut(links);
        if case.serves() {
            waits.after_cut.push(self.in_t(cut, self.clients.first_after(cut, &running)));
        }
        std::thread::sleep((cut + self.t.mul_f64(cut_t)).saturating_duration_since(Instant::now()));
        let healed = self.cut(Links::new());
        waits.after_heal.push(self.in_t(healed, self.clients.first_after(healed, &running)));
        waits.all_after_heal.push(self.in_t(healed, self.clients.all_after(healed, &running)));
    }

    /// Returns when it was done.
    fn cut(&mut self, links: Links) -> Instant {
        self.net.cut(links);
        Instant::now()
    }

    /// All nodes serve and follow the leader.
    fn settle(&self) {
        let now = Instant::now();
        let running = self.running();
        self.clients.all_after(now, &running);
        std::thread::sleep(self.t);
        self.clients.all_after(Instant::now(), &running);
    }

    fn in_t(&self, from: Instant, to: Instant) -> f64 {
        to.saturating_duration_since(from).as_secs_f64() / self.t.as_secs_f64()
    }

    /// No log forked, nothing that was answered is lost, and answers came in index order.
    pub fn finish(mut self) {
        self.net.heal();
        let answered = self.clients.stop();
        self.cluster.settle(u64::MAX);
        self.cluster.check_acknowledged(&answered);
    }
}

impl Waits {
    /// Prints the figures, and checks them.
    pub fn check(&self, what: &str, cut_limit_t: f64) {
        let Waits { after_cut, after_heal, all_after_heal } = self;
        let mut lines = String::new();
        for (from, waits) in [("cut", after_cut), ("heal", after_heal), ("heal, all nodes", all_after_heal)] {
            if !waits.is_empty() {
                let (median, worst) = (median(waits), worst(waits));
                lines += &format!("{what}: served {median:.2} T (worst {worst:.2} T) after the {from}\n");
            }
        }
        // In one piece, since other tests print at the same time.
        let _ = std::io::stdout().write_all(lines.as_bytes());
        assert!(worst(after_cut) <= cut_limit_t, "{what}, after cuts: {after_cut:.2?} T");
        assert!(worst(all_after_heal) <= HEALED_WITHIN_T, "{what}, after heals: {all_after_heal:.2?} T");
        if all_after_heal.len() >= ROUNDS_FOR_A_MEDIAN {
            let median = median(all_after_heal);
            assert!(median <= HEALED_MEDIAN_T, "{what}, after heals: {all_after_heal:.2?} T");
        }
    }
}

fn median(waits: &[f64]) -> f64 {
    let mut sorted = waits.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn worst(waits: &[f64]) -> f64 {
    waits.iter().copied().fold(0.0, f64::max)
}
