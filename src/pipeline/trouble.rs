//! Trouble: a thread of this node is blocked, so that clients wait in vain although the node answers its
//! peers. It is noticed from outside that thread, told to the peers, and made into the list of nodes that
//! are better off, to which the core makes way (`consensus`, `making_way.rs`).
//!
//! Two things are watched, each by a number that changes when the thread goes on ([`Signs`]):
//!
//! * storage has one turn (a write, its sync, reads for peers) under way: the disk hangs;
//! * the log file takes no lines, although it has a reader if it needs one: its partition is full, or hangs.
//!
//! Either is a [`Trouble`] once the ticks of the state machine have seen the same number for all of T. A disk
//! that is slow but works, however slow, shows another number before that. A gap of more than T/2 between
//! ticks is a pause of the process, in which nothing could go on, so the wait begins again. Trouble is over
//! when it was not seen for T, so that a disk that works now and then does not move leadership back and
//! forth.
//!
//! Each node tells the others its trouble, or that it has none, when that changes and every T/2. Reports are
//! lost, late and old: one counts for 2 T. A node is *fitter* than this one if its last report counts and is
//! of a lesser trouble: with a hung disk a node cannot vote, with a full log partition it can. A node that
//! does not report is not fitter, so if all are in the same trouble, or cut off, nobody moves.
//!
//! Nothing here is part of what is agreed on, and nothing is durable. A node that lies about its trouble, or
//! about nothing else, can make leaders hand over to it, which it could do by campaigning.

use std::collections::BTreeMap;

use crate::consensus::types::NodeId;
use crate::wire::message::{Service, ServiceBody, Trouble};

/// What is under way in the threads that may be blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// The turn of storage that is under way; each has a number of its own.
    pub storage: Option<u64>,
    /// The failure of the log file that is not over; each has a number of its own.
    pub log_file: Option<u64>,
}

/// What a node knows of its own trouble, and of the others'.
#[derive(Debug)]
pub struct Troubles {
    node: NodeId,
    election_ms: u64,
    now_ms: u64,
    storage: Watch,
    log_file: Watch,
    own: Trouble,
    /// What each other member reported last, and when.
    peers: BTreeMap<NodeId, Option<(Trouble, u64)>>,
    tell_at_ms: u64,
}

impl Troubles {
    /// Nothing is wrong, and no peer has reported yet.
    pub fn new(node: NodeId, peers: impl Iterator<Item = NodeId>, election_ms: u64) -> Troubles {
        Troubles {
            node,
            election_ms,
            now_ms: 0,
            storage: Watch::default(),
            log_file: Watch::default(),
            own: Trouble::None,
            peers: peers.map(|peer| (peer, None)).collect(),
            tell_at_ms: 0,
        }
    }

    /// Time passed. Returns the reports for the peers, if they are due.
    pub fn tick(&mut self, now_ms: u64, signs: Signs) -> Vec<Service> {
        let is_pause = now_ms - self.now_ms > self.election_ms / 2;
        self.now_ms = now_ms;
        let hangs = self.storage.tick(now_ms, is_pause, signs.storage, self.election_ms);
        let fails = self.log_file.tick(now_ms, is_pause, signs.log_file, self.election_ms);
        let own = match (hangs, fails) {
            (true, _) => Trouble::Storage,
            (false, true) => Trouble::LogFile,
            (false, false) => Trouble::None,
        };
        if own == self.own && now_ms < self.tell_at_ms {
            return Vec::new();
        }
        self.own = own;
        self.tell_at_ms = now_ms + self.election_ms / 2;
        let report = |to: &NodeId| Service { from: self.node, to: *to, body: ServiceBody::Health(own) };
        self.peers.keys().map(report).collect()
    }

    /// A peer reports.
    pub fn hear(&mut self, from: NodeId, trouble: Trouble) {
        let now_ms = self.now_ms;
        if let Some(report) = self.peers.get_mut(&from) {
            *report = Some((trouble, now_ms));
        }
    }

    /// This node's own.
    pub fn own(&self) -> Trouble {
        self.own
    }

    /// The nodes that are better off, by ascending id: none while nothing is wrong here.
    pub fn fitter(&self) -> Vec<NodeId> {
        let counts = |heard_ms: u64| self.now_ms < heard_ms + 2 * self.election_ms;
        let is_fitter = |report: &Option<(Trouble, u64)>| {
            report.is_some_and(|(trouble, heard_ms)| trouble < self.own && counts(heard_ms))
        };
        self.peers.iter().filter(|(_, report)| is_fitter(report)).map(|(peer, _)| *peer).collect()
    }
}

/// Watches one thing.
#[derive(Debug, Default)]
struct Watch {
    /// The number that the last tick saw, and since when.
    number: Option<u64>,
    since_ms: u64,
    /// In trouble until then.
    until_ms: u64,
}

impl Watch {
    /// Returns whether this is a trouble.
    fn tick(&mut self, now_ms: u64, is_pause: bool, number: Option<u64>, election_ms: u64) -> bool {
        if number != self.number || is_pause {
            (self.number, self.since_ms) = (number, now_ms);
        }
        if number.is_some() && now_ms >= self.since_ms + election_ms {
            self.until_ms = now_ms + election_ms;
        }
        now_ms < self.until_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: u64 = 100;

    fn troubles() -> Troubles {
        Troubles::new(1, [2, 3].into_iter(), T)
    }

    /// Ticks each millisecond, up to and including `until_ms`. Returns when reports left, and of what.
    fn run(troubles: &mut Troubles, until_ms: u64, signs: Signs) -> Vec<(u64, Trouble)> {
        let mut told = Vec::new();
        for now_ms in troubles.now_ms + 1..=until_ms {
            let reports = troubles.tick(now_ms, signs);
            assert!(reports.is_empty() || reports.iter().map(|report| report.to).eq([2, 3]));
            told.extend(reports.first().map(|report| match report.body {
                ServiceBody::Health(trouble) => (now_ms, trouble),
                ref other => panic!("{other}"),
            }));
        }
        told
    }

    fn writes(number: u64) -> Signs {
        Signs { storage: Some(number), log_file: None }
    }

    /// One write for T is a trouble, told immediately and every T/2; it is over T after the write has ended.
    #[test]
    fn a_write_that_takes_t_is_a_trouble() {
        let mut troubles = troubles();
        assert_eq!(run(&mut troubles, 9, Signs::default()), [(1, Trouble::None)]);
        let told = run(&mut troubles, 300, writes(7));
        let expected = [(51, Trouble::None), (101, Trouble::None), (110, Trouble::Storage)];
        assert_eq!(told[..3], expected);
        assert_eq!(told[3..], [160, 210, 260].map(|at_ms| (at_ms, Trouble::Storage)));
        assert_eq!(
            run(&mut troubles, 399, Signs::default()),
            [(310, Trouble::Storage), (360, Trouble::Storage)]
        );
        assert_eq!(run(&mut troubles, 400, Signs::default()), [(400, Trouble::None)]);
    }

    /// Writes that take almost T, one after the other, are none; nor is a pause of the process.
    #[test]
    fn a_slow_disk_and_a_pause_are_none() {
        let mut troubles = troubles();
        for number in 1..20 {
            run(&mut troubles, number * (T - 1), writes(number));
            assert_eq!(troubles.own(), Trouble::None);
        }
        let now_ms = troubles.now_ms;
        run(&mut troubles, now_ms + 50, writes(50));
        let _ = troubles.tick(now_ms + 1000, writes(50));
        run(&mut troubles, now_ms + 1000 + T - 1, writes(50));
        assert_eq!(troubles.own(), Trouble::None);
        run(&mut troubles, now_ms + 1000 + T, writes(50));
        assert_eq!(troubles.own(), Trouble::Storage);
    }

    /// Those with a lesser trouble are fitter, as long as their reports count.
    #[test]
    fn the_fitter_ones() {
        let mut troubles = troubles();
        troubles.hear(2, Trouble::None);
        troubles.hear(3, Trouble::LogFile);
        troubles.hear(9, Trouble::None);
        assert_eq!(troubles.fitter(), [0; 0], "nothing is wrong here");
        let log_fails = Signs { storage: None, log_file: Some(1) };
        run(&mut troubles, T + 1, log_fails);
        assert_eq!((troubles.own(), troubles.fitter()), (Trouble::LogFile, vec![2]));
        run(&mut troubles, 2 * T - 1, Signs { storage: Some(1), ..log_fails });
        assert_eq!(troubles.fitter(), [2]);
        run(&mut troubles, 2 * T, Signs { storage: Some(1), ..log_fails });
        assert_eq!(troubles.fitter(), [0; 0], "reports are old");
        run(&mut troubles, 3 * T, Signs { storage: Some(1), ..log_fails });
        troubles.hear(2, Trouble::LogFile);
        troubles.hear(3, Trouble::Storage);
        assert_eq!((troubles.own(), troubles.fitter()), (Trouble::Storage, vec![2]));
    }
}
