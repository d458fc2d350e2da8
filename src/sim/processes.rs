//! Processes that start, end, pause and go on.

use crate::consensus::types::NodeId;
use crate::store::OpenError;
use crate::store::memory::Kept;

use super::counts::Count;
use super::invariant::hold;
use super::trace::What;
use super::world::{Step, World};

/// How long until a full disk is looked at again, in µs.
pub(super) const PROBE_US: u64 = 50_000;

impl World {
    pub(super) fn start(&mut self, id: NodeId) {
        let now_us = self.now_us;
        let rate_permille = self.chaos.rate_permille(id);
        let node = self.node_mut(id);
        if node.is_up() || node.lost.is_some() {
            return;
        }
        let is_harmed = node.is_harmed;
        node.is_dark = false;
        match node.start(now_us, rate_permille) {
            Ok(recovered) => {
                let process = node.process;
                self.record(id, What::Started { start: recovered.start });
                self.reconcile(id);
                self.schedule(0, Step::Tick(id, process));
                self.wake_all(id);
                for peer in self.ids().filter(|peer| *peer != id) {
                    self.dial_soon(id, peer);
                    if self.network.is_of_datagrams {
                        self.dial_soon(peer, id);
                    }
                }
            }
            // The disk is full or failing: the operator of a real node would try again.
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
        let unread = node.running.as_mut().map(|it| {
            let (held, socket) = (std::mem::take(&mut it.unbound), std::mem::take(&mut it.socket));
            held.into_iter().chain(socket).collect::<Vec<_>>()
        });
        let cut = chaos.cuts_power(percent);
        counts.add_many(Count::PowerCuts, u64::from(cut || torn));
        node.crash(|| chaos.kept(cut, torn, counts));
        node.is_harmed |= torn;
        node.is_dark = cut || torn;
        for flight in unread.unwrap_or_default() {
            self.record(id, What::Dropped { id: flight.id, why: "the node is down".into() });
        }
        self.record(id, What::Crashed { why: why.into() });
        self.disconnect(id);
        self.clients_lose(id);
    }

    /// The node never runs again. Its disk was harmed, or a rule is broken.
    pub(super) fn lose(&mut self, id: NodeId, why: &'static str, text: &str) {
        hold!(
            Durability,
            self.node(id).is_harmed,
            "node {id} ends because {why}, but nobody harmed its disk: {text}"
        );
        self.end(id, why);
        self.counts.add(Count::Refused);
        self.node_mut(id).lost = Some(why);
    }

    /// A process that was stopped goes on, and finds what arrived in the meantime.
    pub(super) fn resume(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        let process = node.process;
        let Some(running) = node.running.as_mut().filter(|running| running.paused) else { return };
        running.paused = false;
        let (taken, writing) = (running.taken, running.writing.is_some());
        let is_suspended = running.is_suspended;
        let socket = std::mem::take(&mut running.socket);
        self.record(id, What::Resumed);
        if taken {
            self.schedule(1, Step::Turn(id, process));
        }
        if writing {
            self.schedule(1, Step::WriteEnds(id, process));
        }
        if is_suspended {
            self.schedule(1, Step::Retry(id, process));
        }
        socket.into_iter().for_each(|flight| self.take_in(flight));
        self.wake_all(id);
    }
}
