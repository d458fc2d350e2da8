//! The simulator's own account of what is durable on which disk, compared with what leaves behind a write,
//! and with what a store finds when it is opened again.
//!
//! A write holds several works, one after the other: what a later one truncates was durable with an earlier
//! one, as far as anyone can tell.

use crate::consensus::message::{Body, Message, PaxosBody, RaftBody};
use crate::consensus::types::{Entry, Index, NodeId};
use crate::pipeline::storage::Durable;
use crate::store::LogReader;

use super::invariant::hold;
use super::trace::What;
use super::world::{Log, World, Written};

impl World {
    /// A write became durable, and what waited for it may leave.
    pub(super) fn watch_durable(
        &mut self,
        id: NodeId,
        works: &[Written],
        durable: &Durable,
        write: Option<u64>,
    ) {
        let running = self.running(id);
        let hard_state = running.storage.store().hard_state();
        let (status, is_suspended) = (running.status(), running.is_suspended);
        let is_behind = hard_state.promised <= status.promised && hard_state.chosen <= status.chosen;
        hold!(
            WriteFirst,
            is_behind
                || is_suspended
                || !running.inbox.control.is_empty()
                || running.machine.generation() > 0,
            "node {id}: {hard_state} is durable, ahead of its core: {status:?}"
        );
        for work in works {
            self.become_durable(id, work);
            work.messages.iter().for_each(|message| self.check_promise(id, message));
        }
        let told = self.node(id).account.hard_state;
        hold!(WriteFirst, told == hard_state, "node {id}: {hard_state} is durable, but {told} was written");
        self.watch_sent(id, &durable.messages);
        if let Some(write) = write {
            let (promised, chosen) = (hard_state.promised, hard_state.chosen);
            let entries = works.iter().map(|work| work.entries.len() as u64).sum();
            self.record(id, What::Durable { write, promised, chosen, entries });
        }
    }

    fn become_durable(&mut self, id: NodeId, work: &Written) {
        let account = &mut self.nodes[id as usize - 1].account;
        if let Some(first) = work.truncate {
            self.checker.truncated(id, first);
            account.entries.split_off(&first);
        }
        if let Some(hard_state) = work.hard_state {
            self.checker.durable(id, account.hard_state, hard_state);
            account.hard_state = hard_state;
        }
        self.checker.behind(id, &work.messages);
        for entry in &work.entries {
            self.checker.voted(id, entry);
            account.entries.insert(entry.index, (entry.ballot, entry.command.clone()));
        }
    }

    /// What a message promises is durable when it leaves storage: the ballot, what was accepted or appended
    /// under it, and what a candidate is told of earlier ballots.
    fn check_promise(&self, id: NodeId, message: &Message) {
        let node = self.node(id);
        let promised = node.account.hard_state.promised;
        let known = node.running.as_ref().map_or(0, |running| running.recent.chosen());
        let holds = |index: Index, ballot| {
            let held = node.account.entries.get(&index).map(|(held, _)| *held);
            hold!(
                WriteFirst,
                held >= Some(ballot) || (held.is_some() && index <= known),
                "node {id} holds {index} durably under {held:?}, but sends {message}"
            );
        };
        let is_durable = match &message.body {
            Body::Paxos(PaxosBody::Prepare { ballot, .. }) => promised >= *ballot,
            Body::Paxos(PaxosBody::Promise { ballot, entries, .. }) => {
                entries.iter().for_each(|entry| holds(entry.index, entry.ballot));
                promised >= *ballot
            }
            Body::Paxos(PaxosBody::Accepted { ballot, ranges, .. }) => {
                ranges
                    .iter()
                    .flat_map(|range| range.first..=range.last)
                    .for_each(|index| holds(index, *ballot));
                promised >= *ballot
            }
            // A vote names the node that got it; in a later round it no longer matters.
            Body::Raft(RaftBody::RequestVote { ballot, .. } | RaftBody::Vote { ballot }) => {
                promised == *ballot || promised.round > ballot.round
            }
            Body::Raft(RaftBody::Appended { ballot, .. }) => {
                self.checker.appended(message, known);
                promised.round >= ballot.round
            }
            _ => true,
        };
        hold!(WriteFirst, is_durable, "node {id} has promised {promised} durably, but sends {message}");
    }

    /// A store was opened, or opened again: it holds all that was durable, and all or nothing of a write that
    /// was not known to be; and all that it holds is durable now. What was removed is not back, unless its
    /// removal was in that write.
    pub(super) fn reconcile(&mut self, id: NodeId) {
        let unsynced = self.node(id).disk.unsynced();
        hold!(WriteFirst, unsynced == 0, "node {id} goes on from {unsynced} writes that are not synced");
        let running = self.running(id);
        let (reader, hard_state) = (running.reader.clone(), running.storage.store().hard_state());
        let found = read_all(id, &reader);
        let account = &mut self.node_mut(id).account;
        let uncertain = std::mem::take(&mut account.uncertain);
        if (account.hard_state, &account.entries) != (hard_state, &found) {
            uncertain.iter().for_each(|work| self.become_durable(id, work));
        }
        self.checker.durable(id, self.node(id).account.hard_state, hard_state);
        let account = &self.node(id).account;
        let indexes = account.entries.keys().chain(found.keys());
        let differs = indexes.into_iter().find(|index| account.entries.get(index) != found.get(index));
        let shown = |log: &Log| {
            let index = differs.copied().unwrap_or(0);
            log.get(&index).map_or("nothing".to_owned(), |(ballot, command)| format!("{ballot}:{command}"))
        };
        hold!(
            Durability,
            differs.is_none(),
            "node {id} held {} durably at index {differs:?}, but finds {}",
            shown(&account.entries),
            shown(&found)
        );
        hold!(
            Durability,
            account.hard_state == hard_state,
            "node {id} had {} durably, but finds {hard_state}",
            account.hard_state
        );
        self.reconcile_bindings(id);
    }

    fn reconcile_bindings(&mut self, id: NodeId) {
        let held = self.running(id).storage.store().bindings().clone();
        let bound = &mut self.node_mut(id).account.bound;
        for (peer, directory) in bound.iter() {
            let held = held.get(peer).copied();
            hold!(
                Durability,
                held == Some(*directory),
                "node {id} was told that node {peer} is bound to {directory:x}, but finds {held:x?}"
            );
        }
        // Also those that were written and not told.
        bound.extend(held);
    }
}

fn read_all(id: NodeId, reader: &LogReader) -> Log {
    let mut found = Log::new();
    let mut next = reader.compacted() + 1;
    while let Some(first) = reader.next_entry(next) {
        let entries = reader.read(first, Index::MAX, usize::MAX);
        let entries = entries.unwrap_or_else(|error| {
            hold!(Refusal, false, "node {id} started, but cannot read its log: {error}");
            Vec::new()
        });
        next = first + entries.len() as u64;
        found.extend(entries.into_iter().map(|Entry { index, ballot, command }| (index, (ballot, command))));
    }
    found
}
