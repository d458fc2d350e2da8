//! The acceptor: promises ballots, accepts entries, follows the leader it hears.

use super::super::batch::Batch;
use super::super::campaign::answer_pre_vote;
use super::super::message::{ClusterBody, MAX_PAGE_BYTES, PaxosBody, Range};
use super::super::types::{Ballot, Command, Entry, Index, MAX_WINDOW_ENTRIES, NodeId};
use super::{Activity, Paxos};

/// The most that a node keeps of entries above its watermark, in windows of a leader: the rest is dropped,
/// and learned once chosen (except the entry that the watermark waits for).
const MAX_WINDOWS_AHEAD: usize = 4;

/// What becomes of an entry that a leader sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acceptance {
    /// It is neither held nor answered.
    Never,
    /// It was held before, or is known to be chosen: it is answered.
    Held,
    /// From now on it is held: it is written, and answered behind the write.
    New,
}

impl Paxos {
    /// Answers pre-vote: this node would follow anyone, unless a leader was heard within T.
    pub(super) fn handle_pre_vote(&mut self, from: NodeId, ballot: Ballot, out: &mut Batch) {
        if self.member.believes(from, ballot) {
            answer_pre_vote(&self.member, from, ballot, true, self.promised, out);
        }
    }

    /// Phase 1b: promises, and says what it accepted above its watermark.
    pub(super) fn handle_prepare(&mut self, from: NodeId, ballot: Ballot, first: Index, out: &mut Batch) {
        if first == 0 {
            return self.member.ignore();
        }
        if !self.member.believes(from, ballot) {
            return;
        }
        if ballot < self.promised {
            return self.member.refuse(from, ballot, self.promised, out);
        }
        let newer = ballot > self.promised;
        self.promise(ballot, out);
        if newer {
            self.member.restart_election_timer();
        }
        self.member.send(from, self.promise_page(ballot, first), out);
    }

    /// What was accepted from `first` on and above the watermark, as much of it as a page holds.
    fn promise_page(&self, ballot: Ballot, first: Index) -> PaxosBody {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut more = false;
        for (index, slot) in self.log.entries_from(first) {
            bytes += slot.command.cost_bytes();
            if bytes > MAX_PAGE_BYTES && !entries.is_empty() {
                more = true;
                break;
            }
            entries.push(Entry { index, ballot: slot.ballot, command: slot.command.clone() });
        }
        let last = match (entries.last(), more) {
            (Some(entry), true) => entry.index,
            _ => self.log.last().max(first),
        };
        let (chosen, compacted) = (self.log.chosen(), self.log.compacted());
        PaxosBody::Promise { ballot, chosen, compacted, first, last, more, entries }
    }

    /// Phase 2b: accepts what is not below the promise, stores it, and says so behind the write.
    pub(super) fn handle_accept(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        chosen: Index,
        mut entries: Vec<Entry>,
        out: &mut Batch,
    ) {
        if !self.follow(from, ballot, out) {
            return;
        }
        // First what is chosen by now leaves the log, so that there is room.
        self.vouch(ballot, chosen, out);
        let mut ranges: Vec<Range> = Vec::new();
        entries.retain(|entry| {
            let acceptance = self.accept(ballot, entry);
            match ranges.last_mut() {
                _ if acceptance == Acceptance::Never => {}
                Some(range) if range.last + 1 == entry.index => range.last = entry.index,
                _ => ranges.push(Range { first: entry.index, last: entry.index }),
            }
            acceptance == Acceptance::New
        });
        out.write(entries);
        self.follow_watermark(from, ballot, chosen, out);
        if !ranges.is_empty() {
            let reply = PaxosBody::Accepted { ballot, chosen: self.log.chosen(), ranges };
            self.member.send(from, reply, out);
        }
    }

    /// Takes an entry of the leader's into the log, unless it is there.
    fn accept(&mut self, leaders: Ballot, entry: &Entry) -> Acceptance {
        let Entry { index, ballot, ref command } = *entry;
        if ballot != leaders || index == 0 {
            return Acceptance::Never;
        }
        if index <= self.log.chosen() {
            return Acceptance::Held;
        }
        if let Some(slot) = self.log.slot(index).filter(|slot| slot.ballot == ballot) {
            if slot.command == *command {
                return Acceptance::Held;
            }
            self.member.ignore();
            return Acceptance::Never;
        }
        if !self.has_room(index, command) {
            self.member.count_dropped(1);
            return Acceptance::Never;
        }
        self.log.put(index, ballot, command.clone());
        Acceptance::New
    }

    /// Whether an entry above the watermark may be kept. What it replaces makes room for it, and the one that
    /// the watermark waits for always has room: otherwise a quorum that needs this node would stall.
    fn has_room(&self, index: Index, command: &Command) -> bool {
        let ahead = index - self.log.chosen();
        let replaced = self.log.slot(index).map_or(0, |slot| slot.command.cost_bytes());
        let bytes = self.log.bytes() - replaced + command.cost_bytes();
        let ahead_bytes = MAX_WINDOWS_AHEAD.saturating_mul(self.member.window_bytes());
        ahead == 1 || (ahead <= MAX_WINDOW_ENTRIES && bytes <= ahead_bytes)
    }

    /// The leader wants to know whether it still leads: a follower says so, anyone else refuses.
    pub(super) fn handle_confirm(&mut self, from: NodeId, ballot: Ballot, number: u64, out: &mut Batch) {
        if self.follow(from, ballot, out) {
            self.member.send_early(from, ClusterBody::Confirmed { ballot, number }, out);
        }
    }

    pub(super) fn handle_heartbeat(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        chosen: Index,
        sent_ms: u64,
        out: &mut Batch,
    ) {
        if !self.follow(from, ballot, out) {
            return;
        }
        self.follow_watermark(from, ballot, chosen, out);
        let reply = ClusterBody::HeartbeatReply { ballot, chosen: self.log.chosen(), sent_ms };
        self.member.send_early(from, reply, out);
    }

    /// Follows the sender of what only a leader says, if its ballot is not below the promise.
    pub(super) fn follow(&mut self, from: NodeId, ballot: Ballot, out: &mut Batch) -> bool {
        if !self.member.believes(from, ballot) {
            return false;
        }
        if ballot < self.promised {
            self.member.refuse(from, ballot, self.promised, out);
            return false;
        }
        self.promise(ballot, out);
        if matches!(self.activity, Activity::Campaigning(_)) {
            self.step_down("a leader is heard", out);
        }
        assert!(
            matches!(self.activity, Activity::Following),
            "node {} neither leads nor campaigns once it promised {ballot} to another node",
            self.member.node()
        );
        self.member.heard_leader(from, ballot, out);
        true
    }
}
