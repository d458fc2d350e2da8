//! The learner: raises the watermark, and asks peers for the chosen entries that it missed.

use super::super::batch::{Batch, Event, Page};
use super::super::message::ClusterBody;
use super::super::types::{Ballot, Entry, Index, MAX_WINDOW_ENTRIES, NodeId};
use super::{Activity, Paxos};

/// What is known to be chosen beyond the watermark.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Learner {
    /// Every index up to this one is chosen, as a peer said.
    known: Index,
    /// A leader said that every index up to this one is chosen: entries accepted under that very ballot are.
    vouched: (Ballot, Index),
    asked: Option<Asked>,
}

/// The one question that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    from: NodeId,
    first: Index,
    /// When it is put to the next peer, and the wait after that.
    again_at_ms: u64,
    wait_ms: u64,
}

impl Learner {
    pub(super) fn new(chosen: Index) -> Learner {
        Learner { known: chosen, vouched: (Ballot::ZERO, 0), asked: None }
    }
}

impl Paxos {
    /// A leader told its watermark: up to it, what was accepted under the leader's ballot is chosen, and the
    /// rest must be learned.
    pub(super) fn follow_watermark(&mut self, from: NodeId, ballot: Ballot, chosen: Index, out: &mut Batch) {
        self.vouch(ballot, chosen, out);
        self.member.note_watermark(from, chosen);
        if chosen > self.log.chosen() {
            self.want(from, chosen, out);
        }
    }

    /// The part of `follow_watermark` that needs nobody's help.
    pub(super) fn vouch(&mut self, ballot: Ballot, chosen: Index, out: &mut Batch) {
        let (vouched_ballot, vouched) = self.learner.vouched;
        let chosen_by_ballot = if vouched_ballot == ballot { vouched.max(chosen) } else { chosen };
        self.learner.vouched = (ballot, chosen_by_ballot);
        self.choose_vouched(out);
    }

    fn choose_vouched(&mut self, out: &mut Batch) {
        let (ballot, chosen) = self.learner.vouched;
        while self.log.chosen() < chosen && self.log.front().is_some_and(|slot| slot.ballot == ballot) {
            self.choose_front(out);
        }
    }

    /// Asks `from` for what is missing up to `chosen`, unless a question is under way.
    pub(super) fn want(&mut self, from: NodeId, chosen: Index, out: &mut Batch) {
        self.learner.known = self.learner.known.max(chosen);
        if self.learner.asked.is_none() {
            out.events.push(Event::CatchingUp { from, first: self.log.chosen() + 1, chosen });
            self.ask_for_entries(from, 2 * self.member.heartbeat_ms(), out);
        }
    }

    fn ask_for_entries(&mut self, from: NodeId, wait_ms: u64, out: &mut Batch) {
        let first = self.log.chosen() + 1;
        let again_at_ms = self.member.now_ms() + wait_ms;
        self.learner.asked = Some(Asked { from, first, again_at_ms, wait_ms });
        self.member.send_early(from, ClusterBody::CatchUp { first }, out);
    }

    /// Puts an unanswered question to the next peer, with a back-off up to T.
    pub(super) fn tick_learner(&mut self, out: &mut Batch) {
        let Some(Asked { from, again_at_ms, wait_ms, .. }) = self.learner.asked else { return };
        if self.log.chosen() >= self.learner.known || matches!(self.activity, Activity::Leading(_)) {
            self.learner.asked = None;
        } else if self.member.now_ms() >= again_at_ms {
            let next = self.peer_after(from);
            self.ask_for_entries(next, (2 * wait_ms).min(self.member.election_ms()), out);
        }
    }

    fn peer_after(&self, node: NodeId) -> NodeId {
        let others = || self.member.others().map(|peer| peer.node);
        others().find(|peer| *peer > node).or_else(|| others().next()).unwrap_or(node)
    }

    /// A peer lacks chosen entries: any node that has them sends a page.
    pub(super) fn handle_catch_up(&mut self, from: NodeId, first: Index, out: &mut Batch) {
        let chosen = self.log.chosen();
        let wanted = from != self.member.node() && first > self.log.compacted() && first <= chosen;
        if wanted && !out.pages.iter().any(|page| page.to == from) {
            out.pages.push(Page { to: from, first, chosen });
        }
    }

    /// Chosen entries arrive. A leader ignores them: its watermark rises by its own count only.
    pub(super) fn handle_learn(&mut self, from: NodeId, chosen: Index, entries: Vec<Entry>, out: &mut Batch) {
        if matches!(self.activity, Activity::Leading(_)) {
            return;
        }
        let before = self.log.chosen();
        for entry in entries {
            if entry.index == self.log.chosen() + 1 && self.member.note_round(entry.ballot.round) {
                self.learn_front(entry, out);
            }
        }
        self.choose_vouched(out);
        let progress = self.log.chosen() > before;
        self.learner.known = self.learner.known.max(chosen.min(before + MAX_WINDOW_ENTRIES));
        if progress {
            self.learner.asked = None;
            self.try_lead(out);
            let leads = matches!(self.activity, Activity::Leading(_));
            if !leads && self.learner.asked.is_none() && self.learner.known > self.log.chosen() {
                let has_more = chosen > self.log.chosen();
                let next = if has_more { from } else { self.peer_after(from) };
                self.ask_for_entries(next, 2 * self.member.heartbeat_ms(), out);
            }
        }
    }

    fn learn_front(&mut self, entry: Entry, out: &mut Batch) {
        let held = self.log.front().is_some_and(|slot| slot.command == entry.command);
        if !held {
            self.log.put(entry.index, entry.ballot, entry.command.clone());
            out.entries.push(entry);
        }
        self.choose_front(out);
    }
}
