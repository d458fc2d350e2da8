//! The leader: places proposals, counts acceptances, repeats what makes no progress, steps down when no
//! majority is heard. And, for all roles, what happens to a proposal.

use std::iter::repeat_n;

use super::super::batch::Batch;
use super::super::member::pages;
use super::super::message::{MAX_PAGE_BYTES, PaxosBody, Range};
use super::super::protocol::Proposal;
use super::super::quorum::Set;
use super::super::reads::{Read, Reads};
use super::super::transfer::Transfer;
use super::super::types::{Ballot, Command, Entry, Index, MAX_WINDOW_ENTRIES, NodeId};
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
    /// Its first own entry that comes after all it adopted: once that is chosen, its watermark is ahead of
    /// all that earlier leaders told.
    established: Index,
    reads: Reads,
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
    /// known to be chosen; then what waits. A whole window of adopted entries goes without the no-op, for
    /// which nobody would have a place: the last of them, now of this ballot, says the same.
    pub(super) fn lead(&mut self, ballot: Ballot, adopted: Vec<Command>, out: &mut Batch) {
        let repeat_wait_ms = 2 * self.member.config.heartbeat_ms;
        let noop =
            ((adopted.len() as u64) < MAX_WINDOW_ENTRIES).then(|| Command::noop(self.member.config.node));
        self.activity = Activity::Leading(Leader {
            ballot,
            heartbeat_at_ms: self.member.now_ms + self.member.config.heartbeat_ms,
            repeat_at_ms: self.member.now_ms + repeat_wait_ms,
            repeat_wait_ms,
            established: self.log.chosen() + adopted.len() as u64 + noop.iter().len() as u64,
            reads: Reads::default(),
            transfer: None,
        });
        self.member.elections += 1;
        self.member.leader = Some(self.member.config.node);
        self.member.follow_now();
        self.member.proposals.restart();
        let entries = adopted.into_iter().chain(noop).zip(self.log.chosen() + 1..);
        let entries: Vec<Entry> = entries.map(|(command, index)| Entry { index, ballot, command }).collect();
        for Entry { index, command, .. } in &entries {
            self.member.proposals.adopted(command, *index);
        }
        self.propose_entries(entries, out);
        self.place_waiting(out);
    }

    pub(super) fn handle_propose(&mut self, proposals: Vec<Proposal>, out: &mut Batch) {
        self.member.take_proposals(proposals, out);
        self.place_waiting(out);
    }

    /// Proposals that a follower passed on. A node that does not lead drops them: the sender repeats. What
    /// this version could not deliver is not proposed: once chosen, it would stop every node that does not
    /// know it.
    pub(super) fn handle_forward(&mut self, from: NodeId, commands: Vec<Command>, out: &mut Batch) {
        if !matches!(self.activity, Activity::Leading(_)) {
            self.member.dropped += commands.len() as u64;
            return;
        }
        self.member.take_forwarded(from, commands);
        self.place_waiting(out);
    }

    /// Gives waiting proposals the next indexes, as far as the window allows; none while leadership is handed
    /// over.
    pub(super) fn place_waiting(&mut self, out: &mut Batch) {
        let Activity::Leading(Leader { ballot, transfer: None, .. }) = self.activity else { return };
        let entries = self.member.place(&self.log, self.member.config.window_entries, ballot);
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
            leader.repeat_at_ms = self.member.now_ms + leader.repeat_wait_ms;
        }
        let (node, chosen) = (self.member.config.node, self.log.chosen());
        let (first, last) = (entries[0].index, entries[entries.len() - 1].index);
        for Entry { index, ballot, command } in &entries {
            self.log.put(*index, *ballot, command.clone());
        }
        out.write(entries.clone());
        let others = self.member.config.voters.ids().len() - 1;
        for entries in pages(entries, |entry| &entry.command) {
            for (peer, entries) in self.member.config.voters.others(node).zip(repeat_n(entries, others)) {
                out.send_early(node, peer, PaxosBody::Accept { ballot, chosen, entries });
            }
        }
        let ranges = vec![Range { first, last }];
        out.send(node, node, PaxosBody::Accepted { ballot, chosen, ranges });
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
        self.member.peers[place].chosen = self.member.peers[place].chosen.max(chosen);
        if !matches!(&self.activity, Activity::Leading(leader) if leader.ballot == ballot) {
            return;
        }
        self.member.peers[place].followed_ms = self.member.now_ms;
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
            if !self.member.config.voters.is_quorum(slot.accepted_by) {
                break;
            }
            let entry = self.choose_front(out);
            if let Some(place) = self.member.config.voters.place(entry.command.from) {
                forwarders.insert(place);
            }
        }
        if self.log.chosen() == before {
            return;
        }
        let now_ms = self.member.now_ms;
        let Activity::Leading(leader) = &mut self.activity else { return };
        let ballot = leader.ballot;
        leader.repeat_wait_ms = 2 * self.member.config.heartbeat_ms;
        leader.repeat_at_ms = now_ms + leader.repeat_wait_ms;
        self.place_waiting(out);
        self.begin_reads(out);
        self.member.tell_forwarders(forwarders, ballot, self.log.chosen(), out);
        self.tell_successor(out);
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
            self.member.heartbeat_answered(place, chosen, sent_ms);
            self.hand_over(out);
        }
    }

    /// A read, of this node's or another's. A leader asks whether it still leads; any other node passes its
    /// own on.
    pub(super) fn handle_read(&mut self, from: NodeId, id: u64, out: &mut Batch) {
        let Activity::Leading(leader) = &mut self.activity else {
            if from == self.member.config.node {
                self.member.pass_on_read(id, out);
            }
            return;
        };
        if !leader.reads.add(Read { from, id }) {
            self.member.dropped += 1;
        }
        self.begin_reads(out);
    }

    fn begin_reads(&mut self, out: &mut Batch) {
        let chosen = self.log.chosen();
        if let Activity::Leading(leader) = &mut self.activity
            && chosen >= leader.established
        {
            leader.reads.begin(&self.member, leader.ballot, chosen, out);
        }
    }

    pub(super) fn handle_confirmed(&mut self, place: usize, ballot: Ballot, number: u64, out: &mut Batch) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        if leader.ballot == ballot {
            leader.reads.handle_confirmed(&self.member, place, number, out);
            self.begin_reads(out);
        }
    }

    pub(super) fn tick_leader(&mut self, out: &mut Batch) {
        if !self.member.hears_a_majority() {
            return self.step_down("no majority was heard for the election timeout", out);
        }
        let Activity::Leading(leader) = &mut self.activity else { return };
        let ballot = leader.ballot;
        if self.member.now_ms >= leader.heartbeat_at_ms {
            leader.heartbeat_at_ms = self.member.now_ms + self.member.config.heartbeat_ms;
            self.member.send_heartbeats(ballot, self.log.chosen(), out);
        }
        if self.log.open() > 0 && self.member.now_ms >= leader.repeat_at_ms {
            leader.repeat_wait_ms = (2 * leader.repeat_wait_ms).min(self.member.config.election_ms);
            leader.repeat_at_ms = self.member.now_ms + leader.repeat_wait_ms;
            self.repeat_accepts(ballot, out);
        }
        if let Activity::Leading(leader) = &mut self.activity {
            leader.reads.tick(&self.member, leader.ballot, out);
        }
        self.tick_transfer(out);
    }

    /// Sends each peer the first page of what it has not accepted.
    fn repeat_accepts(&mut self, ballot: Ballot, out: &mut Batch) {
        let (node, chosen) = (self.member.config.node, self.log.chosen());
        for (place, peer) in self.member.config.voters.ids().iter().copied().enumerate() {
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
                out.send_early(node, peer, PaxosBody::Accept { ballot, chosen, entries });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::config::{Config, Restored};
    use crate::consensus::message::{ClusterBody, Message};
    use crate::consensus::protocol::{Input, Protocol};
    use crate::consensus::quorum::Voters;
    use crate::consensus::types::Kind;

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
        let granted = ClusterBody::PreVoteReply { ballot, granted: true, promised: Ballot::ZERO };
        let (chosen, compacted, first, last) = (0, 0, 1, 1);
        let promise =
            PaxosBody::Promise { ballot, chosen, compacted, first, last, more: false, entries: vec![] };
        for (from, body) in [(2, granted.into()), (2, promise.clone().into()), (3, promise.into())] {
            batch = Batch::default();
            core.step(Input::Message(Message { from, to: 1, body }), &mut batch);
        }
        assert_eq!(core.member.leader, Some(1));
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
        core.step(
            Input::Message(Message { from: 2, to: 1, body: ClusterBody::Forward { commands }.into() }),
            &mut batch,
        );
        assert_eq!((core.status().pending, core.status().ignored), (1, 1));
    }
}
