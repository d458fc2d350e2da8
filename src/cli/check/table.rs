//! The three rules, as a table that is fed what nodes commit and generate. It knows of no files and no texts.

use std::collections::btree_map::Entry;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;

/// How many breaks of each rule are kept for the report; the others are only counted.
pub(super) const TOLD: usize = 10;

/// A place in the order of nodes.
pub(super) type Node = usize;

/// What stands for a value.
pub(super) type Value<'a> = &'a [u8];

/// Invariant: an open seq is held by some nodes, and lacked by at least one that may yet commit it; so
/// nothing is kept of what all have.
pub(super) struct Table {
    nodes: Vec<NodeState>,
    open: BTreeMap<u64, Slot>,
    /// Hashes of what was generated; `None` if nobody knows.
    generated: Option<HashSet<u64>>,
    /// What was committed and not seen generated so far: by hash, where it was committed first.
    ungenerated: HashMap<u64, (Node, u64)>,
    hasher: RandomState,
    breaks: Breaks,
}

struct NodeState {
    /// Below this nothing is known of the node, since its oldest files are gone.
    first: u64,
    committed: Intervals,
    commits: u64,
    ended: bool,
}

/// A seq that some have committed.
struct Slot {
    /// The value that was seen first, and the node that committed it.
    value: u64,
    first: Node,
}

/// What broke a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// Rule 1: a node commits the seq again, with the same value or a different one.
    Again { node: Node, seq: u64 },
    /// Rule 2: nobody generated the value.
    NotGenerated { node: Node, seq: u64 },
    /// Rule 2: the node committed nothing at all.
    NothingCommitted { node: Node },
    /// Rule 3: the nodes have different values there.
    Differs { first: Node, node: Node, seq: u64 },
    /// Rule 3: the node lacks a seq below its highest, which the other has.
    Missing { node: Node, other: Node, seq: u64 },
}

/// Breaks of the rules, by rule - 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaks {
    pub(super) told: [Vec<Break>; 3],
    pub(super) count: [u64; 3],
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// By node, how often it commits.
    pub(super) commits: Vec<u64>,
    pub(super) breaks: Breaks,
}

impl Verdict {
    pub(super) fn is_pass(&self) -> bool {
        self.is_valid() && self.is_safe()
    }

    /// Rules 1 and 2.
    pub(super) fn is_valid(&self) -> bool {
        self.breaks.count[0] + self.breaks.count[1] == 0
    }

    /// Rule 3.
    pub(super) fn is_safe(&self) -> bool {
        self.breaks.count[2] == 0
    }
}

impl Table {
    /// One node for each first seq, below which nothing is known of it. `generates_known`: whether values
    /// come to [`Table::generate`] at all.
    pub(super) fn new(firsts: impl Iterator<Item = u64>, generates_known: bool) -> Table {
        let node = |first| NodeState { first, committed: Intervals::default(), commits: 0, ended: false };
        Table {
            nodes: firsts.map(node).collect(),
            open: BTreeMap::new(),
            generated: generates_known.then(HashSet::new),
            ungenerated: HashMap::new(),
            hasher: RandomState::new(),
            breaks: Breaks::default(),
        }
    }

    /// The highest seq that a node committed so far.
    pub(super) fn highest(&self, node: Node) -> Option<u64> {
        self.nodes[node].committed.highest()
    }

    /// Some node generated a value.
    pub(super) fn generate(&mut self, value: Value) {
        let hash = self.hasher.hash_one(value);
        if let Some(generated) = &mut self.generated {
            generated.insert(hash);
            self.ungenerated.remove(&hash);
        }
    }

    /// A node committed a value. `generated` is how it was generated, if it is a value that somebody
    /// generates.
    pub(super) fn commit(&mut self, node: Node, seq: u64, value: Value, generated: Option<Value>) {
        if let Some(value) = generated {
            self.note_ungenerated(node, seq, value);
        }
        let state = &mut self.nodes[node];
        state.commits += 1;
        if !state.committed.insert(seq) {
            return self.breaks.add(1, Break::Again { node, seq });
        }
        let value = self.hasher.hash_one(value);
        match self.open.entry(seq) {
            Entry::Vacant(vacant) => {
                vacant.insert(Slot { value, first: node });
                self.miss_in_ended(seq, node);
            }
            Entry::Occupied(slot) if slot.get().value != value => {
                self.breaks.add(3, Break::Differs { first: slot.get().first, node, seq });
            }
            Entry::Occupied(_) => {}
        }
        if self.is_settled(seq) {
            self.open.remove(&seq);
        }
    }

    /// A node's log ends: it will never get what it lacks below its highest seq.
    pub(super) fn end(&mut self, node: Node) {
        self.nodes[node].ended = true;
        let lacks: Vec<(u64, Node)> = self
            .open
            .iter()
            .filter_map(|(seq, slot)| self.nodes[node].lacks(*seq).then_some((*seq, slot.first)))
            .collect();
        for (seq, other) in lacks {
            self.breaks.add(3, Break::Missing { node, other, seq });
        }
        let settled: Vec<u64> = self.open.keys().copied().filter(|seq| self.is_settled(*seq)).collect();
        for seq in settled {
            self.open.remove(&seq);
        }
    }

    /// The verdict, once all logs have ended.
    pub(super) fn verdict(mut self) -> Verdict {
        assert!(self.nodes.iter().all(|node| node.ended), "a verdict before all logs are read");
        assert!(self.open.is_empty(), "{} seqs are not settled though all logs are read", self.open.len());
        let mut ungenerated: Vec<(u64, Node)> =
            self.ungenerated.values().map(|(node, seq)| (*seq, *node)).collect();
        ungenerated.sort_unstable();
        for (seq, node) in ungenerated {
            self.breaks.add(2, Break::NotGenerated { node, seq });
        }
        for node in (0..self.nodes.len()).filter(|node| self.nodes[*node].commits == 0) {
            self.breaks.add(2, Break::NothingCommitted { node });
        }
        Verdict { commits: self.nodes.iter().map(|node| node.commits).collect(), breaks: self.breaks }
    }

    fn note_ungenerated(&mut self, node: Node, seq: u64, value: Value) {
        let hash = self.hasher.hash_one(value);
        if self.generated.as_ref().is_some_and(|generated| !generated.contains(&hash)) {
            self.ungenerated.entry(hash).or_insert((node, seq));
        }
    }

    /// Notes the nodes whose logs have ended, and that lack a seq that another node has only now.
    fn miss_in_ended(&mut self, seq: u64, other: Node) {
        for (node, state) in self.nodes.iter().enumerate() {
            if state.ended && state.lacks(seq) {
                self.breaks.add(3, Break::Missing { node, other, seq });
            }
        }
    }

    /// Whether no node may still commit it for the first time.
    fn is_settled(&self, seq: u64) -> bool {
        let has_it = |node: &NodeState| node.ended || seq < node.first || node.committed.contains(seq);
        self.nodes.iter().all(has_it)
    }
}

impl NodeState {
    fn lacks(&self, seq: u64) -> bool {
        let within = self.first <= seq && self.committed.highest().is_some_and(|highest| seq <= highest);
        within && !self.committed.contains(seq)
    }
}

impl Breaks {
    fn add(&mut self, rule: usize, what: Break) {
        self.count[rule - 1] += 1;
        if self.told[rule - 1].len() < TOLD {
            self.told[rule - 1].push(what);
        }
    }
}

/// A set of seqs; seqs in order without gaps take one item.
#[derive(Default)]
struct Intervals {
    /// First → last; none touch.
    ranges: BTreeMap<u64, u64>,
}

impl Intervals {
    fn highest(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, last)| *last)
    }

    fn contains(&self, seq: u64) -> bool {
        self.ranges.range(..=seq).next_back().is_some_and(|(_, last)| seq <= *last)
    }

    /// Returns `false` if it is already there.
    fn insert(&mut self, seq: u64) -> bool {
        if self.contains(seq) {
            return false;
        }
        let before = self.ranges.range(..seq).next_back().filter(|(_, last)| **last + 1 == seq);
        let first = before.map_or(seq, |(first, _)| *first);
        let after = seq.checked_add(1).and_then(|next| self.ranges.remove(&next));
        self.ranges.insert(first, after.unwrap_or(seq));
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// However seqs come, the set knows them, and those without a gap between them take one item.
    #[test]
    fn intervals_join() {
        proptest!(|(seqs in prop::collection::vec(0u64..40, 0..60))| {
            let mut intervals = Intervals::default();
            let mut set = std::collections::BTreeSet::new();
            for seq in seqs {
                prop_assert_eq!(intervals.insert(seq), set.insert(seq));
            }
            let groups = set.iter().filter(|seq| **seq == 0 || !set.contains(&(**seq - 1))).count();
            prop_assert_eq!(intervals.ranges.len(), groups);
            prop_assert!((0..41).all(|seq| intervals.contains(seq) == set.contains(&seq)));
            prop_assert_eq!(intervals.highest(), set.last().copied());
        });
        let mut intervals = Intervals::default();
        assert!(intervals.insert(u64::MAX) && intervals.insert(u64::MAX - 1) && !intervals.insert(u64::MAX));
    }

    /// Rules 1 and 3 by the letter: whole tables, and every pair of nodes compared.
    fn by_the_book(logs: &[Vec<(u64, u8)>]) -> (bool, bool) {
        let once = |log: &Vec<(u64, u8)>| {
            let seqs: HashSet<u64> = log.iter().map(|(seq, _)| *seq).collect();
            seqs.len() == log.len()
        };
        let cut = |log: &[(u64, u8)], highest: Option<u64>| -> BTreeMap<u64, u8> {
            log.iter().rev().copied().filter(|(seq, _)| Some(*seq) <= highest).collect()
        };
        let highest = |log: &[(u64, u8)]| log.iter().map(|(seq, _)| *seq).max();
        let same = |a: &Vec<(u64, u8)>, b: &Vec<(u64, u8)>| {
            let both = highest(a).min(highest(b));
            cut(a, both) == cut(b, both)
        };
        (logs.iter().all(once), logs.iter().all(|a| logs.iter().all(|b| same(a, b))))
    }

    /// In whatever order logs are read, the table says what the rules say.
    #[test]
    fn the_table_agrees_with_the_rules_by_their_words() {
        let entry = (0u64..8, prop_oneof![9 => Just(0u8), 1 => Just(1u8)]);
        let log = prop::collection::vec(entry, 0..8).prop_flat_map(|mut log| {
            // Mostly in order and once each, or nothing would ever pass.
            let tidy = {
                let mut tidy = log.clone();
                tidy.sort_unstable();
                tidy.dedup_by_key(|(seq, _)| *seq);
                tidy
            };
            log.truncate(7);
            prop_oneof![1 => Just(log), 4 => Just(tidy), 8 => (0u64..8).prop_map(|n| (0..n).map(|seq| (seq, 0)).collect())]
        });
        let logs = prop::collection::vec(log, 1..4);
        proptest!(ProptestConfig::with_cases(2000), |(logs in logs, order in prop::collection::vec(0usize..4, 40))| {
            let mut table = Table::new(logs.iter().map(|_| 0), false);
            let mut next = vec![0; logs.len()];
            let turns = order.iter().map(|turn| turn % logs.len());
            let rest = (0..logs.len()).flat_map(|node| std::iter::repeat_n(node, 9));
            for node in turns.chain(rest) {
                match logs[node].get(next[node]) {
                    Some((seq, value)) => table.commit(node, *seq, &[*value], None),
                    None if next[node] == logs[node].len() => table.end(node),
                    None => {}
                }
                next[node] += 1;
            }
            let Verdict { breaks, .. } = table.verdict();
            prop_assert_eq!((breaks.count[0] == 0, breaks.count[2] == 0), by_the_book(&logs), "{:?}", breaks);
        });
    }
}
