//! The candidate: asks whether others would follow, prepares a ballot, and adopts what it finds.

use std::collections::BTreeMap;

use super::super::batch::{Batch, Event};
use super::super::campaign::Campaign;
use super::super::member::Sender;
use super::super::message::PaxosBody;
use super::super::types::{Ballot, Command, Entry, Index, MAX_WINDOW_ENTRIES, NodeId};
use super::{Activity, Paxos};

/// A node that campaigns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Candidate {
    /// Asks which nodes would follow.
    PreVote(Campaign),
    /// Phase 1.
    Prepare(Prepare),
}

/// Phase 1: collects promises, its own only once it is durable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Prepare {
    /// A voter said yes once its complete set of pages has come.
    campaign: Campaign,
    /// The first index of the page that is awaited from each member.
    awaited: BTreeMap<NodeId, Index>,
    /// For each index what was accepted under the highest ballot, as far as promises told.
    found: BTreeMap<Index, (Ballot, Command)>,
    /// The highest watermark among promisers, and the node that has it.
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
    /// No leader was heard for long enough, or the last campaign failed. A node that makes way leaves the
    /// election to others.
    pub(super) fn campaign(&mut self, out: &mut Batch) {
        if self.member.waives_election() {
            return self.step_down("others are better off", out);
        }
        let campaign = Campaign::pre_vote(&mut self.member, out);
        let granted = campaign.is_granted(&self.member);
        self.activity = Activity::Campaigning(Candidate::PreVote(campaign));
        if granted {
            self.prepare(None, out);
        } else {
            self.ask(out);
        }
    }

    /// Repeats the question, once a heartbeat interval, to those that have not answered.
    pub(super) fn repeat_question(&mut self, out: &mut Batch) {
        let Activity::Campaigning(candidate) = &mut self.activity else { return };
        let (Candidate::PreVote(campaign) | Candidate::Prepare(Prepare { campaign, .. })) = candidate;
        if campaign.repeats(&self.member) {
            self.ask(out);
        }
    }

    fn ask(&self, out: &mut Batch) {
        let Activity::Campaigning(candidate) = &self.activity else { return };
        match candidate {
            Candidate::PreVote(campaign) => {
                let ballot = campaign.ballot();
                for peer in campaign.unanswered(&self.member) {
                    self.member.send_early(peer, PaxosBody::PreVote { ballot }, out);
                }
            }
            Candidate::Prepare(Prepare { campaign, awaited, .. }) => {
                let ballot = campaign.ballot();
                for peer in campaign.unanswered(&self.member) {
                    let first = awaited[&peer];
                    self.member.send(peer, PaxosBody::Prepare { ballot, first }, out);
                }
            }
        }
    }

    pub(super) fn handle_pre_vote_reply(
        &mut self,
        from: Sender,
        ballot: Ballot,
        granted: bool,
        promised: Ballot,
        out: &mut Batch,
    ) {
        if !self.member.note_round(promised.round) {
            return;
        }
        let Activity::Campaigning(Candidate::PreVote(campaign)) = &mut self.activity else { return };
        if granted && campaign.grant(&self.member, from, ballot) {
            self.prepare(None, out);
        }
    }

    /// Phase 1a, without pre-vote if a leader hands over. The promise to itself comes back from behind the
    /// write; Prepare waits for it as well, so that no other incarnation can use the ballot.
    pub(super) fn prepare(&mut self, handed_by: Option<NodeId>, out: &mut Batch) {
        let campaign = Campaign::in_earnest(&mut self.member, self.promised, handed_by, out);
        let ballot = campaign.ballot();
        self.promised = ballot;
        out.hard_state = Some(self.hard_state());
        let (chosen, first) = (self.log.chosen(), self.log.chosen() + 1);
        self.activity = Activity::Campaigning(Candidate::Prepare(Prepare {
            campaign,
            awaited: self.member.roster().members().map(|(node, _)| (node, first)).collect(),
            found: BTreeMap::new(),
            watermark: chosen,
            holder: self.member.node(),
        }));
        self.ask(out);
        // The message to itself says only that the promise is durable: the node has its own log.
        let (compacted, last) = (self.log.compacted(), self.log.last().max(first));
        let own = PaxosBody::Promise { ballot, chosen, compacted, first, last, more: false, entries: vec![] };
        self.member.send_to_itself(own, out);
    }

    /// Phase 1b arrives: the awaited page of a promiser counts, anything else is late.
    pub(super) fn handle_promise(&mut self, from: Sender, page: PromisePage, out: &mut Batch) {
        let Activity::Campaigning(Candidate::Prepare(prepare)) = &mut self.activity else { return };
        let PromisePage { ballot, chosen, first, last, more, entries } = page;
        let Some(awaited) = prepare.awaited.get_mut(&from.node) else { return };
        if ballot != prepare.campaign.ballot() || first != *awaited || prepare.campaign.has(from) {
            return;
        }
        // Nobody keeps more above its watermark than this; adoption would fill the gap with no-ops.
        let reach = chosen.saturating_add(MAX_WINDOW_ENTRIES);
        let within = first..=last.min(reach);
        let sound = |entry: &Entry| within.contains(&entry.index) && entry.ballot < ballot;
        if last < first || !entries.iter().all(sound) || (more && last >= reach) {
            return self.member.ignore();
        }
        if chosen > prepare.watermark {
            (prepare.watermark, prepare.holder) = (chosen, from.node);
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
            return self.member.send(from.node, PaxosBody::Prepare { ballot, first: last + 1 }, out);
        }
        assert!(
            from.node != self.member.node() || self.promised == ballot,
            "its own promise {ballot} came back behind {}",
            self.promised
        );
        if prepare.campaign.grant(&self.member, from, ballot) {
            self.try_lead(out);
        }
    }

    /// Leads once a majority promised and every index up to its highest watermark is known; until then this
    /// node catches up.
    pub(super) fn try_lead(&mut self, out: &mut Batch) {
        let Activity::Campaigning(Candidate::Prepare(prepare)) = &mut self.activity else { return };
        if !prepare.campaign.is_granted(&self.member) {
            return;
        }
        if prepare.watermark > self.log.chosen() {
            let (holder, watermark) = (prepare.holder, prepare.watermark);
            return self.want(holder, watermark, out);
        }
        let (ballot, found) = (prepare.campaign.ballot(), std::mem::take(&mut prepare.found));
        self.adopt_and_lead(ballot, found, out);
    }

    /// Puts the value accepted under the highest ballot at each index, and a no-op in each hole.
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
            if best.is_some() {
                adopted += 1;
            } else {
                holes += 1;
            }
            commands.push(best.unwrap_or_else(|| Command::noop(self.member.node())));
        }
        out.events.push(Event::Leading { ballot, adopted, holes });
        self.lead(ballot, commands, out);
    }

    /// Somebody promised a higher ballot: this one is lost, and the next one will be above that.
    pub(super) fn handle_refuse(&mut self, ballot: Ballot, promised: Ballot, out: &mut Batch) {
        if promised <= ballot || !self.member.note_round(promised.round) {
            return;
        }
        let current = match &self.activity {
            Activity::Leading(leader) => leader.ballot(),
            Activity::Campaigning(Candidate::Prepare(prepare)) => prepare.campaign.ballot(),
            _ => return,
        };
        if current == ballot {
            self.step_down("a peer promised a higher ballot", out);
        }
    }
}
