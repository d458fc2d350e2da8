//! The candidate: asks whether others would follow, prepares a ballot, and adopts what it finds.

use std::collections::BTreeMap;

use super::super::batch::{Batch, Event};
use super::super::message::PaxosBody;
use super::super::quorum::Set;
use super::super::types::{Ballot, Command, Entry, Index, MAX_WINDOW_ENTRIES, NodeId};
use super::{Activity, Paxos};

/// A campaign: first pre-vote, then phase 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Candidate {
    ballot: Ballot,
    /// When the question is put again to those who have not answered.
    repeat_at_ms: u64,
    phase: Phase,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Collects those who would follow, itself included (that promises nothing).
    PreVote { granted: Set },
    /// Collects promises, its own only once it is durable.
    Prepare(Prepare),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Prepare {
    /// Whose complete set of pages has come.
    complete: Set,
    /// By place: the first index of the page that is awaited.
    awaited: Vec<Index>,
    /// Per index what was accepted under the highest ballot, as far as promises told.
    found: BTreeMap<Index, (Ballot, Command)>,
    /// The highest watermark among promisers, and whose it is.
    watermark: Index,
    holder: NodeId,
}

/// A page of a Promise.
pub(super) struct PromisePage {
    pub(super) ballot: Ballot,
    pub(super) chosen: Index,
    pub(super) first: Index,
    pub(super) last: Index,
    pub(super) more: bool,
    pub(super) entries: Vec<Entry>,
}

impl Paxos {
    /// No leader was heard for long enough, or the last campaign came to nothing.
    pub(super) fn campaign(&mut self, out: &mut Batch) {
        self.member.leader = None;
        self.member.restart_election_timer();
        let ballot = Ballot { round: self.member.highest_round + 1, node: self.member.config.node };
        let mut granted = Set::default();
        granted.insert(self.member.own_place());
        out.events.push(Event::Campaigning { ballot });
        let repeat_at_ms = self.member.now_ms + self.member.config.heartbeat_ms;
        let phase = Phase::PreVote { granted };
        self.activity = Activity::Campaigning(Candidate { ballot, repeat_at_ms, phase });
        match self.member.config.voters.is_quorum(granted) {
            true => self.prepare(None, out),
            false => self.ask(out),
        }
    }

    /// Asks again, once a heartbeat interval, those who have not answered.
    pub(super) fn repeat_question(&mut self, out: &mut Batch) {
        let Activity::Campaigning(candidate) = &mut self.activity else { return };
        if self.member.now_ms < candidate.repeat_at_ms {
            return;
        }
        candidate.repeat_at_ms = self.member.now_ms + self.member.config.heartbeat_ms;
        self.ask(out);
    }

    fn ask(&mut self, out: &mut Batch) {
        let Activity::Campaigning(Candidate { ballot, phase, .. }) = &self.activity else { return };
        let node = self.member.config.node;
        for (place, peer) in self.member.config.voters.ids().iter().copied().enumerate() {
            if peer == node {
                continue;
            }
            match phase {
                Phase::PreVote { granted } if !granted.contains(place) => {
                    out.send_early(node, peer, PaxosBody::PreVote { ballot: *ballot });
                }
                Phase::Prepare(prepare) if !prepare.complete.contains(place) => {
                    let first = prepare.awaited[place];
                    out.send(node, peer, PaxosBody::Prepare { ballot: *ballot, first });
                }
                _ => {}
            }
        }
    }

    pub(super) fn handle_pre_vote_reply(
        &mut self,
        place: usize,
        ballot: Ballot,
        granted: bool,
        promised: Ballot,
        out: &mut Batch,
    ) {
        if !self.member.note_round(promised.round) {
            return;
        }
        let Activity::Campaigning(candidate) = &mut self.activity else { return };
        let Phase::PreVote { granted: set } = &mut candidate.phase else { return };
        if candidate.ballot != ballot || !granted {
            return;
        }
        set.insert(place);
        if self.member.config.voters.is_quorum(*set) {
            self.prepare(None, out);
        }
    }

    /// Phase 1a, without pre-vote if a leader hands over. The promise to itself comes back from behind the
    /// write; Prepare, too, waits for it, so that no other incarnation can use the ballot.
    pub(super) fn prepare(&mut self, handed_by: Option<NodeId>, out: &mut Batch) {
        let node = self.member.config.node;
        let ballot = Ballot { round: self.member.highest_round + 1, node };
        assert!(ballot > self.promised, "a new ballot {ballot} is above all promised {}", self.promised);
        self.member.highest_round = ballot.round;
        self.promised = ballot;
        out.hard_state = Some(self.hard_state());
        out.events.push(Event::Preparing { ballot, handed_by });
        self.member.restart_election_timer();
        let (chosen, first) = (self.log.chosen(), self.log.chosen() + 1);
        self.activity = Activity::Campaigning(Candidate {
            ballot,
            repeat_at_ms: self.member.now_ms + self.member.config.heartbeat_ms,
            phase: Phase::Prepare(Prepare {
                complete: Set::default(),
                awaited: vec![first; self.member.config.voters.ids().len()],
                found: BTreeMap::new(),
                watermark: chosen,
                holder: node,
            }),
        });
        self.ask(out);
        // To itself it says only that the promise is durable: it has its own log at hand.
        let (compacted, last) = (self.log.compacted(), self.log.last().max(first));
        let own = PaxosBody::Promise { ballot, chosen, compacted, first, last, more: false, entries: vec![] };
        out.send(node, node, own);
    }

    /// Phase 1b arrives: the awaited page of a promiser counts, anything else is late.
    pub(super) fn handle_promise(&mut self, from: NodeId, page: PromisePage, out: &mut Batch) {
        let place = self.member.config.voters.place(from).expect("handle_message looked it up");
        let own = from == self.member.config.node;
        let Activity::Campaigning(candidate) = &mut self.activity else { return };
        let Phase::Prepare(prepare) = &mut candidate.phase else { return };
        let PromisePage { ballot, chosen, first, last, more, entries } = page;
        let awaited = &mut prepare.awaited[place];
        if ballot != candidate.ballot || first != *awaited || prepare.complete.contains(place) {
            return;
        }
        // Nobody keeps more above its watermark than this; adoption would fill what is between with no-ops.
        let reach = chosen.saturating_add(MAX_WINDOW_ENTRIES);
        let within = first..=last.min(reach);
        let sound = |entry: &Entry| within.contains(&entry.index) && entry.ballot < ballot;
        if last < first || !entries.iter().all(sound) || (more && last >= reach) {
            self.member.ignored += 1;
            return;
        }
        if chosen > prepare.watermark {
            (prepare.watermark, prepare.holder) = (chosen, from);
        }
        for Entry { index, ballot, command } in entries {
            let found = prepare.found.entry(index);
            let best = found.or_insert_with(|| (ballot, command.clone()));
            if ballot > best.0 {
                *best = (ballot, command);
            }
        }
        if more {
            *awaited = last + 1;
            out.send(self.member.config.node, from, PaxosBody::Prepare { ballot, first: last + 1 });
            return;
        }
        prepare.complete.insert(place);
        let counts = self.member.config.voters.is_quorum(prepare.complete);
        assert!(
            !own || self.promised == ballot,
            "its own promise {ballot} came back behind {}",
            self.promised
        );
        if counts {
            self.try_lead(out);
        }
    }

    /// Leads once a majority promised and all up to the highest watermark among it is known; until then it
    /// catches up.
    pub(super) fn try_lead(&mut self, out: &mut Batch) {
        let Activity::Campaigning(Candidate { ballot, phase: Phase::Prepare(prepare), .. }) = &self.activity
        else {
            return;
        };
        if !self.member.config.voters.is_quorum(prepare.complete) {
            return;
        }
        if prepare.watermark > self.log.chosen() {
            let (holder, watermark) = (prepare.holder, prepare.watermark);
            return self.want(holder, watermark, out);
        }
        let ballot = *ballot;
        let found = prepare.found.clone();
        self.adopt_and_lead(ballot, found, out);
    }

    /// The value accepted under the highest ballot stands at each index, a no-op in each hole.
    fn adopt_and_lead(
        &mut self,
        ballot: Ballot,
        mut found: BTreeMap<Index, (Ballot, Command)>,
        out: &mut Batch,
    ) {
        let first = self.log.chosen() + 1;
        let last = found.keys().next_back().copied().unwrap_or(0).max(self.log.last());
        let mut commands = Vec::new();
        let (mut adopted, mut holes) = (0, 0);
        for index in first..=last {
            let own = self.log.slot(index);
            let best = match (found.remove(&index), own) {
                (Some((theirs, _)), Some(slot)) if slot.ballot >= theirs => Some(slot.command.clone()),
                (Some((_, command)), _) => Some(command),
                (None, Some(slot)) => Some(slot.command.clone()),
                (None, None) => None,
            };
            match best.is_some() {
                true => adopted += 1,
                false => holes += 1,
            }
            commands.push(best.unwrap_or_else(|| Command::noop(self.member.config.node)));
        }
        out.events.push(Event::Leading { ballot, adopted, holes });
        self.lead(ballot, commands, out);
    }

    /// Somebody promised higher: this ballot is lost, the next one goes above.
    pub(super) fn handle_refuse(&mut self, ballot: Ballot, promised: Ballot, out: &mut Batch) {
        if promised <= ballot || !self.member.note_round(promised.round) {
            return;
        }
        let current = match &self.activity {
            Activity::Leading(leader) => leader.ballot(),
            Activity::Campaigning(Candidate { ballot, phase: Phase::Prepare(_), .. }) => *ballot,
            _ => return,
        };
        if current == ballot {
            self.step_down("a peer promised a higher ballot", out);
        }
    }
}
