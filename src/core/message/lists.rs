//! The lists in messages: ranges of indexes, how much one message holds, and how a list is printed.

use std::fmt;

use super::super::types::{Command, Entry, Index};

/// The most that a list of entries or commands in a message holds (in [`Command::cost_bytes`]), unless its
/// first item alone is larger.
pub const MAX_PAGE_BYTES: usize = 512 * 1024;

/// An inclusive range of indexes, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    /// Its lowest index.
    pub first: Index,
    /// Its highest index, at least `first`.
    pub last: Index,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}..{}", self.first, self.last)
        }
    }
}

/// Whether one message holds all of these commands.
pub(crate) fn fits_a_page<'a>(commands: impl Iterator<Item = &'a Command>) -> bool {
    commands.map(Command::cost_bytes).sum::<usize>() <= MAX_PAGE_BYTES
}

/// What a list of entries takes, in [`Command::cost_bytes`].
pub(crate) fn entries_cost_bytes(entries: &[Entry]) -> usize {
    entries.iter().map(|entry| entry.command.cost_bytes()).sum()
}

/// `a, b, c` for the one-line forms of lists.
pub(crate) fn join<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}
