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

/// Chosen entries from `first` on, from memory or else the store: at least one if there is any, but none if the
/// core starts again meanwhile. The store is
/// read only as far as nothing is in memory: what is there may not be durable yet, and then the store still
/// holds what was accepted before at that index, under a lower ballot.
pub fn read_chosen(
    first: u64,
    chosen: u64,
    max_bytes: usize,
    recent: &Recent,
    reader: &LogReader,
) -> Result<Vec<Entry>, ReadError> {
    let restarts = recent.restarts();
    // The caller's may be from before a restart of the core.
    let chosen = chosen.min(recent.chosen());
    let entries = recent.read(first, chosen, max_bytes);
    if !entries.is_empty() || first > chosen {
        return Ok(entries);
    }
    let last = recent.next(first).map_or(chosen, |next| chosen.min(next - 1));
    let entries = if first <= last { reader.read(first, last, max_bytes) } else { Ok(Vec::new()) };
    if recent.restarts() == restarts { entries } else { Ok(Vec::new()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::consensus::types::{Ballot, Command, HardState};
    use crate::store::Founding;
    use crate::store::memory::MemoryEngine;

    /// What was accepted and never chosen is not read from the store while what was chosen in its place is
    /// only in memory.
    #[test]
    fn the_store_is_not_read_past_what_is_newer_in_memory() {
        let founding = Founding {
            cluster: "test".into(),
            node: 1,
            protocol: "paxos".into(),
            members: [(1, "127.0.0.1:10001".into())].into(),
            delivery_window: 8,
        };
        let (mut store, _) = Store::open_on(Arc::new(MemoryEngine::new()), &founding, 7).unwrap();
        let entry = |index, round, value: &'static str| Entry {
            index,
            ballot: Ballot { round, node: 1 },
            command: Command::value(index, 1, value),
        };
        let accepted = [entry(1, 1, "a"), entry(2, 1, "b"), entry(3, 1, "never chosen")];
        let hard_state = Some(HardState { promised: Ballot { round: 1, node: 1 }, chosen: 1 });
        store.write(&Write { changes: &[Change::Entries(&accepted)], hard_state, bindings: &[] }).unwrap();

        // After a restart: 2 is chosen as it was accepted, 3 was learned and is on its way to the disk.
        let recent = Recent::new(1 << 20, 1);
        recent.put(&[entry(3, 2, "chosen")], 1);
        recent.raise_chosen(3);
        let read = |first| read_chosen(first, 3, 1 << 20, &recent, &store.reader()).unwrap();
        assert_eq!(read(1), accepted[..2]);
        assert_eq!(read(3), [entry(3, 2, "chosen")]);
        // Another restart, before that was durable.
        recent.restart(2);
        assert_eq!(read(2), accepted[1..2]);
        assert_eq!(read(3), []);
    }
}
