//! The follower (thesis section 3.5): makes its log equal to the leader's, and raises its watermark with it.

use super::super::batch::{Batch, Event};
use super::super::message::{ClusterBody, RaftBody};
use super::super::types::{
    Ballot, Entry, Index, MAX_PAYLOAD_BYTES, MAX_WINDOW_BYTES, MAX_WINDOW_ENTRIES, NodeId, Position,
};
use super::{Activity, Raft};

/// The most that a follower keeps above its watermark, besides the limit of [`MAX_WINDOW_ENTRIES`]: as much
/// as a leader may have open, whatever its limits, one large entry and the no-ops of elections. (A lower
/// limit could stop the cluster: what a leader adopted is chosen only together with an entry of its own,
/// which comes last.) The rest is dropped.
const MAX_AHEAD_BYTES: usize = MAX_WINDOW_BYTES + MAX_PAYLOAD_BYTES + 64 * MAX_WINDOW_ENTRIES as usize;

/// What a leader told this follower. The watermark rises as far as both indexes allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Followed {
    /// The leader's ballot.
    pub(super) ballot: Ballot,
    /// The log is known to be the leader's up to this index: an Append matched there.
    matched: Index,
    /// The highest watermark that the leader announced.
    chosen: Index,
}

/// What becomes of an entry that a leader sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// The log does not hold it; nor will it hold what comes after it in the same message.
    Not,
    /// The log held it before.
    Before,
    /// From now on the log holds it: it is written.
    New,
}

impl Followed {
    /// See [`Raft::normalize`]: what is chosen needs no leader's word any more.
    #[cfg(feature = "internals")]
    pub(super) fn normalize(&mut self, chosen: Index) {
        self.matched = self.matched.max(chosen);
        self.chosen = self.chosen.max(chosen);
    }
}

impl Raft {
    /// Follows the sender of what only a leader says, if its round is not below this node's.
    pub(super) fn follow(&mut self, from: NodeId, ballot: Ballot, out: &mut Batch) -> bool {
        if !self.member.believes(from, ballot) {
            return false;
        }
        if ballot.round < self.promised.round {
            self.member.refuse(from, ballot, self.promised, out);
            return false;
        }
        if ballot.round > self.promised.round {
            self.adopt_round(ballot.round, out);
        }
        // A round has one leader: a node that says otherwise is not honest.
        let other = self.followed.ballot.round == ballot.round && self.followed.ballot != ballot;
        if other || matches!(self.activity, Activity::Leading(_)) {
            self.member.ignore();
            return false;
        }
        self.step_down("a leader is heard", out);
        if self.followed.ballot != ballot {
            self.followed = Followed { ballot, matched: 0, chosen: 0 };
        }
        self.member.heard_leader(from, ballot, out);
        true
    }

    /// Takes entries if the logs agree before them; otherwise says where they may agree.
    pub(super) fn handle_append(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        chosen: Index,
        previous: Position,
        mut entries: Vec<Entry>,
        out: &mut Batch,
    ) {
        if !self.follow(from, ballot, out) {
            return;
        }
        self.note_leaders_watermark(from, chosen);
        // What is chosen is in every leader's log, so the logs agree up to there.
        let own = self.log.chosen();
        if previous.index > own && self.log.round_at(previous.index) != Some(previous.round) {
            let hint = self.log.agreement(previous, own);
            let reply = RaftBody::Mismatch { ballot, chosen: own, previous: previous.index, hint };
            return self.member.send_early(from, reply, out);
        }
        let mut matched = previous.index;
        let mut ended = false;
        entries.retain(|entry| {
            ended |= entry.index != matched + 1 || entry.ballot.round > ballot.round;
            let taken = if ended { Taken::Not } else { self.append(entry, out) };
            ended |= taken == Taken::Not;
            if !ended {
                matched = entry.index;
                // This is done for each entry, so that what is chosen leaves the window and makes room.
                self.followed.matched = self.followed.matched.max(matched);
                self.choose_followed(out);
            }
            taken == Taken::New
        });
        out.write(entries);
        let matched = matched.max(self.log.chosen());
        self.followed.matched = self.followed.matched.max(matched);
        self.choose_followed(out);
        let chosen = self.log.chosen();
        self.member.send(from, RaftBody::Appended { ballot, chosen, matched }, out);
    }

    /// Takes an entry into the log, unless it is there. Only what conflicts with it is removed: what follows
    /// an entry that is there already may have come with a later message.
    fn append(&mut self, entry: &Entry, out: &mut Batch) -> Taken {
        let index = entry.index;
        match self.log.round_at(index) {
            _ if index <= self.log.chosen() => return Taken::Before,
            Some(round) if round == entry.ballot.round => return Taken::Before,
            Some(_) if index <= self.followed.matched => {
                self.member.ignore();
                return Taken::Not;
            }
            Some(_) => self.truncate_from(index, out),
            None => {}
        }
        if entry.ballot.round < self.log.last().round {
            self.member.ignore();
            return Taken::Not;
        }
        let window = self.log.window();
        let bytes = window.bytes() + entry.command.cost_bytes();
        if window.open() >= MAX_WINDOW_ENTRIES || bytes > MAX_AHEAD_BYTES {
            self.member.count_dropped(1);
            return Taken::Not;
        }
        self.log.push(entry.clone());
        Taken::New
    }

    fn truncate_from(&mut self, first: Index, out: &mut Batch) {
        assert!(
            !matches!(self.activity, Activity::Leading(_)),
            "a leader removes nothing, not the entries from {first} on (Leader Append-Only)"
        );
        let last = self.log.last().index;
        out.events.push(Event::Truncating { first, last, ballot: self.followed.ballot });
        self.followed.matched = self.followed.matched.min(first - 1);
        self.log.truncate_from(first);
        out.truncate_from(first);
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
        self.note_leaders_watermark(from, chosen);
        self.choose_followed(out);
        let reply = ClusterBody::HeartbeatReply { ballot, chosen: self.log.chosen(), sent_ms };
        self.member.send_early(from, reply, out);
    }

    fn note_leaders_watermark(&mut self, from: NodeId, chosen: Index) {
        self.followed.chosen = self.followed.chosen.max(chosen);
        self.member.note_watermark(from, chosen);
    }

    /// The leader's watermark counts as far as this log is known to be the leader's: a heartbeat alone
    /// chooses nothing that did not match.
    fn choose_followed(&mut self, out: &mut Batch) {
        let upto = self.followed.chosen.min(self.followed.matched);
        while self.log.chosen() < upto {
            self.choose_front(out);
        }
    }

    /// Takes chosen entries that the leader no longer has in memory: they are facts, whatever the round. They
    /// are answered as appended ones are; if they begin above this node's watermark, it asks for those that
    /// it lacks.
    pub(super) fn handle_learn(&mut self, from: NodeId, entries: Vec<Entry>, out: &mut Batch) {
        if matches!(self.activity, Activity::Leading(_)) {
            return;
        }
        let next = self.log.chosen() + 1;
        if entries.first().is_some_and(|entry| entry.index > next) {
            return self.member.send_early(from, ClusterBody::CatchUp { first: next }, out);
        }
        for entry in entries.into_iter().filter(|entry| entry.index >= next) {
            // Rounds never fall in a log: a node that says otherwise is not honest.
            let falls = self.log.round_at(self.log.chosen()).is_some_and(|round| entry.ballot.round < round);
            if falls || entry.index != self.log.chosen() + 1 {
                self.member.ignore();
                break;
            }
            if !self.member.note_round(entry.ballot.round) {
                break;
            }
            self.learn_front(entry, out);
        }
        self.choose_followed(out);
        if self.member.is_led_by(from) {
            let (ballot, chosen) = (self.followed.ballot, self.log.chosen());
            self.member.send(from, RaftBody::Appended { ballot, chosen, matched: chosen }, out);
        }
    }

    fn learn_front(&mut self, entry: Entry, out: &mut Batch) {
        let (index, round) = (entry.index, entry.ballot.round);
        if round > self.promised.round {
            self.adopt_round(round, out);
        }
        if self.log.round_at(index) != Some(round) {
            if index <= self.log.last().index {
                self.truncate_from(index, out);
            }
            self.log.push(entry.clone());
            out.entries.push(entry);
        }
        self.choose_front(out);
    }
}
