//! The log as Raft needs it: without holes, with the rounds of what was chosen recently, so that followers
//! which are a little behind are served from memory.
//!
//! ```text
//!   1 ……… compacted ……… base │ base+1 …… chosen │ chosen+1 …… last │
//!   gone       in the store   │ tail: entries    │ window: entries  │ nothing
//! ```

use std::collections::VecDeque;

use super::super::config::Restored;
use super::super::log::Log;
use super::super::message::MAX_PAGE_BYTES;
use super::super::types::{Command, Entry, Index, NodeId, Position, RequestId, Round};

/// The most chosen entries that are kept: what a follower lacks that is about a round trip behind. Others are
/// sent pages from the store.
const TAIL_ENTRIES: usize = 1024;
/// The most that they take, in [`Command::cost_bytes`].
const TAIL_BYTES: usize = 1 << 20;

/// The most entries of a page: as many as it holds of the smallest commands.
const MAX_PAGE_ENTRIES: u64 = (MAX_PAGE_BYTES / 64) as u64;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RaftLog {
    window: Log,
    /// The entries `base.index + 1 ..= chosen`.
    tail: VecDeque<Entry>,
    tail_bytes: usize,
    base: Position,
}

impl RaftLog {
    pub(super) fn new(restored: Restored) -> RaftLog {
        let Restored { hard_state, chosen_ballot, compacted, entries, .. } = restored;
        let base = Position { index: hard_state.chosen, round: chosen_ballot.round };
        assert!(
            (base.index == 0) == (base.round == 0),
            "the round of the entry at the watermark must be known, not {base}"
        );
        let window = Log::new(compacted, hard_state.chosen);
        let mut log = RaftLog { window, tail: VecDeque::new(), tail_bytes: 0, base };
        for entry in entries {
            log.push(entry);
        }
        log
    }

    /// What is above the watermark.
    pub(super) fn window(&self) -> &Log {
        &self.window
    }

    pub(super) fn chosen(&self) -> Index {
        self.window.chosen()
    }

    /// The lowest place whose round is known.
    pub(super) fn base(&self) -> Position {
        self.base
    }

    /// Where the log ends.
    pub(super) fn last(&self) -> Position {
        let index = self.window.last();
        Position {
            index,
            round: self.round_at(index).expect("the last entry is in the window, the tail or the base"),
        }
    }

    /// The round of the entry at an index; `None` below the base and beyond the end.
    pub(super) fn round_at(&self, index: Index) -> Option<Round> {
        match index.checked_sub(self.base.index)? {
            0 => Some(self.base.round),
            _ if index > self.window.chosen() => Some(self.window.slot(index)?.ballot.round),
            above => Some(self.tail[above as usize - 1].ballot.round),
        }
    }

    /// Entries from `first` on, as many as a page holds, at least one if there is one. `first` is above the
    /// base.
    pub(super) fn page(&self, first: Index) -> Vec<Entry> {
        assert!(first > self.base.index, "entry {first} is no longer here, the base is {}", self.base);
        let skip = (first - self.base.index - 1) as usize;
        let tail = self.tail.range(skip.min(self.tail.len())..);
        let tail = tail.map(|Entry { index, ballot, command }| (*index, *ballot, command));
        let window = self.window.entries_from(first);
        let window = window.map(|(index, slot)| (index, slot.ballot, &slot.command));
        let most = (self.window.last() + 1).saturating_sub(first).min(MAX_PAGE_ENTRIES);
        let mut page = Vec::with_capacity(most as usize);
        let mut bytes = 0;
        for (index, ballot, command) in tail.chain(window) {
            bytes += command.cost_bytes();
            if bytes > MAX_PAGE_BYTES && !page.is_empty() {
                break;
            }
            page.push(Entry { index, ballot, command: command.clone() });
        }
        page
    }

    /// The highest place up to `limit.index`, and not below `lowest`, whose round is not above `limit.round`:
    /// two logs, neither of which has the other's entries above it, may agree up to there (the fast back-up
    /// of thesis section 3.5).
    pub(super) fn agreement(&self, limit: Position, lowest: Index) -> Position {
        let lowest = lowest.max(self.base.index);
        let mut index = limit.index.min(self.window.last()).max(lowest);
        loop {
            let round = self.round_at(index).unwrap_or(0);
            if index == lowest || round <= limit.round {
                return Position { index, round };
            }
            index -= 1;
        }
    }

    /// Adds the next entry.
    pub(super) fn push(&mut self, entry: Entry) {
        let (last, Entry { index, ballot, command }) = (self.last(), entry);
        assert_eq!(index, last.index + 1, "the log has no holes");
        assert!(ballot.round >= last.round, "rounds never fall: {index} of ballot {ballot} after {last}");
        self.window.put(index, ballot, command);
    }

    /// Removes the entries from an index on, none of which is chosen.
    pub(super) fn truncate_from(&mut self, first: Index) {
        self.window.truncate_from(first);
    }

    /// Raises the watermark by one. Returns the request that was chosen, and the node that proposed it.
    pub(super) fn choose_front(&mut self) -> (RequestId, NodeId) {
        let entry = self.window.choose_front();
        let Command { request, from, .. } = entry.command;
        self.tail_bytes += entry.command.cost_bytes();
        self.tail.push_back(entry);
        while self.tail.len() > TAIL_ENTRIES || self.tail_bytes > TAIL_BYTES {
            let Some(Entry { index, ballot, command }) = self.tail.pop_front() else { break };
            self.tail_bytes -= command.cost_bytes();
            self.base = Position { index, round: ballot.round };
        }
        (request, from)
    }

    /// Drops the tail.
    #[cfg(feature = "internals")]
    pub(super) fn forget_chosen(&mut self) {
        if let Some(entry) = self.tail.back() {
            self.base = Position { index: entry.index, round: entry.ballot.round };
            self.tail.clear();
            self.tail_bytes = 0;
        }
    }
}
