//! A running hash of the log that this node delivered, and its values at the indexes that nodes compare.
//!
//! The value at an index covers every index up to it: two nodes with the same value at one index delivered
//! the same commands at the same places, and agreed on which of them counted. Ballots are left out, since
//! nodes may hold a chosen command under different ones. So one comparison at the highest common index covers
//! all lower ones.
//!
//! It is SipHash-1-3 with 128 bits and a fixed key: a difference by chance has no chance, and nobody who can
//! choose commands gains by a collision, because all nodes hash the same commands. The form of what is hashed
//! never changes, since nodes of different versions compare. Left out: the comparison
//! ([`fork`](super::fork)).

use std::collections::VecDeque;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::consensus::types::{Entry, Index};
pub use crate::wire::message::Point;

/// The value is kept for good at each multiple of this. A node that replays its log is compared at these.
pub const MARK_EVERY: Index = 4096;

/// How many of the latest values are kept: more than nodes in the same cluster are apart while all keep up.
const LATEST: usize = 4096;

/// The bytes of a command that are hashed besides its payload: the value before it, index, session, number,
/// from, kind, whether it counts.
const HEAD_BYTES: usize = 16 + 8 + 16 + 8 + 8 + 1 + 1;

/// The values at the indexes that nodes compare.
///
/// Invariants:
/// * `latest` holds the values at the last `latest.len() <= LATEST` indexes up to `newest.index`.
/// * `marks` holds the values at every multiple of [`MARK_EVERY`] above `base` and up to `newest.index`: 16
///   bytes for each 4096 entries of the log that is kept.
#[derive(Clone, Debug)]
pub struct Marks {
    newest: Point,
    /// Delivery began after this index.
    base: Point,
    latest: VecDeque<u128>,
    marks: Vec<u128>,
}

impl Marks {
    /// Begins after `base`: index 0 and value 0, or where the log was compacted.
    pub fn new(base: Point) -> Marks {
        Marks { newest: base, base, latest: VecDeque::new(), marks: Vec::new() }
    }

    /// Takes the entry that was delivered after the newest one.
    pub fn deliver(&mut self, entry: &Entry, counts: bool) {
        let next = self.newest.index + 1;
        assert_eq!(entry.index, next, "delivery must be in order: {} came, {next} is due", entry.index);
        self.newest = Point { index: next, hash: extend(self.newest.hash, entry, counts) };
        if self.latest.len() == LATEST {
            self.latest.pop_front();
        }
        self.latest.push_back(self.newest.hash);
        if next.is_multiple_of(MARK_EVERY) {
            self.marks.push(self.newest.hash);
        }
    }

    /// The value at the last delivered index.
    pub fn newest(&self) -> Point {
        self.newest
    }

    /// The value at the last multiple of [`MARK_EVERY`], or where delivery began.
    pub fn newest_mark(&self) -> Point {
        let first = self.base.index / MARK_EVERY + 1;
        let mark =
            |hash: &u128| Point { index: (first + self.marks.len() as Index - 1) * MARK_EVERY, hash: *hash };
        self.marks.last().map_or(self.base, mark)
    }

    /// The value at an index, if it is kept.
    pub fn at(&self, index: Index) -> Option<Point> {
        if index == self.base.index {
            return Some(self.base);
        }
        if index < self.base.index || index > self.newest.index {
            return None;
        }
        let back = usize::try_from(self.newest.index - index).ok()?;
        let from_latest = || self.latest.len().checked_sub(back + 1).and_then(|at| self.latest.get(at));
        let from_marks = || {
            let place = index / MARK_EVERY - self.base.index / MARK_EVERY - 1;
            self.marks.get(usize::try_from(place).ok()?)
        };
        let hash = if index.is_multiple_of(MARK_EVERY) { from_marks() } else { from_latest() };
        hash.map(|hash| Point { index, hash: *hash })
    }
}

/// The value after one more delivered entry.
fn extend(before: u128, entry: &Entry, counts: bool) -> u128 {
    let command = &entry.command;
    let mut head = [0; HEAD_BYTES];
    head[..16].copy_from_slice(&before.to_le_bytes());
    head[16..24].copy_from_slice(&entry.index.to_le_bytes());
    head[24..40].copy_from_slice(&command.request.session.to_le_bytes());
    head[40..48].copy_from_slice(&command.request.number.to_le_bytes());
    head[48..56].copy_from_slice(&command.from.to_le_bytes());
    head[56] = command.kind.code();
    head[57] = u8::from(counts);
    let mut hasher = SipHasher13::new();
    hasher.write(&head);
    hasher.write(&command.payload);
    hasher.finish128().as_u128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::types::{Ballot, Command};

    const START: Point = Point { index: 0, hash: 0 };

    fn entry(index: Index, value: &'static str) -> Entry {
        Entry { index, ballot: Ballot { round: index, node: 1 }, command: Command::value(index, 1, value) }
    }

    fn after(entries: &[(Entry, bool)]) -> u128 {
        let mut marks = Marks::new(START);
        entries.iter().for_each(|(entry, counts)| marks.deliver(entry, *counts));
        marks.newest().hash
    }

    /// Nodes of different versions compare values, so the value never changes; a ballot plays no part, and
    /// everything else does.
    #[test]
    fn the_value_covers_all_but_the_ballot() {
        let first = entry(1, "a");
        let value = after(&[(first.clone(), true), (entry(2, "b"), true)]);
        assert_eq!(format!("{value:032x}"), "ec0a67c7903c877b8692a98890311c1a");
        let later = Entry { ballot: Ballot { round: 9, node: 3 }, ..entry(2, "b") };
        assert_eq!(after(&[(first.clone(), true), (later, true)]), value);
        let with = |change: &dyn Fn(&mut Command)| {
            let mut changed = entry(2, "b");
            change(&mut changed.command);
            after(&[(first.clone(), true), (changed, true)])
        };
        let changed = [
            after(&[(first.clone(), true), (entry(2, "b"), false)]),
            after(&[(first.clone(), false), (entry(2, "b"), true)]),
            after(&[(entry(1, "A"), true), (entry(2, "b"), true)]),
            with(&|command| command.payload = "c".into()),
            with(&|command| command.request.number = 3),
            with(&|command| command.request.session = 1),
            with(&|command| command.from = 2),
            with(&|command| command.kind = crate::consensus::types::Kind::Operation),
        ];
        for (at, other) in changed.into_iter().enumerate() {
            assert_ne!(other, value, "change {at}");
        }
    }

    /// The latest values and every mark are kept, whether delivery began at the log's start or later.
    #[test]
    fn latest_values_and_marks_are_kept() {
        for base in [0, 5, MARK_EVERY - 1, MARK_EVERY, 3 * MARK_EVERY + 7] {
            let mut marks = Marks::new(Point { index: base, hash: 7 });
            assert_eq!((marks.newest_mark().index, marks.at(base).unwrap().hash), (base, 7));
            let last = base + 3 * MARK_EVERY + 100;
            let mut all = vec![];
            for index in base + 1..=last {
                marks.deliver(&entry(index, "v"), true);
                all.push(marks.newest());
            }
            let mark = last - last % MARK_EVERY;
            assert_eq!(marks.newest_mark(), all[(mark - base - 1) as usize]);
            for point in all {
                let is_kept = point.index.is_multiple_of(MARK_EVERY) || point.index > last - LATEST as Index;
                assert_eq!(marks.at(point.index), is_kept.then_some(point), "base {base}");
            }
            assert_eq!(marks.at(last + 1), None);
            assert_eq!(base.checked_sub(1).and_then(|below| marks.at(below)), None);
        }
    }
}
