//! The acceptor: promises ballots, accepts entries, follows the leader it hears.

use super::super::batch::Batch;
use super::super::message::{ClusterBody, MAX_PAGE_BYTES, PaxosBody, Range};
use super::super::types::{Ballot, Command, Entry, Index, MAX_WINDOW_ENTRIES, NodeId};
use super::{Activity, Paxos};

/// What a node keeps of entries above its watermark at most, in windows of a leader: what comes beyond is
/// dropped, and learned once chosen (but for the entry that the watermark waits for).
const MAX_WINDOWS_AHEAD: usize = 4;

/// What becomes of an entry that a leader sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acceptance {
    /// It is not held, nor answered.
    Never,
    /// It was held before, or is known to be chosen: answered.
    Held,
    /// From now on it is held: written, and answered behind the write.
    New,
}

impl Paxos {
    /// Pre-vote: would follow anyone, unless a leader was heard within T.
    pub(super) fn handle_pre_vote(&mut self, from: NodeId, ballot: Ballot, out: &mut Batch) {
        if from == self.member.config.node || !self.member.plausible(from, ballot) {
            self.member.ignored += 1;
            return;
        }
        let leader_lives = self.member.leader_lives();
        let reply = ClusterBody::PreVoteReply { ballot, granted: !leader_lives, promised: self.promised };
        out.send_early(self.member.config.node, from, reply);
    }

    /// Phase 1b: promises, and says what it accepted above its watermark.
    pub(super) fn handle_prepare(&mut self, from: NodeId, ballot: Ballot, first: Index, out: &mut Batch) {
        if from == self.member.config.node || first == 0 || !self.member.plausible(from, ballot) {
            self.member.ignored += 1;
            return;
        }
        if ballot < self.promised {
            return self.refuse(from, ballot, out);
        }
        let newer = ballot > self.promised;
        self.promise(ballot, out);
        if newer {
            self.member.restart_election_timer();
        }
        let page = self.promise_page(ballot, first);
        out.send(self.member.config.node, from, page);
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
            out.send(self.member.config.node, from, reply);
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
            let same = slot.command == *command;
            self.member.ignored += u64::from(!same);
            return if same { Acceptance::Held } else { Acceptance::Never };
        }
        if !self.has_room(index, command) {
            self.member.dropped += 1;
            return Acceptance::Never;
        }
        self.log.put(index, ballot, command.clone());
        Acceptance::New
    }

    /// Whether an entry above the watermark may be kept. What it replaces makes room for it, and the one
    /// that the watermark waits for always has room: a quorum that needs this node would else stand still.
    fn has_room(&self, index: Index, command: &Command) -> bool {
        let ahead = index - self.log.chosen();
        let replaced = self.log.slot(index).map_or(0, |slot| slot.command.cost_bytes());
        let bytes = self.log.bytes() - replaced + command.cost_bytes();
        let ahead_bytes = MAX_WINDOWS_AHEAD.saturating_mul(self.member.config.window_bytes);
        ahead == 1 || (ahead <= MAX_WINDOW_ENTRIES && bytes <= ahead_bytes)
    }

    /// The leader wants to know whether it still leads: a follower says so, anyone else refuses.
    pub(super) fn handle_confirm(&mut self, from: NodeId, ballot: Ballot, number: u64, out: &mut Batch) {
        if self.follow(from, ballot, out) {
            out.send_early(self.member.config.node, from, ClusterBody::Confirmed { ballot, number });
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
        out.send_early(self.member.config.node, from, reply);
    }

    /// Follows the sender of what only a leader says, if its ballot is not below the promise.
    pub(super) fn follow(&mut self, from: NodeId, ballot: Ballot, out: &mut Batch) -> bool {
        if from == self.member.config.node || !self.member.plausible(from, ballot) {
            self.member.ignored += 1;
            return false;
        }
        if ballot < self.promised {
            self.refuse(from, ballot, out);
            return false;
        }
        self.promise(ballot, out);
        if matches!(self.activity, Activity::Campaigning(_)) {
            self.step_down("a leader is heard", out);
        }
        assert!(
            matches!(self.activity, Activity::Following),
            "node {} neither leads nor campaigns once it promised {ballot} to another",
            self.member.config.node
        );
        self.member.heard_leader(from, ballot, out);
        true
    }

    fn refuse(&mut self, to: NodeId, ballot: Ballot, out: &mut Batch) {
        out.send_early(self.member.config.node, to, ClusterBody::Refuse { ballot, promised: self.promised });
    }
}
