//! The leader (thesis sections 3.5, 3.6.2, 6.2, 6.4): appends proposals to its log, sends followers what they
//! lack, counts who has what, steps down when no majority is heard. This file also has, for all roles, what
//! happens to a proposal.

use std::collections::BTreeMap;

use super::super::batch::{Batch, Event, Page};
use super::super::leadership::Leadership;
use super::super::member::{Member, Sender};
use super::super::message::RaftBody;
use super::super::protocol::Proposal;
use super::super::quorum::{Set, Voters};
use super::super::reads::Read;
use super::super::roster::Roster;
use super::super::types::{Ballot, Command, Entry, Index, MAX_WINDOW_ENTRIES, NodeId, Position};
use super::log::RaftLog;
use super::progress::{Progress, State};
use super::{Activity, Raft};

/// The most proposals that a leader places above its watermark. The rest of the window is room for the no-ops
/// of elections: a log may grow by one with each election that does not choose anything. After 32,768 of
/// those in a row a leader has no place for its no-op and chooses nothing.
const MAX_PLACED: u64 = MAX_WINDOW_ENTRIES / 2;

/// What a leader knows besides the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader {
    pub(super) leadership: Leadership,
    /// The progress of each member. Of this node's own only `matched` is used: its log is durable up to
    /// there.
    progress: BTreeMap<NodeId, Progress>,
}

impl Leader {
    pub(super) fn ballot(&self) -> Ballot {
        self.leadership.ballot()
    }

    /// Whether a follower's log is the leader's up to `last`.
    pub(super) fn has_all(&self, follower: NodeId, last: Index) -> bool {
        self.matched(follower) == last
    }

    /// The log of a follower is known to be the leader's up to this index.
    pub(super) fn matched(&self, follower: NodeId) -> Index {
        self.progress.get(&follower).map_or(0, |progress| progress.matched)
    }

    /// Sends a follower all that it lacks and may be sent now.
    fn send_entries(&mut self, member: &Member, log: &RaftLog, to: NodeId, out: &mut Batch) {
        let last = log.last().index;
        while self.progress.get(&to).is_some_and(|progress| progress.next <= last)
            && self.send_append(member, log, to, false, out)
        {}
    }

    /// Sends a follower what comes next. Returns whether it may be sent more. If so much is under way that it
    /// must wait, but the leader `asks` all the same, then no entries are sent: the answer tells whether what
    /// is under way was lost.
    fn send_append(
        &mut self,
        member: &Member,
        log: &RaftLog,
        to: NodeId,
        asks: bool,
        out: &mut Batch,
    ) -> bool {
        let Some(progress) = self.progress.get_mut(&to) else { return false };
        let ballot = self.leadership.ballot();
        let waits = progress.waits(member.now_ms(), member.window_bytes());
        if to == member.node() || waits && !(asks && matches!(progress.state, State::Replicate { .. })) {
            return false;
        }
        let (chosen, first) = (log.chosen(), progress.next);
        if first <= log.base().index {
            // The follower takes them from its watermark on, which a restart may have put below what it once
            // matched.
            let first = first.min(member.watermark(to) + 1);
            let again_at_ms = member.now_ms() + 2 * member.heartbeat_ms();
            progress.state = State::CatchUp { again_at_ms };
            send_page(member, log, to, first, out);
            return false;
        }
        let round = log.round_at(first - 1).expect("the rounds from the base on are known");
        let previous = Position { index: first - 1, round };
        let entries = if waits { Vec::new() } else { log.page(first) };
        let bytes = entries.iter().map(|entry| entry.command.cost_bytes()).sum();
        progress.sent(first + entries.len() as u64 - 1, bytes);
        member.send_early(to, RaftBody::Append { ballot, chosen, previous, entries }, out);
        matches!(progress.state, State::Replicate { .. })
    }

    /// The highest index that a majority of the voters has.
    fn replicated(&self, roster: &Roster) -> Index {
        let electorate = roster.electorate();
        let mut matched = [0; Voters::MAX];
        let mut voters = 0;
        for ((node, bit), (member, progress)) in roster.members().zip(&self.progress) {
            assert_eq!(node, *member, "progress is kept for the members, and for nobody else");
            if electorate.contains(bit) {
                matched[voters] = progress.matched;
                voters += 1;
            }
        }
        let matched = &mut matched[..voters];
        matched.sort_unstable();
        matched[voters - electorate.quorum_size()]
    }

    /// See [`Raft::normalize`].
    #[cfg(feature = "internals")]
    pub(super) fn normalize(&mut self, heartbeat_at_ms: u64, own: NodeId) {
        self.leadership.normalize(heartbeat_at_ms);
        self.progress.values_mut().for_each(|progress| progress.normalize(2 * heartbeat_at_ms));
        let matched = self.progress[&own].matched;
        self.progress.insert(own, Progress { matched, ..Progress::new(matched + 1) });
    }

    pub(super) fn check_invariants(&self, last: Index) {
        for Progress { matched, next, .. } in self.progress.values() {
            assert!(
                matched < next && *next <= last + 1,
                "matched {matched} < next {next}, at most one above last {last}"
            );
        }
    }
}

impl Raft {
    /// Begins to lead: appends a no-op of its own round, with which all that it has from earlier ones is
    /// chosen; then places what waits.
    pub(super) fn lead(&mut self, ballot: Ballot, out: &mut Batch) {
        let last = self.log.last().index;
        let adopted = last - self.log.chosen();
        let leadership = Leadership::begin(&mut self.member, ballot, last + 1);
        let members = self.member.roster().members();
        let progress = members.map(|(node, _)| (node, Progress::new(last + 1))).collect();
        self.activity = Activity::Leading(Leader { leadership, progress });
        out.events.push(Event::Leading { ballot, adopted, holes: 0 });
        for (index, slot) in self.log.window().entries_from(0) {
            self.member.proposals_mut().adopted(&slot.command, index);
        }
        if adopted < MAX_WINDOW_ENTRIES {
            let noop = Entry { index: last + 1, ballot, command: Command::noop(self.member.node()) };
            self.append_entries(vec![noop], out);
        }
        self.place_waiting(out);
    }

    pub(super) fn handle_propose(&mut self, proposals: Vec<Proposal>, out: &mut Batch) {
        self.member.take_proposals(proposals, out);
        self.place_waiting(out);
    }

    /// Proposals that a follower passed on. A node that does not lead drops them: the sender repeats them.
    pub(super) fn handle_forward(&mut self, from: NodeId, commands: Vec<Command>, out: &mut Batch) {
        if !matches!(self.activity, Activity::Leading(_)) {
            self.member.count_dropped(commands.len() as u64);
            return;
        }
        self.member.take_forwarded(from, commands);
        self.place_waiting(out);
    }

    /// Appends waiting proposals, as far as the window allows; none while leadership is handed over.
    pub(super) fn place_waiting(&mut self, out: &mut Batch) {
        let Activity::Leading(Leader { leadership, .. }) = &self.activity else { return };
        let window_entries = self.member.window_entries().min(MAX_PLACED);
        let entries = leadership.place(&mut self.member, self.log.window(), window_entries);
        if !entries.is_empty() {
            self.append_entries(entries, out);
        }
    }

    /// Appends entries to its log: they leave for the others immediately, and its own copy counts behind the
    /// write.
    fn append_entries(&mut self, entries: Vec<Entry>, out: &mut Batch) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        let ballot = leader.ballot();
        leader.leadership.assert_places(&entries);
        for entry in &entries {
            self.log.push(entry.clone());
        }
        out.write(entries);
        for peer in self.member.others() {
            leader.send_entries(&self.member, &self.log, peer.node, out);
        }
        let (chosen, matched) = (self.log.chosen(), self.log.last().index);
        self.member.send_to_itself(RaftBody::Appended { ballot, chosen, matched }, out);
    }

    /// A follower, or this node's own storage, has the log up to `matched`.
    pub(super) fn handle_appended(
        &mut self,
        from: Sender,
        ballot: Ballot,
        chosen: Index,
        matched: Index,
        out: &mut Batch,
    ) {
        self.member.note_watermark(from.node, chosen);
        let Activity::Leading(leader) = &mut self.activity else { return };
        if leader.ballot() != ballot {
            return;
        }
        if matched > self.log.last().index {
            return self.member.ignore();
        }
        self.member.note_following(from.node);
        let Some(progress) = leader.progress.get_mut(&from.node) else { return };
        if progress.handle_appended(matched) {
            self.choose_matched(out);
        }
        if let Activity::Leading(leader) = &mut self.activity {
            leader.send_entries(&self.member, &self.log, from.node, out);
        }
        self.hand_over(out);
    }

    /// What a majority has is chosen, if it is of this leader's own round, and all before it as well. An
    /// entry of an earlier round may be on a majority and still be replaced (figure 8 of the Raft paper).
    fn choose_matched(&mut self, out: &mut Batch) {
        let Activity::Leading(leader) = &self.activity else { return };
        let ballot = leader.ballot();
        let upto = leader.replicated(self.member.roster());
        if upto <= self.log.chosen() || self.log.round_at(upto) != Some(ballot.round) {
            return;
        }
        let mut forwarders = Set::default();
        while self.log.chosen() < upto {
            let from = self.choose_front(out);
            if let Some(bit) = self.member.roster().bit(from) {
                forwarders.insert(bit);
            }
        }
        self.place_waiting(out);
        let Activity::Leading(Leader { leadership, .. }) = &mut self.activity else { return };
        leadership.begin_reads(&self.member, self.log.chosen(), out);
        leadership.tell_forwarders(&self.member, forwarders, self.log.chosen(), out);
    }

    /// Raises the watermark over the next entry, which is known to be chosen. Returns the node that proposed
    /// it.
    pub(super) fn choose_front(&mut self, out: &mut Batch) -> NodeId {
        let (request, from) = self.log.choose_front();
        out.chosen = Some(self.log.chosen());
        self.member.note_chosen(request, self.log.chosen());
        from
    }

    /// An Append did not match: the next one begins where the logs may agree.
    pub(super) fn handle_mismatch(
        &mut self,
        from: Sender,
        ballot: Ballot,
        chosen: Index,
        previous: Index,
        hint: Position,
        out: &mut Batch,
    ) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        let last = self.log.last().index;
        if leader.ballot() != ballot {
            return;
        }
        if chosen > last || hint.index > last || previous > last {
            return self.member.ignore();
        }
        self.member.note_following(from.node);
        self.member.note_watermark(from.node, chosen);
        // Below the base nothing is known of rounds; but all is chosen there, and so is what the follower has
        // up to its watermark.
        let is_known = hint.index >= self.log.base().index;
        let agreed = if is_known { self.log.agreement(hint, 0).index } else { chosen };
        let Some(progress) = leader.progress.get_mut(&from.node) else { return };
        if progress.handle_mismatch(previous, agreed.max(chosen) + 1) {
            leader.send_append(&self.member, &self.log, from.node, false, out);
        }
    }

    /// A follower lives. If it lacks something, an Append finds out what.
    pub(super) fn handle_heartbeat_reply(
        &mut self,
        from: Sender,
        ballot: Ballot,
        chosen: Index,
        sent_ms: u64,
        out: &mut Batch,
    ) {
        let Activity::Leading(leader) = &mut self.activity else { return };
        if leader.ballot() != ballot {
            return;
        }
        self.member.heartbeat_answered(from.node, chosen, sent_ms);
        let Some(progress) = leader.progress.get_mut(&from.node) else { return };
        progress.handle_heartbeat_reply();
        if progress.matched < self.log.last().index || chosen < self.log.chosen() {
            leader.send_append(&self.member, &self.log, from.node, true, out);
        }
        self.hand_over(out);
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
        let Activity::Leading(Leader { leadership, .. }) = &mut self.activity else { return };
        leadership.tick_heartbeat(&self.member, self.log.chosen(), out);
        leadership.tick_reads(&self.member, out);
        self.tick_transfer(out);
    }
}

/// A page of chosen entries, if the log still has them: what is compacted must wait for snapshots.
pub(super) fn send_page(member: &Member, log: &RaftLog, to: NodeId, first: Index, out: &mut Batch) {
    let (chosen, compacted) = (log.chosen(), log.window().compacted());
    let wanted = to != member.node() && first > compacted && first <= chosen;
    if wanted && out.pages.iter().all(|page| page.to != to) {
        out.pages.push(Page { to, first, chosen });
    }
}
