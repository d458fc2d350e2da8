//! The turn of storage: one atomic durable write for all that waits, then whatever waited behind it.
//!
//! *A message that promises something leaves only after the state behind it is durable*: [`turn`] is where
//! that is kept. It either makes everything durable and gives back the messages, or fails and gives back
//! none. Left out: the thread and what a failure leads to (`node`), and the records (`store`).

use crate::consensus::batch::Page;
use crate::consensus::message::{Body, MAX_PAGE_BYTES, Message};
use crate::consensus::types::{Entry, NodeId};
use crate::store::{Binding, Change, LogReader, ReadError, Store, Write, WriteError};

use super::recent::Recent;
use super::state_machine::Work;

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
    Read(#[from] ReadError),
}

/// Makes all works durable in one write. They are of one generation and in the order of their numbers; the
/// later of two hard states, or of two entries at an index, stands.
pub fn turn(
    node: NodeId,
    works: Vec<Work>,
    store: &mut Store,
    recent: &Recent,
) -> Result<Durable, TurnError> {
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
    let mut entries: Vec<Entry> = Vec::new();
    let mut pages: Vec<Page> = Vec::new();
    for work in works {
        entries.extend(work.entries);
        durable.messages.extend(work.messages);
        durable.bindings.extend(work.bindings);
        pages.extend(work.pages);
    }
    if must_write {
        let changes = [Change::Entries(&entries)];
        store.write(&Write { changes: &changes, hard_state, bindings: &durable.bindings })?;
    }
    recent.set_durable(last);
    durable.entries = entries.len();
    for page in pages {
        durable.messages.extend(read_page(node, page, store, recent)?);
    }
    Ok(durable)
}

fn read_page(node: NodeId, page: Page, store: &Store, recent: &Recent) -> Result<Option<Message>, ReadError> {
    let Page { to, first, chosen } = page;
    let entries = read_chosen(first, chosen, MAX_PAGE_BYTES, recent, &store.reader())?;
    if entries.is_empty() {
        return Ok(None);
    }
    Ok(Some(Message { from: node, to, body: Body::Learn { chosen, entries } }))
}

/// Chosen entries from `first` on, from memory or else the store: at least one if there is any. From the store
/// only up to the next one in memory, which may be under way to it, in place of one that was never chosen.
pub fn read_chosen(
    first: u64,
    chosen: u64,
    max_bytes: usize,
    recent: &Recent,
    reader: &LogReader,
) -> Result<Vec<Entry>, ReadError> {
    let entries = recent.read(first, chosen, max_bytes);
    if !entries.is_empty() || first > chosen {
        return Ok(entries);
    }
    let last = recent.next_from(first + 1).map_or(chosen, |next| chosen.min(next - 1));
    reader.read(first, last, max_bytes)
}
