//! The turn of storage: one atomic durable write for all that waits, then whatever waited behind it.
//!
//! *A message that promises something leaves only after the state behind it is durable*: here is where that
//! is kept. It either makes everything durable and gives back the messages, or fails and gives back none.
//! [`Storage`] adds what a failure leads to: a write that may pass suspends the state machine until there is
//! room again, and has it rebuilt from what is durable.
//!
//! Left out: the thread, its waits and its end (`node`), and the records (`store`).

use std::sync::Arc;

use crate::consensus::batch::Page;
use crate::consensus::config::Restored;
use crate::consensus::message::{ClusterBody, MAX_PAGE_BYTES, Message};
use crate::consensus::types::{Entry, Index, NodeId};
use crate::store::{
    Binding, Change, LogReadError, LogReader, OpenError, Recovered, Store, Write, WriteError,
};

use super::inbox::Outgoing;
use super::recent::Recent;
use super::state_machine::Work;

/// A store, and which generation of the core it writes for.
///
/// Invariant: nothing is written or forwarded of a generation older than the last rebuild's.
pub struct Storage {
    node: NodeId,
    store: Store,
    recent: Arc<Recent>,
    generation: u64,
}

impl Storage {
    /// For the first generation of a run.
    pub fn new(node: NodeId, store: Store, recent: Arc<Recent>) -> Storage {
        Storage { node, store, recent, generation: 0 }
    }

    /// Makes what waits durable in one write, and says what may leave. After [`WriteError::Passing`] what is
    /// still to come of this generation is dropped: the state machine is to be suspended, and
    /// [`Storage::retry`] called until it succeeds.
    pub fn turn(&mut self, mut works: Vec<Work>) -> Result<Durable, TurnError> {
        let generation = self.generation;
        works.retain(|work| work.generation == generation);
        let result = turn(self.node, works, &mut self.store, &self.recent);
        if let Err(TurnError::Write(WriteError::Passing(_))) = &result {
            self.generation += 1;
        }
        result
    }

    /// Looks whether the disk takes a write again: then, what the core is to be rebuilt from; `None` if it
    /// does not. Any error is the end of the node.
    pub fn retry(&mut self) -> Result<Option<Restored>, RetryError> {
        let recovered = match self.store.rebuild() {
            Ok(recovered) => recovered,
            Err(error) if error.may_pass() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match self.store.probe() {
            Ok(()) => Ok(Some(restored(&recovered))),
            Err(WriteError::Passing(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What a write made possible, as the network takes it: bindings first, so that whose messages they let
    /// pass may answer.
    pub fn outgoing(&self, durable: Durable) -> impl Iterator<Item = Outgoing> + use<> {
        let Durable { messages, bindings, .. } = durable;
        let generation = self.generation;
        let messages = (!messages.is_empty()).then_some(Outgoing::Messages { generation, messages });
        bindings.into_iter().map(Outgoing::Bound).chain(messages)
    }

    /// The generation that it writes for; works of older ones are dropped.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The store, for what has to be done to it beside writing the log.
    pub fn store(&mut self) -> &mut Store {
        &mut self.store
    }

    /// Ends in order; see [`Store::close`].
    pub fn close(self) -> Result<(), WriteError> {
        self.store.close()
    }
}

/// What a core needs of what a store recovered.
pub fn restored(recovered: &Recovered) -> Restored {
    Restored {
        hard_state: recovered.hard_state,
        chosen_ballot: recovered.chosen_ballot,
        highest_round: recovered.max_round,
        compacted: recovered.compacted,
        entries: recovered.entries.clone(),
    }
}

/// Why a node cannot go on after a failed write.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// What is durable cannot be read back.
    #[error("cannot read back what is durable: {0}")]
    Read(#[from] OpenError),
    /// The disk failed for good.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// What may leave now.
#[derive(Debug, Default)]
pub struct Durable {
    /// Peers' and own messages, in order.
    pub messages: Vec<Message>,
    /// Bindings that hold from now on.
    pub bindings: Vec<Binding>,
    /// How many entries were written.
    pub entries: usize,
}

/// Why nothing may leave.
#[derive(Debug, thiserror::Error)]
pub enum TurnError {
    /// The write failed; see [`WriteError`] for whether it may pass.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A chosen entry that a peer asked for cannot be read back: the store is damaged.
    #[error(transparent)]
    Read(#[from] LogReadError),
}

/// Makes all works durable in one write. They are of one generation and in the order of their numbers; the
/// later of two hard states, or of two entries at an index, stands.
fn turn(node: NodeId, works: Vec<Work>, store: &mut Store, recent: &Recent) -> Result<Durable, TurnError> {
    let Some(last) = works.last().map(|work| work.number) else { return Ok(Durable::default()) };
    assert!(
        works
            .windows(2)
            .all(|pair| pair[0].number < pair[1].number && pair[0].generation == pair[1].generation),
        "works are in order and of one generation, up to number {last}"
    );
    let must_write = works.iter().any(Work::must_write);
    let hard_state = works.iter().rev().find_map(|work| work.hard_state);
    let mut durable = Durable::default();
    let mut log = LogChanges::default();
    let mut pages: Vec<Page> = Vec::new();
    for work in works {
        log.add(work.truncate, work.entries);
        durable.messages.extend(work.messages);
        durable.bindings.extend(work.bindings);
        pages.extend(work.pages);
    }
    if must_write {
        store.write(&Write { changes: &log.changes(), hard_state, bindings: &durable.bindings })?;
    }
    recent.set_durable(last);
    durable.entries = log.entries.len();
    for page in pages {
        durable.messages.extend(read_page(node, page, store, recent)?);
    }
    Ok(durable)
}

/// The changes of the log in several works, one after the other.
#[derive(Default)]
struct LogChanges {
    entries: Vec<Entry>,
    /// Where the log is truncated, and how many of the entries are put before that.
    truncations: Vec<(usize, Index)>,
}

impl LogChanges {
    fn add(&mut self, truncate: Option<Index>, entries: Vec<Entry>) {
        self.truncations.extend(truncate.map(|first| (self.entries.len(), first)));
        self.entries.extend(entries);
    }

    fn changes(&self) -> Vec<Change<'_>> {
        let mut changes = Vec::with_capacity(1 + 2 * self.truncations.len());
        let mut put = 0;
        for (before, first) in &self.truncations {
            changes.push(Change::Entries(&self.entries[put..*before]));
            changes.push(Change::TruncateFrom(*first));
            put = *before;
        }
        changes.push(Change::Entries(&self.entries[put..]));
        changes
    }
}

fn read_page(
    node: NodeId,
    page: Page,
    store: &Store,
    recent: &Recent,
) -> Result<Option<Message>, LogReadError> {
    let Page { to, first, chosen } = page;
    let entries = read_chosen(first, chosen, MAX_PAGE_BYTES, recent, &store.reader())?;
    if entries.is_empty() {
        return Ok(None);
    }
    Ok(Some(Message { from: node, to, body: ClusterBody::Learn { chosen, entries }.into() }))
}

/// Chosen entries from `first` on, from memory or else the store: at least one if there is any. From the
/// store only up to the next one in memory, which may be under way to it, in place of one that was never
/// chosen.
pub fn read_chosen(
    first: u64,
    chosen: u64,
    max_bytes: usize,
    recent: &Recent,
    reader: &LogReader,
) -> Result<Vec<Entry>, LogReadError> {
    let entries = recent.read(first, chosen, max_bytes);
    if !entries.is_empty() || first > chosen {
        return Ok(entries);
    }
    let last = recent.next_from(first + 1).map_or(chosen, |next| chosen.min(next - 1));
    reader.read(first, last, max_bytes)
}
