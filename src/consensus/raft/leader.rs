//! The leader (thesis sections 3.5, 3.6.2, 6.2, 6.4): appends proposals to its log, sends followers what they
//! lack, counts who has what, steps down when no majority is heard. And, for all roles, what happens to a
//! proposal.

use super::super::batch::{Batch, Event, Page};
use super::super::message::RaftBody;
use super::super::protocol::Proposal;
use super::super::quorum::{Set, Voters};
use super::super::reads::{Read, Reads};
use super::super::transfer::Transfer;
use super::super::types::{Ballot, Command, Entry, Index, MAX_WINDOW_ENTRIES, NodeId, Position};
use super::progress::{Progress, State};
use super::{Activity, Raft};

/// No leader places more proposals above its watermark. Above it there is room for the no-ops of elections: a
/// log may grow by one with each that does not choose anything. After 32,768 of those in a row a leader has
/// no place for its no-op and chooses nothing.
const MAX_PLACED: u64 = MAX_WINDOW_ENTRIES / 2;

/// What a leader knows beside the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    ballot: Ballot,
    heartbeat_at_ms: u64,
    /// By place in the voters; of this node's own only `matched` is used: up to it its own log is durable.
    progress: Vec<Progress>,
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

    /// Whether a follower's log is the leader's up to `last`.
    pub(super) fn has_all(&self, place: usize, last: Index) -> bool {
        self.progress[place].matched == last
    }

    /// The highest index that a majority has.
    fn replicated(&self, voters: &Voters) -> Index {
        let mut matched = [0; Voters::MAX];
        let matched = &mut matched[..self.progress.len()];
        for (matched, progress) in matched.iter_mut().zip(&self.progress) {
            *matched = progress.matched;
        }
        matched.sort_unstable();
        matched[matched.len() - voters.quorum_size()]
    }

    /// See [`Raft::normalize`].
    pub(super) fn normalize(&mut self, heartbeat_at_ms: u64, own_place: usize) {
        self.heartbeat_at_ms = heartbeat_at_ms;
        self.progress.iter_mut().for_each(|progress| progress.normalize(2 * heartbeat_at_ms));
        let matched = self.progress[own_place].matched;
        self.progress[own_place] = Progress { matched, ..Progress::new(matched + 1) };
    }

    pub(super) fn check_invariants(&self, last: Index) {
        for Progress { matched, next, .. } in &self.progress {
            assert!(
                matched < next && *next <= last + 1,
                "matched {matched} < next {next}, at most one above last {last}"
            );
        }
    }
}

impl Raft {
    /// Begins to lead: appends a no-op of its own round, with which all that it has from earlier ones is
    /// chosen; then what waits.
    pub(super) fn lead(&mut self, ballot: Ballot, out: &mut Batch) {
        let (node, last) = (self.member.config.node, self.log.last().index);
        let adopted = last - self.log.chosen();
        self.activity = Activity::Leading(Leader {
            ballot,
            heartbeat_at_ms: self.member.now_ms + self.member.config.heartbeat_ms,
            progress: vec![Progress::new(last + 1); self.member.config.voters.ids().len()],
            established: last + 1,
            reads: Reads::default(),
            transfer: None,
        });
        self.member.elections += 1;
        self.member.leader = Some(node);
        self.member.follow_now();
        self.member.proposals.restart();
        out.events.push(Event::Leading { ballot, adopted, holes: 0 });
        for (index, slot) in self.log.window().entries_from(0) {
            self.member.proposals.adopted(&slot.command, index);
        }
        if adopted < MAX_WINDOW_ENTRIES {
            let noop = Entry { index: last + 1, ballot, command: Command::noop(node) };
            self.append_entries(vec![noop], out);
        }
        self.place_waiting(out);
    }

    pub(super) fn handle_propose(&mut self, proposals: Vec<Proposal>, out: &mut Batch) {
        self.member.take_proposals(proposals, out);
        self.place_waiting(out);
    }

    /// Proposals that a follower passed on. A node that does not lead drops them: the sender repeats.
    pub(super) fn handle_forward(&mut self, from: NodeId, commands: Vec<Command>, out: &mut Batch) {
        if !matches!(self.activity, Activity::Leading(_)) {
            self.member.dropped += commands.len() as u64;
            return;
        }
        self.member.take_forwarded(from, commands);
        self.place_waiting(out);
    }

    /// Appends waiting proposals, as far as the window allows; none while leadership is handed over.
    pub(super) fn place_waiting(&mut self, out: &mut Batch) {
        let Activity::Leading(Leader { ballot, transfer: None, .. }) = self.activity else { return };
        let window_entries = self.member.config.window_entries.min(MAX_PLACED);
        let entries = self.member.place(self.log.window(), window_entries, ballot);
        if !entries.is_empty() {
            self.append_entries(entries, out);
        }
    }

    /// Appends entries to its log: to others they leave at once, its own copy counts behind the write.
    fn append_entries(&mut self, entries: Vec<Entry>, out: &mut Batch) {
        let Activity::Leading(leader) = &self.activity else { return };
        let ballot = leader.ballot;
        assert_eq!(leader.transfer, None, "a leader that hands over places nothing, not {entries:?}");
        for entry in &entries {
            self.log.push(entry.clone());
        }
        out.write(entries);
        for place in 0..self.member.peers.len() {
            self.send_entries(place, out);
        }
        let (node, chosen, matched) = (self.member.config.node, self.log.chosen(), self.log.last().index);
        out.send(node, node, RaftBody::Appended { ballot, chosen, matched });
    }

    /// Sends a follower all that it lacks and may be sent now.
    fn send_entries(&mut self, place: usize, out: &mut Batch) {
        let last = self.log.last().index;
        while let Activity::Leading(leader) = &self.activity
            && leader.progress[place].next <= last
            && self.send_append(place, false, out)
        {}
    }

    /// Sends a follower what comes next; whether it may be sent more. If so much is under way that it must
    /// wait, and it `asks` all the same, it sends no entries: the answer tells whether what is under way was
    /// lost.
    fn send_append(&mut self, place: usize, asks: bool, out: &mut Batch) -> bool {
        let node = self.member.config.node;
        let to = self.member.config.voters.ids()[place];
        let Activity::Leading(leader) = &mut self.activity else { return false };
        let (ballot, progress) = (leader.ballot, &mut leader.progress[place]);
        let waits = progress.waits(self.member.now_ms, self.member.config.window_bytes);
        if to == node || waits && !(asks && matches!(progress.state, State::Replicate { .. })) {
            return false;
        }
        let (chosen, first) = (self.log.chosen(), progress.next);
        if first <= self.log.base().index {
            // It takes them from its watermark on, which a restart may have put below what it once matched.
            let first = first.min(self.member.peers[place].chosen + 1);
            let again_at_ms = self.member.now_ms + 2 * self.member.config.heartbeat_ms;
            progress.state = State::CatchUp { again_at_ms };
            self.send_page(to, first, out);
            return false;
        }
        let round = self.log.round_at(first - 1).expect("the base and all above it is known");
        let previous = Position { index: first - 1, round };
        let entries = if waits { Vec::new() } else { self.log.page(first) };
        let bytes = entries.iter().map(|entry| entry.command.cost_bytes()).sum();
        progress.sent(first + entries.len() as u64 - 1, bytes);
        out.send_early(node, to, RaftBody::Append { ballot, chosen, previous, entries });
        matches!(progress.state, State::Replicate { .. })
    }

    /// A page of chosen entries, if the log still has them: what is compacted waits for snapshots.
    pub(super) fn send_page(&mut self, to: NodeId, first: Index, out: &mut Batch) {
        let (chosen, compacted) = (self.log.chosen(), self.log.window().compacted());
        let wanted = to != self.member.config.node && first > compacted && first <= chosen;
        if wanted && out.pages.iter().all(|page| page.to != to) {
            out.pages.push(Page { to, first, chosen });
        }
    }

    /// A follower, or this node's own storage, has the log up to `matched`.
    pub(super) fn handle_appended(
        &mut self,
        place: usize,
        ballot: Ballot,
        chosen: Index,
        matched: Index,
        out: &mut Batch,
    ) {
        self.member.peers[place].chosen = self.member.peers[place].chosen.max(chosen);
        let Activity::Leading(leader) = &mut self.activity else { return };
        if leader.ballot != ballot {
            return;
        }
        if matched > self.log.last().index {
            self.member.ignored += 1;
            return;
        }
        self.member.peers[place].followed_ms = self.member.now_ms;
        if leader.progress[place].handle_appended(matched) {
            self.choose_matched(out);
        }
        self.send_entries(place, out);
        self.hand_over(out);
    }

    /// What a majority has is chosen, if it is of this leader's own round; with it all before it. An entry of
    /// an earlier round may be on a majority and still be replaced (figure 8 of the Raft paper).
    fn choose_matched(&mut self, out: &mut Batch) {
        let Activity::Leading(leader) = &self.activity else { return };
        let ballot = leader.ballot;
        let upto = leader.replicated(&self.member.config.voters);
        if upto <= self.log.chosen() || self.log.round_at(upto) != Some(ballot.round) {
            return;
        }
        let mut forwarders = Set::default();
        while self.log.chosen() < upto {
            let from = self.choose_front(out);
            if let Some(place) = self.member.config.voters.place(from) {
                forwarders.insert(place);
            }
        }
        self.place_waiting(out);
        self.begin_reads(out);
        self.member.tell_forwarders(forwarders, ballot, self.log.chosen(), out);
    }

    /// Raises the watermark over the next entry, which is known to be chosen; who proposed it.
    pub(super) fn choose_front(&mut self, out: &mut Batch) -> NodeId {
        let (request, from) = self.log.choose_front();
        out.chosen = Some(self.log.chosen());
        self.member.proposals.chosen(request);
        from
    }

    /// An Append did not match: the next one begins where the logs may agree.
    pub(super) fn handle_mismatch(
        &mut self,
        place: usize,
        ballot: Ballot,
        chosen: Index,
        previous: Index,
        hint: Position,
        out: &mut Batch,
    ) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        let last = self.log.last().index;
        if leader.ballot != ballot {
            return;
        }
        if chosen > last || hint.index > last || previous > last {
            self.member.ignored += 1;
            return;
        }
        let peer = &mut self.member.peers[place];
        peer.followed_ms = self.member.now_ms;
        peer.chosen = peer.chosen.max(chosen);
        // Below the base nothing is known of rounds; but all is chosen there, and so is what the follower has
        // up to its watermark.
        let agreed = match hint.index >= self.log.base().index {
            true => self.log.agreement(hint, 0).index,
            false => chosen,
        };
        if leader.progress[place].handle_mismatch(previous, agreed.max(chosen) + 1) {
            self.send_append(place, false, out);
        }
    }

    /// A follower lives. If it lacks something, an Append finds out what.
    pub(super) fn handle_heartbeat_reply(
        &mut self,
        place: usize,
        ballot: Ballot,
        chosen: Index,
        sent_ms: u64,
        out: &mut Batch,
    ) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        if leader.ballot != ballot {
            return;
        }
        self.member.heartbeat_answered(place, chosen, sent_ms);
        let progress = &mut leader.progress[place];
        progress.handle_heartbeat_reply();
        if progress.matched < self.log.last().index || chosen < self.log.chosen() {
            self.send_append(place, true, out);
        }
        self.hand_over(out);
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
        if self.member.now_ms >= leader.heartbeat_at_ms {
            leader.heartbeat_at_ms = self.member.now_ms + self.member.config.heartbeat_ms;
            self.member.send_heartbeats(leader.ballot, self.log.chosen(), out);
        }
        if let Activity::Leading(leader) = &mut self.activity {
            leader.reads.tick(&self.member, leader.ballot, out);
        }
        self.tick_transfer(out);
    }
}
