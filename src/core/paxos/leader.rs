//! The leader: places proposals, counts acceptances, repeats what makes no progress, steps down when no
//! majority is heard. This file also has, for all roles, what happens to a proposal.

use std::iter::repeat_n;

use super::super::batch::Batch;
use super::super::leadership::Leadership;
use super::super::log::Log;
use super::super::member::{Member, Sender, pages};
use super::super::message::{MAX_PAGE_BYTES, PaxosBody, Range};
use super::super::protocol::Proposal;
use super::super::quorum::Set;
use super::super::reads::Read;
use super::super::types::{Ballot, Command, Entry, Index, MAX_WINDOW_ENTRIES, NodeId};
use super::{Activity, Paxos};

/// What a leader knows besides the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    pub(super) leadership: Leadership,
    /// When all open entries are sent again to the peers that have not accepted them, and the wait after
    /// that; any progress of the watermark resets both.
    repeat_at_ms: u64,
    repeat_wait_ms: u64,
}

impl Leader {
    pub(super) fn ballot(&self) -> Ballot {
        self.leadership.ballot()
    }
}

impl Paxos {
    /// Begins to lead: proposes again what it adopted, then a no-op of its own, which shows when all before
    /// it is chosen; then what waits. After a whole window of adopted entries there is no no-op, since nobody
    /// would have a place for it: the last of them, now of this ballot, serves as well.
    pub(super) fn lead(&mut self, ballot: Ballot, adopted: Vec<Command>, out: &mut Batch) {
        let noop = ((adopted.len() as u64) < MAX_WINDOW_ENTRIES).then(|| Command::noop(self.member.node()));
        let established = self.log.chosen() + adopted.len() as u64 + noop.iter().len() as u64;
        let leadership = Leadership::begin(&mut self.member, ballot, established);
        let repeat_wait_ms = 2 * self.member.heartbeat_ms();
        let repeat_at_ms = self.member.now_ms() + repeat_wait_ms;
        self.activity = Activity::Leading(Leader { leadership, repeat_at_ms, repeat_wait_ms });
        let entries = adopted.into_iter().chain(noop).zip(self.log.chosen() + 1..);
        let entries: Vec<Entry> = entries.map(|(command, index)| Entry { index, ballot, command }).collect();
        for Entry { index, command, .. } in &entries {
            self.member.proposals_mut().adopted(command, *index);
        }
        self.propose_entries(entries, out);
        self.place_waiting(out);
    }

    pub(super) fn handle_propose(&mut self, proposals: Vec<Proposal>, out: &mut Batch) {
        self.member.take_proposals(proposals, out);
        self.place_waiting(out);
    }

    /// Proposals that a follower passed on. A node that does not lead drops them: the sender repeats them.
    /// What this version could not deliver is not proposed: once chosen, it would stop every node that does
    /// not know it.
    pub(super) fn handle_forward(&mut self, from: NodeId, commands: Vec<Command>, out: &mut Batch) {
        if !matches!(self.activity, Activity::Leading(_)) {
            self.member.count_dropped(commands.len() as u64);
            return;
        }
        self.member.take_forwarded(from, commands);
        self.place_waiting(out);
    }

    /// Gives waiting proposals the next indexes, as far as the window allows; none while leadership is handed
    /// over.
    pub(super) fn place_waiting(&mut self, out: &mut Batch) {
        let Activity::Leading(Leader { leadership, .. }) = &self.activity else { return };
        let window_entries = self.member.window_entries();
        let entries = leadership.place(&mut self.member, &self.log, window_entries);
        if !entries.is_empty() {
            self.propose_entries(entries, out);
        }
    }

    /// Phase 2a for new entries: the others' Accept leaves immediately, the leader's own acceptance behind
    /// the write.
    fn propose_entries(&mut self, entries: Vec<Entry>, out: &mut Batch) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        leader.leadership.assert_places(&entries);
        if self.log.open() == 0 {
            leader.repeat_at_ms = self.member.now_ms() + leader.repeat_wait_ms;
        }
        let (ballot, chosen) = (leader.ballot(), self.log.chosen());
        let (first, last) = (entries[0].index, entries[entries.len() - 1].index);
        for Entry { index, ballot, command } in &entries {
            self.log.put(*index, *ballot, command.clone());
        }
        out.write(entries.clone());
        let others = self.member.roster().len() - 1;
        for entries in pages(entries, |entry| &entry.command) {
            for (peer, entries) in self.member.others().zip(repeat_n(entries, others)) {
                self.member.send_early(peer.node, PaxosBody::Accept { ballot, chosen, entries }, out);
            }
        }
        let ranges = vec![Range { first, last }];
        self.member.send_to_itself(PaxosBody::Accepted { ballot, chosen, ranges }, out);
    }

    /// Phase 2b arrives: what a majority accepted in a row is chosen.
    pub(super) fn handle_accepted(
        &mut self,
        from: Sender,
        ballot: Ballot,
        chosen: Index,
        ranges: &[Range],
        out: &mut Batch,
    ) {
        self.member.note_watermark(from.node, chosen);
        if !self.leads_under(ballot) {
            return;
        }
        self.member.note_following(from.node);
        for Range { first, last } in ranges {
            for index in (*first).max(self.log.chosen() + 1)..=(*last).min(self.log.last()) {
                let slot = self.log.slot_mut(index).expect("a leader's window has no holes");
                assert_eq!(slot.ballot, ballot, "a leader's window is of its ballot {ballot}");
                slot.accepted_by.insert(from.bit);
            }
        }
        self.choose_accepted(out);
    }

    fn choose_accepted(&mut self, out: &mut Batch) {
        let before = self.log.chosen();
        let mut forwarders = Set::default();
        while let Some(slot) = self.log.front() {
            if !self.member.is_quorum(slot.accepted_by) {
                break;
            }
            let entry = self.choose_front(out);
            if let Some(bit) = self.member.roster().bit(entry.command.from) {
                forwarders.insert(bit);
            }
        }
        if self.log.chosen() == before {
            return;
        }
        let Activity::Leading(leader) = &mut self.activity else { return };
        leader.repeat_wait_ms = 2 * self.member.heartbeat_ms();
        leader.repeat_at_ms = self.member.now_ms() + leader.repeat_wait_ms;
        self.place_waiting(out);
        let Activity::Leading(Leader { leadership, .. }) = &mut self.activity else { return };
        leadership.begin_reads(&self.member, self.log.chosen(), out);
        leadership.tell_forwarders(&self.member, forwarders, self.log.chosen(), out);
        self.tell_successor_the_watermark(out);
    }

    fn leads_under(&self, ballot: Ballot) -> bool {
        matches!(&self.activity, Activity::Leading(leader) if leader.ballot() == ballot)
    }

    pub(super) fn handle_heartbeat_reply(
        &mut self,
        from: Sender,
        ballot: Ballot,
        chosen: Index,
        sent_ms: u64,
        out: &mut Batch,
    ) {
        if self.leads_under(ballot) {
            self.member.heartbeat_answered(from.node, chosen, sent_ms);
            self.hand_over(out);
        }
    }

    /// A read of this node or another. A leader asks whether it still leads; any other node passes its own
    /// on.
    pub(super) fn handle_read(&mut self, from: NodeId, id: u64, out: &mut Batch) {
        let Activity::Leading(Leader { leadership, .. }) = &mut self.activity else {
            return self.member.pass_on_read(from, id, out);
        };
        leadership.handle_read(&mut self.member, Read { from, id }, self.log.chosen(), out);
    }

    pub(super) fn handle_confirmed(&mut self, from: Sender, ballot: Ballot, number: u64, out: &mut Batch) {
        if let Activity::Leading(Leader { leadership, .. }) = &mut self.activity {
            leadership.handle_confirmed(&self.member, from, ballot, number, self.log.chosen(), out);
        }
    }

    pub(super) fn tick_leader(&mut self, out: &mut Batch) {
        if !self.member.hears_a_majority() {
            return self.step_down("no majority was heard for the election timeout", out);
        }
        let Activity::Leading(leader) = &mut self.activity else { return };
        leader.leadership.tick_heartbeat(&self.member, self.log.chosen(), out);
        if self.log.open() > 0 && self.member.now_ms() >= leader.repeat_at_ms {
            leader.repeat_wait_ms = (2 * leader.repeat_wait_ms).min(self.member.election_ms());
            leader.repeat_at_ms = self.member.now_ms() + leader.repeat_wait_ms;
            let ballot = leader.ballot();
            repeat_accepts(&self.member, &self.log, ballot, out);
        }
        leader.leadership.tick_reads(&self.member, out);
        self.tick_transfer(out);
    }
}

/// Sends each peer the first page of what it has not accepted.
fn repeat_accepts(member: &Member, log: &Log, ballot: Ballot, out: &mut Batch) {
    let chosen = log.chosen();
    for peer in member.others() {
        let mut bytes = 0;
        let missing = log.entries_from(0).filter(|(_, slot)| !slot.accepted_by.contains(peer.bit));
        let page = missing.take_while(|(_, slot)| {
            let first = bytes == 0;
            bytes += slot.command.cost_bytes();
            first || bytes <= MAX_PAGE_BYTES
        });
        let entries: Vec<Entry> = page
            .map(|(index, slot)| Entry { index, ballot: slot.ballot, command: slot.command.clone() })
            .collect();
        if !entries.is_empty() {
            member.send_early(peer.node, PaxosBody::Accept { ballot, chosen, entries }, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Restored};
    use crate::message::{Body, ClusterBody, Message};
    use crate::protocol::{Input, Protocol};
    use crate::quorum::Voters;
    use crate::types::Kind;

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
        for now_ms in (0..=200).step_by(10) {
            core.step(Input::Tick { now_ms }, &mut batch);
        }
        let ballot = Ballot { round: 2, node: 1 };
        let granted = ClusterBody::PreVoteReply { ballot, granted: true, promised: Ballot::ZERO };
        let (chosen, compacted, first, last) = (0, 0, 1, 1);
        let promise =
            PaxosBody::Promise { ballot, chosen, compacted, first, last, more: false, entries: vec![] };
        for (from, body) in
            [(2, granted.into()), (2, promise.clone().into()), (3, promise.into())] as [(_, Body); 3]
        {
            batch = Batch::default();
            core.step(Input::Message(Message { from, to: 1, body }), &mut batch);
        }
        assert_eq!(core.status().leader, Some(1));
        (core, batch)
    }

    fn entry(index: Index) -> Entry {
        Entry { index, ballot: Ballot { round: 1, node: 2 }, command: Command::value(index, 2, "v") }
    }

    /// What a leader says is within the window that its peers keep, even if it adopted a whole one: otherwise
    /// they would close the connection.
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
