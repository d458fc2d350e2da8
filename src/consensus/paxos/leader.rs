//! The leader: places proposals, counts acceptances, repeats what makes no progress, steps down when no
//! majority is heard. And, for all roles, what happens to a proposal.

use super::super::batch::Batch;
use super::super::message::{Body, MAX_PAGE_BYTES, Range};
use super::super::protocol::Proposal;
use super::super::quorum::Set;
use super::super::types::{
    Ballot, Command, Entry, Index, Kind, MAX_PAYLOAD_BYTES, MAX_WINDOW_ENTRIES, NodeId, RequestId,
};
use super::transfer::Transfer;
use super::{Activity, Paxos};

/// What a leader knows beside the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    ballot: Ballot,
    heartbeat_at_ms: u64,
    /// When all that is open is sent again to those who have not accepted it, and the wait after that; any
    /// progress of the watermark puts both back.
    repeat_at_ms: u64,
    repeat_wait_ms: u64,
    /// While it is there, nothing is placed.
    pub(super) transfer: Option<Transfer>,
}

impl Leader {
    pub(super) fn ballot(&self) -> Ballot {
        self.ballot
    }
}

impl Paxos {
    /// Begins to lead: proposes again what it adopted, then a no-op of its own, after which all before it is
    /// known to be chosen; then what waits. A whole window of adopted entries goes without the no-op, for which
    /// nobody would have a place: the last of them, now of this ballot, says the same.
    pub(super) fn lead(&mut self, ballot: Ballot, adopted: Vec<Command>, out: &mut Batch) {
        let repeat_wait_ms = 2 * self.config.heartbeat_ms;
        self.activity = Activity::Leading(Leader {
            ballot,
            heartbeat_at_ms: self.now_ms + self.config.heartbeat_ms,
            repeat_at_ms: self.now_ms + repeat_wait_ms,
            repeat_wait_ms,
            transfer: None,
        });
        self.elections += 1;
        self.leader = Some(self.config.node);
        for peer in &mut self.peers {
            peer.followed_ms = self.now_ms;
        }
        self.proposals.restart();
        let noop = ((adopted.len() as u64) < MAX_WINDOW_ENTRIES).then(|| Command::noop(self.config.node));
        let entries = adopted.into_iter().chain(noop).zip(self.log.chosen() + 1..);
        let entries: Vec<Entry> = entries.map(|(command, index)| Entry { index, ballot, command }).collect();
        self.propose_entries(entries, out);
        self.place_waiting(out);
    }

    pub(super) fn handle_propose(&mut self, proposals: Vec<Proposal>, out: &mut Batch) {
        let mut added = Vec::new();
        for proposal in proposals {
            let command = proposal.command.clone();
            if self.proposals.add_own(proposal) {
                added.push(command);
            }
        }
        match (&self.activity, self.leader) {
            (Activity::Leading(_), _) => self.place_waiting(out),
            (_, Some(leader)) => self.forward(leader, added, out),
            (_, None) => {}
        }
    }

    /// Proposals that a follower passed on. A node that does not lead drops them: the sender repeats. What this
    /// version could not deliver is not proposed: once chosen, it would stop every node that does not know it.
    pub(super) fn handle_forward(&mut self, from: NodeId, commands: Vec<Command>, out: &mut Batch) {
        if !matches!(self.activity, Activity::Leading(_)) {
            self.dropped += commands.len() as u64;
            return;
        }
        for command in commands {
            let sound = command.request != RequestId::NONE
                && command.from == from
                && !matches!(command.kind, Kind::Noop | Kind::Unknown(_))
                && command.payload.len() <= MAX_PAYLOAD_BYTES;
            if !sound {
                self.ignored += 1;
            } else if !self.proposals.add_forwarded(command) {
                self.dropped += 1;
            }
        }
        self.place_waiting(out);
    }

    /// Sends all own proposals to whoever leads now.
    pub(super) fn forward_again(&mut self, out: &mut Batch) {
        self.forward_at_ms = self.now_ms + self.forward_wait_ms;
        self.forward_wait_ms = (2 * self.forward_wait_ms).min(self.config.election_ms);
        let Some(leader) = self.leader.filter(|leader| *leader != self.config.node) else { return };
        let commands: Vec<Command> = self.proposals.own().cloned().collect();
        self.forward(leader, commands, out);
    }

    fn forward(&mut self, leader: NodeId, commands: Vec<Command>, out: &mut Batch) {
        if commands.is_empty() {
            return;
        }
        if self.forward_at_ms <= self.now_ms {
            self.forward_wait_ms = 2 * self.config.heartbeat_ms;
            self.forward_at_ms = self.now_ms + self.forward_wait_ms;
        }
        for commands in pages(commands, |command| command) {
            out.send_early(self.config.node, leader, Body::Forward { commands });
        }
    }

    /// Gives waiting proposals the next indexes, as far as the window allows; none while leadership is handed over.
    pub(super) fn place_waiting(&mut self, out: &mut Batch) {
        let Activity::Leading(Leader { ballot, transfer: None, .. }) = self.activity else { return };
        let mut entries = Vec::new();
        let (mut open, mut bytes) = (self.log.open(), self.log.bytes());
        loop {
            let fits = |command: &Command| {
                let room = bytes + command.cost_bytes() <= self.config.window_bytes;
                open == 0 || (open < self.config.window_entries && room)
            };
            let Some(command) = self.proposals.next_waiting(fits) else { break };
            open += 1;
            bytes += command.cost_bytes();
            let index = self.log.chosen() + open;
            entries.push(Entry { index, ballot, command });
        }
        if !entries.is_empty() {
            self.propose_entries(entries, out);
        }
    }

    /// Phase 2a for new entries: the others' Accept leaves at once, its own acceptance behind the write.
    fn propose_entries(&mut self, entries: Vec<Entry>, out: &mut Batch) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        let ballot = leader.ballot;
        assert_eq!(leader.transfer, None, "a leader that hands over places nothing, not {entries:?}");
        if self.log.open() == 0 {
            leader.repeat_at_ms = self.now_ms + leader.repeat_wait_ms;
        }
        let (node, chosen) = (self.config.node, self.log.chosen());
        let (first, last) = (entries[0].index, entries[entries.len() - 1].index);
        for Entry { index, ballot, command } in &entries {
            self.log.put(*index, *ballot, command.clone());
            self.proposals.placed(command, *index);
        }
        out.entries.extend(entries.iter().cloned());
        for entries in pages(entries, |entry| &entry.command) {
            for peer in self.config.voters.others(node) {
                let entries = entries.clone();
                out.send_early(node, peer, Body::Accept { ballot, chosen, entries });
            }
        }
        let ranges = vec![Range { first, last }];
        out.send(node, node, Body::Accepted { ballot, chosen, ranges });
    }

    /// Phase 2b arrives: what a majority accepted in a row is chosen.
    pub(super) fn handle_accepted(
        &mut self,
        place: usize,
        ballot: Ballot,
        chosen: Index,
        ranges: &[Range],
        out: &mut Batch,
    ) {
        self.peers[place].chosen = self.peers[place].chosen.max(chosen);
        if !matches!(&self.activity, Activity::Leading(leader) if leader.ballot == ballot) {
            return;
        }
        self.peers[place].followed_ms = self.now_ms;
        for Range { first, last } in ranges {
            for index in (*first).max(self.log.chosen() + 1)..=(*last).min(self.log.last()) {
                let slot = self.log.slot_mut(index).expect("a leader's window has no holes");
                assert_eq!(slot.ballot, ballot, "a leader's window is of its ballot {ballot}");
                slot.accepted_by.insert(place);
            }
        }
        self.choose_accepted(out);
    }

    fn choose_accepted(&mut self, out: &mut Batch) {
        let before = self.log.chosen();
        let mut forwarders = Set::default();
        while let Some(slot) = self.log.front() {
            if !self.config.voters.is_quorum(slot.accepted_by) {
                break;
            }
            let entry = self.choose_front(out);
            if let Some(place) = self.config.voters.place(entry.command.from) {
                forwarders.insert(place);
            }
        }
        if self.log.chosen() == before {
            return;
        }
        let now_ms = self.now_ms;
        if let Activity::Leading(leader) = &mut self.activity {
            leader.repeat_wait_ms = 2 * self.config.heartbeat_ms;
            leader.repeat_at_ms = now_ms + leader.repeat_wait_ms;
        }
        self.place_waiting(out);
        self.tell_forwarders(forwarders, out);
        self.tell_successor(out);
    }

    /// Those whose clients wait for what was just chosen hear of it at once, unless an Accept in this batch
    /// tells them; the others hear with the next Accept or heartbeat.
    fn tell_forwarders(&mut self, forwarders: Set, out: &mut Batch) {
        let Activity::Leading(Leader { ballot, .. }) = self.activity else { return };
        let (node, chosen, sent_ms) = (self.config.node, self.log.chosen(), self.now_ms);
        for (place, peer) in self.config.voters.ids().iter().copied().enumerate() {
            if peer != node && forwarders.contains(place) {
                out.send_early(node, peer, Body::Heartbeat { ballot, chosen, sent_ms });
            }
        }
    }

    pub(super) fn handle_heartbeat_reply(
        &mut self,
        place: usize,
        ballot: Ballot,
        chosen: Index,
        sent_ms: u64,
        out: &mut Batch,
    ) {
        if matches!(&self.activity, Activity::Leading(leader) if leader.ballot == ballot) {
            let peer = &mut self.peers[place];
            peer.chosen = peer.chosen.max(chosen);
            match sent_ms <= self.now_ms {
                true => peer.followed_ms = peer.followed_ms.max(sent_ms),
                false => self.ignored += 1,
            }
            self.hand_over(out);
        }
    }

    pub(super) fn tick_leader(&mut self, out: &mut Batch) {
        if !self.hears_a_majority() {
            return self.step_down("no majority was heard for the election timeout", out);
        }
        let Activity::Leading(leader) = &mut self.activity else { return };
        let ballot = leader.ballot;
        if self.now_ms >= leader.heartbeat_at_ms {
            leader.heartbeat_at_ms = self.now_ms + self.config.heartbeat_ms;
            let (node, chosen, sent_ms) = (self.config.node, self.log.chosen(), self.now_ms);
            for peer in self.config.voters.others(node) {
                out.send_early(node, peer, Body::Heartbeat { ballot, chosen, sent_ms });
            }
        }
        if self.log.open() > 0 && self.now_ms >= leader.repeat_at_ms {
            leader.repeat_wait_ms = (2 * leader.repeat_wait_ms).min(self.config.election_ms);
            leader.repeat_at_ms = self.now_ms + leader.repeat_wait_ms;
            self.repeat_accepts(ballot, out);
        }
        self.tick_transfer(out);
    }

    /// Check-quorum (Raft thesis section 6.2): a leader that is cut off makes way.
    fn hears_a_majority(&self) -> bool {
        let mut heard = Set::default();
        for (place, peer) in self.peers.iter().enumerate() {
            let own = place == self.own_place();
            if own || self.now_ms < peer.followed_ms + self.config.election_ms {
                heard.insert(place);
            }
        }
        self.config.voters.is_quorum(heard)
    }

    /// Sends each peer the first page of what it has not accepted.
    fn repeat_accepts(&mut self, ballot: Ballot, out: &mut Batch) {
        let (node, chosen) = (self.config.node, self.log.chosen());
        for (place, peer) in self.config.voters.ids().iter().copied().enumerate() {
            if peer == node {
                continue;
            }
            let mut bytes = 0;
            let missing = self.log.entries_from(0).filter(|(_, slot)| !slot.accepted_by.contains(place));
            let page = missing.take_while(|(_, slot)| {
                let first = bytes == 0;
                bytes += slot.command.cost_bytes();
                first || bytes <= MAX_PAGE_BYTES
            });
            let entries: Vec<Entry> = page
                .map(|(index, slot)| Entry { index, ballot: slot.ballot, command: slot.command.clone() })
                .collect();
            if !entries.is_empty() {
                out.send_early(node, peer, Body::Accept { ballot, chosen, entries });
            }
        }
    }
}

/// Cuts a list into pieces of at most [`MAX_PAGE_BYTES`], each of at least one item.
fn pages<T>(items: Vec<T>, command: impl Fn(&T) -> &Command) -> Vec<Vec<T>> {
    let mut pages: Vec<Vec<T>> = Vec::new();
    let mut bytes = usize::MAX;
    for item in items {
        let cost_bytes = command(&item).cost_bytes();
        bytes = bytes.saturating_add(cost_bytes);
        match pages.last_mut() {
            Some(page) if bytes <= MAX_PAGE_BYTES => page.push(item),
            _ => {
                bytes = cost_bytes;
                pages.push(vec![item]);
            }
        }
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Restored};
    use super::*;
    use crate::consensus::message::Message;
    use crate::consensus::protocol::{Input, Protocol};
    use crate::consensus::quorum::Voters;

    /// Node 1 of three, elected with these entries of its own, and the batch in which it began to lead.
    fn leader(entries: Vec<Entry>) -> (Paxos, Batch) {
        let config = Config {
            node: 1,
            voters: Voters::new(vec![1, 2, 3]),
            election_ms: 100,
            heartbeat_ms: 10,
            window_entries: MAX_WINDOW_ENTRIES,
            window_bytes: 1 << 30,
            seed: 1,
        };
        let mut core = Paxos::new(config, Restored { highest_round: 1, entries, ..Restored::default() });
        let mut batch = Batch::default();
        for now_ms in (0..=200).step_by(40) {
            core.step(Input::Tick { now_ms }, &mut batch);
        }
        let ballot = Ballot { round: 2, node: 1 };
        let granted = Body::PreVoteReply { ballot, granted: true, promised: Ballot::ZERO };
        let (chosen, compacted, first, last) = (0, 0, 1, 1);
        let promise = Body::Promise { ballot, chosen, compacted, first, last, more: false, entries: vec![] };
        for (from, body) in [(2, &granted), (2, &promise), (3, &promise)] {
            batch = Batch::default();
            core.step(Input::Message(Message { from, to: 1, body: body.clone() }), &mut batch);
        }
        assert_eq!(core.leader, Some(1));
        (core, batch)
    }

    fn entry(index: Index) -> Entry {
        Entry { index, ballot: Ballot { round: 1, node: 2 }, command: Command::value(index, 2, "v") }
    }

    /// What a leader says is within the window that its peers keep, also if it adopted all of one: they close
    /// the connection otherwise.
    #[test]
    fn a_whole_adopted_window_leaves_no_place_for_a_noop() {
        for (count, last) in [(0, 1), (5, 6), (MAX_WINDOW_ENTRIES, MAX_WINDOW_ENTRIES)] {
            let (core, batch) = leader((1..=count).map(entry).collect());
            assert_eq!(core.status().last, last);
            assert_eq!(batch.entries.last().map(|entry| entry.index), Some(last));
        }
    }

    /// A kind that this version does not know is not proposed for others.
    #[test]
    fn an_unknown_kind_is_not_proposed() {
        let (mut core, _) = leader(vec![]);
        let unknown = Command { kind: Kind::Unknown(9), ..Command::value(1, 2, "v") };
        let commands = vec![unknown, Command::value(2, 2, "v")];
        let mut batch = Batch::default();
        core.step(Input::Message(Message { from: 2, to: 1, body: Body::Forward { commands } }), &mut batch);
        assert_eq!((core.status().pending, core.status().ignored), (1, 1));
    }
}
