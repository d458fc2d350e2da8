//! The tests for every engine: its contract, and scripts that drive a store side by side with a model of it
//! made of plain maps.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::consensus::types::{Ballot, Command, Entry};
use crate::wire::message::Point;

/// Checks an empty engine against the contract of its traits.
pub(crate) fn check_contract(engine: &dyn Engine) {
    let records: Vec<Vec<u8>> = (1..=300u64).map(|number| vec![number as u8; 1 + number as usize]).collect();
    let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
    let put = |key, value| Put { key, value };
    let small = [put(b"b/2", b"two"), put(b"a", b"old"), put(b"b/10", b"ten"), put(b"c", &[])];
    for commit in [
        Commit { meta: &small, first: 1, records: &records[..200], ..Commit::default() },
        Commit { first: 201, records: &records[200..299], ..Commit::default() },
        Commit { delete_below: 3, ..Commit::default() },
        Commit { delete_below: 257, meta: &[put(b"a", b"new")], first: 300, records: &records[299..] },
    ] {
        engine.commit(&commit).unwrap();
    }
    engine.sync().unwrap();
    for _ in 0..2 {
        let mut kept = vec![];
        let go_on = |goes_on| if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
        let visit = &mut |number: u64, record: &[u8]| {
            assert_eq!(record, records[number as usize - 1]);
            kept.push(number);
            go_on(number < 290)
        };
        engine.scan(visit).unwrap();
        assert_eq!(kept, (257..=290).collect::<Vec<_>>());
        for number in [0, 1, 2, 3, 256, 301, u64::MAX] {
            assert_eq!(engine.read(number), Ok(None), "record {number}");
        }
        assert_eq!(engine.read(257).unwrap().as_deref(), Some(records[256]));
        assert_eq!(engine.read(300).unwrap().as_deref(), Some(records[299]));

        let mut seen = vec![];
        let visit = &mut |key: &[u8], value: &[u8]| {
            seen.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        engine.scan_prefix(b"b/", visit).unwrap();
        assert_eq!(seen, [(b"b/10".to_vec(), b"ten".to_vec()), (b"b/2".to_vec(), b"two".to_vec())]);
        assert_eq!(engine.get(b"a").unwrap().as_deref(), Some(&b"new"[..]));
        assert_eq!(engine.get(b"c").unwrap().as_deref(), Some(&b""[..]));
        assert_eq!(engine.get(b"b"), Ok(None));
        engine.reopen().unwrap();
    }
}

pub(crate) fn founding() -> Founding {
    let members = (1..=3).map(|node| (node, format!("127.0.0.1:1000{node}"))).collect();
    Founding { cluster: "test".into(), node: 1, protocol: "paxos".into(), members, delivery_window: 1 << 20 }
}

pub(crate) fn entry(index: Index, round: Round, size: usize) -> Entry {
    let payload: Vec<u8> = (0..size).map(|at| (at as u64 ^ index ^ round) as u8).collect();
    Entry { index, ballot: Ballot { round, node: 1 }, command: Command::value(index, 1, payload) }
}

pub(crate) fn state(round: Round, chosen: Index) -> HardState {
    HardState { promised: Ballot { round, node: 1 }, chosen }
}

pub(crate) fn write(
    store: &mut Store,
    entries: &[Entry],
    hard_state: Option<HardState>,
) -> Result<(), WriteError> {
    store.write(&Write { changes: &[Change::Entries(entries)], hard_state, bindings: &[] })
}

/// Where a store is, so that it can be opened again.
pub(crate) trait Place {
    fn try_open(&self) -> Result<(Store, Recovered), OpenError>;

    fn open(&self) -> (Store, Recovered) {
        self.try_open().unwrap()
    }

    /// Checks what must hold for the place itself after every step.
    fn check(&self) {}
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Writes entries of these sizes from `back` below the end on, under a ballot `higher` than the last.
    /// `skip` leaves a hole before them.
    Write {
        back: u64,
        skip: u64,
        higher: u64,
        sizes: Vec<usize>,
        choose: u64,
    },
    Truncate {
        back: u64,
    },
    Compact {
        back: u64,
    },
    Bind {
        node: NodeId,
        directory: DirectoryId,
    },
    Unbind {
        node: NodeId,
    },
    Reopen,
    Rebuild,
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![8 => 0usize..200, 2 => 6000usize..9000, 1 => 20_000usize..60_000];
    prop_oneof![
        10 => (0u64..6, 0u64..3, 0u64..2, prop::collection::vec(size, 0..12), 0u64..8)
            .prop_map(|(back, skip, higher, sizes, choose)| Step::Write { back, skip, higher, sizes, choose }),
        2 => (0u64..5).prop_map(|back| Step::Truncate { back }),
        3 => (0u64..5).prop_map(|back| Step::Compact { back }),
        2 => (2u64..5, 1u128..4).prop_map(|(node, directory)| Step::Bind { node, directory: directory << 100 }),
        2 => (2u64..5).prop_map(|node| Step::Unbind { node }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Rebuild),
    ]
}

/// What a store should hold.
#[derive(Default)]
struct Model {
    entries: BTreeMap<Index, Entry>,
    hard_state: HardState,
    compacted: Index,
    max_round: Round,
    bindings: BTreeMap<NodeId, DirectoryId>,
    starts: u64,
}

impl Model {
    fn last(&self) -> Index {
        self.entries.keys().last().copied().unwrap_or(0).max(self.compacted)
    }

    fn recovered(&self, directory: DirectoryId) -> Recovered {
        let above = self.entries.range(self.hard_state.chosen + 1..);
        Recovered {
            directory,
            start: self.starts,
            hard_state: self.hard_state,
            chosen_ballot: self
                .entries
                .get(&self.hard_state.chosen)
                .map_or(Ballot::ZERO, |entry| entry.ballot),
            max_round: self.max_round,
            entries: above.map(|(_, entry)| entry.clone()).collect(),
            last: self.last(),
            compacted: self.compacted,
            bindings: self.bindings.clone(),
            founding: founding(),
        }
    }

    fn check(&self, reader: &LogReader) {
        assert_eq!((reader.last(), reader.compacted()), (self.last(), self.compacted));
        let Point { index, hash } = reader.compacted_point();
        assert_eq!((index, hash), (self.compacted, u128::from(self.compacted)), "the hash of what is gone");
        let mut seen = BTreeMap::new();
        let mut next = 0;
        while let Some(first) = reader.next_entry(next) {
            let run = reader.read(first, Index::MAX, 30_000).unwrap();
            assert!(run.iter().zip(first..).all(|(entry, index)| entry.index == index));
            next = first + run.len() as u64;
            seen.extend(run.into_iter().map(|entry| (entry.index, entry)));
        }
        assert_eq!(seen, self.entries);
        if self.compacted > 0 {
            let expected = LogReadError::Compacted { compacted: self.compacted };
            assert_eq!(reader.read(self.compacted, Index::MAX, 1), Err(expected));
        }
        assert_eq!(reader.read(self.last() + 1, Index::MAX, 1), Err(LogReadError::Missing(self.last() + 1)));
    }
}

/// Runs a script on a store and on the model side by side.
pub(crate) fn run(place: &dyn Place, script: &[Step]) {
    let mut model = Model { starts: 1, ..Model::default() };
    let (mut store, recovered) = place.open();
    let directory = recovered.directory;
    assert_eq!(recovered, model.recovered(directory));
    for step in script {
        match step {
            Step::Write { back, skip, higher, sizes, choose } => {
                let round = model.max_round + higher;
                let first = (model.last() + 1 + skip).saturating_sub(*back).max(model.hard_state.chosen + 1);
                let entries: Vec<_> =
                    (first..).zip(sizes).map(|(index, size)| entry(index, round, *size)).collect();
                model.entries.extend(entries.iter().map(|entry| (entry.index, entry.clone())));
                // The watermark goes as far as there is no hole, and never back.
                let chosen = (model.hard_state.chosen + 1..).take(*choose as usize);
                let chosen = chosen.take_while(|index| model.entries.contains_key(index)).last();
                let hard_state = chosen.map(|chosen| state(round, chosen));
                write(&mut store, &entries, hard_state).unwrap();
                model.hard_state = hard_state.unwrap_or(model.hard_state);
                if !entries.is_empty() || hard_state.is_some() {
                    model.max_round = round;
                }
            }
            Step::Truncate { back } => {
                let from = (model.last() + 1).saturating_sub(*back).max(model.hard_state.chosen + 1);
                store.write(&Write { changes: &[Change::TruncateFrom(from)], ..Write::default() }).unwrap();
                model.entries.retain(|index, _| *index < from);
            }
            Step::Compact { back } => {
                let upto = model.hard_state.chosen.saturating_sub(*back);
                while store.compact(upto, u128::from(upto)).unwrap() {}
                model.entries.retain(|index, _| *index > upto);
                model.compacted = model.compacted.max(upto);
            }
            Step::Bind { node, directory } => {
                let binding = Binding { node: *node, directory: *directory };
                store.write(&Write { bindings: &[binding], ..Write::default() }).unwrap();
                model.bindings.insert(*node, *directory);
            }
            Step::Unbind { node } => {
                assert_eq!(store.unbind(*node).unwrap(), model.bindings.remove(node));
            }
            Step::Reopen => {
                store.close().unwrap();
                let opened = place.open();
                store = opened.0;
                model.starts += 1;
                assert_eq!(opened.1, model.recovered(directory));
            }
            Step::Rebuild => assert_eq!(store.rebuild().unwrap(), model.recovered(directory)),
        }
        assert_eq!((store.hard_state(), store.bindings()), (model.hard_state, &model.bindings));
        model.check(&store.reader());
        place.check();
    }
}
