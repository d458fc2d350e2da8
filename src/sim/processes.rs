//! Processes that start and end, and the end of faults: from then on what is left of the cluster must find
//! together.

use crate::consensus::types::{Index, NodeId};
use crate::store::OpenError;
use crate::store::memory::Kept;

use super::cluster::{Cluster, Step};
use super::counts::Count;
use super::faults::Faults;
use super::invariant::hold;
use super::node::Node;
use super::threads::PROBE_US;
use super::trace::What;

impl Cluster {
    pub(super) fn start(&mut self, id: NodeId) {
        let now_us = self.now_us;
        let rate_permille = self.chaos.rate_permille(id);
        let node = self.node_mut(id);
        if node.is_up() || node.lost.is_some() {
            return;
        }
        let is_harmed = node.is_harmed;
        match node.start(now_us, rate_permille) {
            Ok(recovered) => {
                let process = node.process;
                self.record(id, What::Started { start: recovered.start });
                self.reconcile(id);
                self.schedule(0, Step::Tick(id, process));
                self.wake_all(id);
                for peer in self.ids().filter(|peer| *peer != id) {
                    self.dial_soon(id, peer);
                    self.dial_soon(peer, id);
                }
            }
            // A full or failing disk: whoever looks after the node tries again.
            Err(OpenError::NoRoom { .. } | OpenError::Io { .. }) => {
                node.disk.crash(|| Kept::Lost);
                self.schedule(PROBE_US, Step::Start(id));
            }
            Err(error) => {
                hold!(Durability, is_harmed, "node {id} refuses its disk, which nobody harmed: {error}");
                self.lose(id, "it refused its disk", &error.to_string());
            }
        }
    }

    /// The process ends, and comes back after a while.
    pub(super) fn end_and_restart(&mut self, id: NodeId, why: &'static str) {
        if !self.node(id).is_up() {
            return;
        }
        self.end(id, why);
        let down_us = self.chaos.down_us(self.faults.down_ms);
        self.schedule(down_us, Step::Start(id));
    }

    /// The process ends.
    pub(super) fn end(&mut self, id: NodeId, why: &'static str) {
        if !self.node(id).is_up() {
            return;
        }
        let status = self.running(id).status();
        hold!(Honesty, status.ignored == 0, "node {id} took {} messages for nonsense", status.ignored);
        self.counts.add(Count::Crashes);
        let chaos = &mut self.chaos;
        let counts = &mut self.counts;
        let percent = self.faults.power_cut_percent;
        let node = &mut self.nodes[id as usize - 1];
        let torn = node.running.as_ref().is_some_and(|it| it.writing.is_some()) && chaos.tears(id);
        let socket = node.running.as_mut().map(|it| std::mem::take(&mut it.socket)).unwrap_or_default();
        let cut = chaos.cuts_power(percent);
        counts.add_many(Count::PowerCuts, u64::from(cut || torn));
        node.crash(|| chaos.kept(cut, torn, counts));
        node.is_harmed |= torn;
        for flight in socket {
            self.record(id, What::Dropped { id: flight.id, why: "the node is down".into() });
        }
        self.record(id, What::Crashed { why: why.into() });
        self.disconnect(id);
        self.clients_lose(id);
    }

    /// The node never runs again; somebody harmed its disk, or this is a rule broken.
    pub(super) fn lose(&mut self, id: NodeId, why: &'static str, text: &str) {
        hold!(
            Durability,
            self.node(id).is_harmed,
            "node {id} ends since {why}, and nobody harmed its disk: {text}"
        );
        self.end(id, why);
        self.counts.add(Count::Refused);
        self.node_mut(id).lost = Some(why);
    }

    // ---- the end of faults ----

    /// Faults end: the network heals, disks work, all that can run runs.
    pub fn heal(&mut self) {
        let quiet = Faults::none();
        self.stop_chaos();
        self.faults = quiet;
        for id in self.ids() {
            self.node(id).disk.heal();
            let now_us = self.now_us;
            let node = self.node_mut(id);
            node.clock.set_rate(now_us, 1000);
            if let Some(running) = &mut node.running {
                running.disk_factor = 1;
                running.disk_busy_until_us = 0;
            }
            self.resume(id);
            self.schedule(0, Step::Start(id));
        }
    }

    /// After [`Cluster::heal`]: every node that is left serves within 10 T, and all come to the same log.
    pub fn find_together(&mut self) {
        let began_us = self.now_us;
        let within_us = 10 * self.election_ms() * 1000;
        let probes = self.propose_everywhere();
        while self.waiting(&probes) {
            hold!(
                Liveness,
                self.now_us < began_us + within_us,
                "nodes {:?} do not serve {} ms after the faults ended, T is {} ms\n{}",
                self.nodes_of_waiting(&probes),
                (self.now_us - began_us) / 1000,
                self.election_ms(),
                self.standing()
            );
            self.step();
        }
        self.stop_clients();
        let last = self.last();
        while !self.ids().all(|id| self.node(id).lost.is_some() || self.has_all(id, last)) {
            hold!(
                Liveness,
                self.now_us < began_us + 2 * within_us,
                "not all have delivered {last} {} ms after the faults ended, T is {} ms\n{}",
                (self.now_us - began_us) / 1000,
                self.election_ms(),
                self.standing()
            );
            self.step();
        }
        for id in self.ids() {
            if self.node(id).is_up() {
                self.compare(id);
            }
        }
        self.compare_ends(last);
    }

    fn has_all(&self, id: NodeId, last: Index) -> bool {
        let running = self.node(id).running.as_ref();
        running.is_some_and(|running| running.applier.applied() >= last)
    }

    /// How every node stands, a line each.
    pub(super) fn standing(&self) -> String {
        let line = |node: &Node| match (&node.running, node.lost) {
            (Some(running), _) => {
                let status = running.status();
                format!(
                    "node {}: {} of {}, chosen {}, applied {}, last {}, pending {}{}\n",
                    node.id,
                    status.role,
                    status.promised,
                    status.chosen,
                    running.applier.applied(),
                    status.last,
                    status.pending,
                    if running.is_suspended { ", waits for room on its disk" } else { "" }
                )
            }
            (None, Some(why)) => format!("node {}: lost, {why}\n", node.id),
            (None, None) => format!("node {}: down\n", node.id),
        };
        self.nodes.iter().map(line).collect()
    }
}
