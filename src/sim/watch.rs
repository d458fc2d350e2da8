//! What is checked after each step, from outside: what leaves early, the watermarks, and what is delivered.
//!
//! Left out: what is durable, and what waits for that (`durable.rs`); readers (`reads.rs`).

use crate::consensus::message::{Body, ClusterBody, MAX_PAGE_BYTES, Message};
use crate::consensus::proposals::Proposals;
use crate::consensus::protocol::{Role, Status};
use crate::consensus::types::{Ballot, Entry, Index, MAX_WINDOW_ENTRIES, NodeId, RequestId};
use crate::pipeline::applier::{Deliveries, Delivery};
use crate::pipeline::state_machine::Turn;
use crate::pipeline::storage::read_chosen;
use crate::store::LogReadError;
use crate::store::engine::EngineError;
use crate::wire::message::Trouble;

use super::counts::Count;
use super::invariant::hold;
use super::trace::What;
use super::world::World;

impl World {
    /// After a turn: what leaves early promises nothing, the watermarks are in order, and what they say is
    /// chosen is chosen.
    pub(super) fn watch_turn(&mut self, id: NodeId, turn: &Turn) {
        turn.early.iter().for_each(|message| self.checker.early(message));
        self.watch_sent(id, &turn.early);
        let running = self.running(id);
        let (status, chosen) = (running.status(), running.recent.chosen());
        self.check_status(id, &status, chosen);
        let truncates = turn.work.as_ref().and_then(|work| work.truncate);
        hold!(
            AppendOnly,
            truncates.is_none() || status.role != Role::Leader,
            "node {id} leads with ballot {}, but removes its entries from {truncates:?} on",
            status.promised
        );
        self.watch_role(id, status.role, status.promised);
        self.watch_trouble(id, status.role);
        if let Some(raised) = turn.chosen {
            hold!(
                Watermarks,
                raised == chosen,
                "node {id}: the watermark was raised to {raised}, but is {chosen}"
            );
            self.record(id, What::Chosen { index: chosen });
            self.watch_chosen(id, chosen);
        }
    }

    /// The watermarks are in order, what waits is bounded, and nobody sent nonsense; `chosen` is what readers
    /// are told.
    fn check_status(&mut self, id: NodeId, status: &Status, chosen: Index) {
        let running = self.running(id);
        let applied = running.applier.applied();
        let waiting = running.requests.lock().waiters.count();
        let is_rebuilt = running.machine.generation() > 0;
        hold!(
            Watermarks,
            status.compacted <= applied && status.chosen <= status.last && status.chosen == chosen,
            "node {id}: compacted {} <= applied {applied}, chosen {} (told to readers: {chosen}) <= last {}",
            status.compacted,
            status.chosen,
            status.last
        );
        hold!(Watermarks, applied <= chosen || is_rebuilt, "node {id}: applied {applied} <= chosen {chosen}");
        let published = running.machine.published().lock().clone();
        hold!(
            Watermarks,
            published.chosen == chosen && published.chosen <= published.last,
            "node {id}: other threads see chosen {} <= last {}, but the watermark is {chosen}",
            published.chosen,
            published.last
        );
        hold!(
            Bounds,
            status.pending as usize <= Proposals::CAPACITY
                && status.last - status.chosen <= MAX_WINDOW_ENTRIES,
            "node {id}: {} pending requests, {} open indexes",
            status.pending,
            status.last - status.chosen
        );
        hold!(Bounds, waiting <= 256, "node {id}: {waiting} clients wait, but there are fewer than 256");
        hold!(Honesty, status.ignored == 0, "node {id} took {} messages for nonsense", status.ignored);
    }

    /// A node was told of a fork, or that there is none: only what a flipped bit explains. If it is outvoted
    /// it ends, as `node` does.
    pub(super) fn watch_fork(&mut self, id: NodeId) {
        let Some(fork) = self.running(id).machine.fork().cloned() else { return };
        let was_flipped = |node: NodeId| self.node(node).was_flipped;
        hold!(
            Fork,
            was_flipped(id) || fork.nodes.iter().all(|node| was_flipped(*node)),
            "node {id} says that nodes {:?} differ from {}, but no bit flipped there",
            fork.nodes,
            fork.index
        );
        if fork.is_outvoted {
            hold!(Fork, self.running(id).is_flipped, "node {id} is outvoted at {}, but is right", fork.index);
            self.counts.add(Count::Outvoted);
            self.lose(id, "its log differs from a majority's", &fork.to_string());
        }
    }

    /// Records a new role or ballot in the trace.
    fn watch_role(&mut self, id: NodeId, role: Role, ballot: Ballot) {
        if self.running(id).told == (role, ballot) {
            return;
        }
        self.running(id).told = (role, ballot);
        let role = match role {
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
        };
        self.record(id, What::Role { role: role.into(), ballot });
    }

    /// Notes in the trace what is wrong with a node, or that nothing is any more; and checks that a leader
    /// makes way in time, by its own ticks.
    fn watch_trouble(&mut self, id: NodeId, role: Role) {
        let election_ms = self.election_ms;
        let running = self.running(id);
        if let Some(now_ms) = running.ticked_ms {
            let leads_on = role == Role::Leader && running.machine.makes_way();
            running.makes_way_since_ms = leads_on.then(|| running.makes_way_since_ms.unwrap_or(now_ms));
            let since_ms = running.makes_way_since_ms.unwrap_or(now_ms);
            hold!(
                MakesWay,
                now_ms - since_ms < election_ms,
                "node {id} leads on since {since_ms} ms of its clock, now {now_ms}; T is {election_ms} ms"
            );
        }
        let trouble = running.machine.trouble();
        if std::mem::replace(&mut running.told_trouble, trouble) == trouble {
            return;
        }
        self.counts.add_many(Count::Troubles, u64::from(trouble != Trouble::None));
        let text = self.recorder.text(|| format!("its trouble is {trouble}"));
        self.record(id, What::Noted { text });
    }

    /// Checks that the last entries that a node takes for chosen are chosen. Its applier will find all of
    /// them one by one.
    fn watch_chosen(&mut self, id: NodeId, chosen: Index) {
        let running = self.running(id);
        let first = chosen.saturating_sub(3).max(1);
        let read = read_chosen(first, chosen, MAX_PAGE_BYTES, &running.recent, &running.reader);
        self.check_read(id, read);
    }

    /// Checks that what was read from a node's log is chosen. Returns nothing if the disk is gone, or was
    /// harmed.
    pub(super) fn check_read(&mut self, id: NodeId, read: Result<Vec<Entry>, LogReadError>) -> Vec<Entry> {
        match read {
            Ok(entries) => {
                entries.iter().for_each(|entry| self.checker.believed(id, entry));
                entries
            }
            Err(LogReadError::Unreadable { why: EngineError::Closed, .. }) => Vec::new(),
            Err(error) => {
                let is_harmed = self.node(id).is_harmed;
                hold!(Durability, is_harmed, "node {id}, whose disk nobody harmed, cannot read: {error}");
                Vec::new()
            }
        }
    }

    pub(super) fn watch_sent(&mut self, id: NodeId, messages: &[Message]) {
        let incarnation = self.running(id).incarnation();
        for message in messages {
            hold!(Honesty, message.from == id, "node {id} sends in the name of another node: {message}");
            self.checker.sent(message, incarnation);
            if let Body::Cluster(ClusterBody::Learn { entries, .. }) = &message.body {
                entries.iter().for_each(|entry| self.checker.believed(id, entry));
                self.counts.add(Count::Pages);
            }
        }
    }

    /// The applier delivered some of what is chosen.
    pub(super) fn watch_delivered(
        &mut self,
        id: NodeId,
        before: Index,
        applied: Index,
        delivered: &Deliveries,
    ) {
        let mut last = before;
        for Delivery { entry, counts, number } in &delivered.entries {
            hold!(Order, entry.index == last + 1, "node {id} delivers {entry} after {last}");
            last = entry.index;
            self.checker.believed(id, entry);
            let is_first = self.checker.log().len() < entry.index as usize;
            self.checker.delivered(id, entry, *counts);
            hold!(
                Order,
                number.is_some() == *counts,
                "node {id} delivers {entry} with the number {number:?}, but it counts: {counts}"
            );
            let request = entry.command.request;
            if is_first && *counts {
                let floor = self.clients.floor(request);
                hold!(
                    Linearizable,
                    entry.index > floor,
                    "request {request} is at {}, but was first sent after index {floor} had been told",
                    entry.index
                );
            }
            let text =
                self.recorder.text(|| if *counts { entry.command.to_string() } else { "nothing".into() });
            let request = if *counts { request } else { RequestId::NONE };
            self.record(id, What::Delivered { index: entry.index, request, text });
        }
        delivered.responses.iter().for_each(|(index, state)| self.checker.applied(id, *index, state));
        hold!(Order, applied == last, "node {id} delivered up to {last}, but says {applied}");
    }

    /// Compares the whole log of a node, as far as it delivered it, and all that it tells of requests, with
    /// what was delivered.
    pub(super) fn compare(&mut self, id: NodeId) {
        if self.node(id).is_harmed || !self.node(id).is_up() {
            return;
        }
        let running = self.running(id);
        let (recent, reader) = (running.recent.clone(), running.reader.clone());
        let (requests, applied) = (running.requests.clone(), running.applier.applied());
        let last = applied.min(recent.chosen());
        let mut next = reader.compacted() + 1;
        while next <= last {
            let read = read_chosen(next, last, MAX_PAGE_BYTES, &recent, &reader);
            let entries = self.check_read(id, read);
            if entries.is_empty() {
                break;
            }
            next += entries.len() as u64;
        }
        let requests = requests.lock();
        let delivered = (1..).zip(self.checker.log()).take(applied as usize);
        let counted = delivered.filter_map(|(index, command)| Some((index, command.as_ref()?.request)));
        // The latest ones, as many as the delivery window holds, are remembered; no others are.
        let mut counted: Vec<(Index, RequestId)> = counted.collect();
        counted.reverse();
        for (age, (index, request)) in counted.into_iter().enumerate() {
            let told = requests.ledger.lookup(request);
            hold!(
                OnceOnly,
                (told == Some(index)) == (age < self.checker.delivery_window()),
                "request {request} was delivered at {index}, and {age} others since, but node {id} says {told:?}"
            );
        }
    }

    /// The highest index that any node takes for chosen, or that is chosen.
    pub(super) fn last(&self) -> Index {
        let counted = self.checker.chosen().keys().next_back().copied().unwrap_or(0);
        let known = self.nodes.iter().filter_map(|node| node.running.as_ref());
        known.map(|running| running.recent.chosen()).max().unwrap_or(0).max(counted)
    }

    /// At the end every node that is left must have delivered everything, and so the same (each delivery was
    /// compared).
    pub(super) fn compare_ends(&self, last: Index) {
        for node in self.nodes.iter().filter(|node| node.lost.is_none()) {
            let applied = node.running.as_ref().map_or(0, |running| running.applier.applied());
            let (log, chosen) = (self.checker.log().len(), self.checker.chosen().len());
            hold!(
                EqualLogs,
                applied >= last && log as u64 >= last && chosen as u64 >= last,
                "node {} delivered {applied} of {last}; {log} were delivered, {chosen} chosen",
                node.id
            );
        }
    }
}
