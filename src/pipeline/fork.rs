//! Whether the nodes delivered the same log. They cannot differ while every node keeps its promises; a forged
//! or broken message, memory that flips a bit, or a disk put back from a copy can still make them differ, and
//! then each goes on with a log of its own that no protocol will ever compare.
//!
//! So once a second each node tells every other node the values of its [`Marks`] at its newest mark and at
//! its last delivered index, and answers what the other told last with its own values at the same indexes. A
//! value covers everything below it, so a node that replays or catches up is compared mark by mark as it
//! goes, and nodes that are far apart are compared at the newest mark of the one behind.
//!
//! *A node ends only if a majority of all members, each proven by the shared secret, agree with each other at
//! an index and differ from it there.* Two majorities share a member, so two groups can never both end the
//! other; and what fewer say, or what anybody may have forged, ends nobody. In every other case all nodes
//! that see the difference report it and go on: without a majority nobody can know which log is the right
//! one.
//!
//! Left out: the timer's clock, logging and the end of the node (`node`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::consensus::types::{Index, NodeId};
use crate::wire::message::{Service, ServiceBody};

use super::marks::{Marks, Point};

/// How often a node tells the others.
const EVERY_MS: u64 = 1000;

/// How often a node tells without hearing a peer until it forgets what that peer said.
const FORGOTTEN_AFTER: u64 = 60;

/// How many points of a peer are remembered: those of its last two messages.
const REMEMBERED: usize = 2 * ServiceBody::MAX_POINTS;

/// What one node knows of the others' logs.
pub struct ForkWatch {
    node: NodeId,
    /// The number of all members, this node included.
    members: usize,
    /// Whether every peer proved itself by the shared secret before it could say anything.
    proven: bool,
    marks: Arc<Mutex<Marks>>,
    peers: BTreeMap<NodeId, Peer>,
    next_ms: u64,
    fork: Option<Fork>,
}

/// What a peer said.
#[derive(Default)]
struct Peer {
    /// The indexes of its own newest mark and last delivery, as it told last.
    asks: Vec<Index>,
    /// How often this node has told since the peer said anything.
    unheard: u64,
    /// Its values at indexes where this node has one as well, the latest first: at most [`REMEMBERED`].
    said: Vec<Comparison>,
}

/// One value of a peer and this node's own at the same index.
#[derive(Clone, Copy)]
struct Comparison {
    theirs: Point,
    is_same: bool,
}

/// Nodes that delivered something else than this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// The lowest index at which a difference is known; the logs part here or below.
    pub index: Index,
    /// The nodes that differ from this one, ascending.
    pub nodes: Vec<NodeId>,
    /// Whether a proven majority agrees with each other and differs from this node, which must end.
    pub is_outvoted: bool,
}

impl ForkWatch {
    /// Watches `node` among `members` (all of them, this node included).
    pub fn new(node: NodeId, members: &[NodeId], proven: bool, marks: Arc<Mutex<Marks>>) -> ForkWatch {
        let others = members.iter().filter(|member| **member != node);
        let peers = others.map(|member| (*member, Peer::default())).collect();
        ForkWatch { node, members: members.len(), proven, marks, peers, next_ms: 0, fork: None }
    }

    /// The difference that is known now.
    pub fn fork(&self) -> Option<&Fork> {
        self.fork.as_ref()
    }

    /// Returns what the others must be told, once a second. What a peer said is forgotten when it has said
    /// nothing for long: a node that ended for its log must not be reported forever.
    pub fn handle_tick(&mut self, now_ms: u64) -> Vec<Service> {
        if now_ms < self.next_ms {
            return Vec::new();
        }
        self.next_ms = now_ms + EVERY_MS;
        for peer in self.peers.values_mut() {
            peer.unheard += 1;
            if peer.unheard > FORGOTTEN_AFTER {
                peer.said.clear();
            }
        }
        self.fork = self.judge();
        let marks = self.marks.lock();
        let own = [marks.newest_mark(), marks.newest()];
        let tell = |(to, peer): (&NodeId, &Peer)| {
            let answers = peer.asks.iter().filter_map(|index| marks.at(*index));
            let points = own.into_iter().chain(answers).collect();
            Service { from: self.node, to: *to, body: ServiceBody::Hashes { points } }
        };
        self.peers.iter().map(tell).collect()
    }

    /// Compares what a peer told. Returns whether that changed [`ForkWatch::fork`].
    pub fn handle_hashes(&mut self, from: NodeId, points: &[Point]) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else { return false };
        let marks = self.marks.lock();
        let compare = |theirs: &Point| {
            let own = marks.at(theirs.index)?;
            Some(Comparison { theirs: *theirs, is_same: own == *theirs })
        };
        let said: Vec<Comparison> = points.iter().filter_map(compare).collect();
        drop(marks);
        peer.unheard = 0;
        peer.asks = points.iter().take(2).map(|point| point.index).collect();
        peer.said.splice(..0, said);
        peer.said.truncate(REMEMBERED);
        let fork = self.judge();
        let before = std::mem::replace(&mut self.fork, fork);
        before != self.fork
    }

    fn judge(&self) -> Option<Fork> {
        let differs = |peer: &Peer| peer.said.iter().any(|said| !said.is_same);
        let nodes: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| differs(peer)).map(|(node, _)| *node).collect();
        let all = || self.peers.values().flat_map(|peer| &peer.said).filter(|said| !said.is_same);
        let index = all().map(|said| said.theirs.index).min()?;
        let is_outvoted = self.proven && all().any(|said| self.agree_on(said.theirs) > self.members / 2);
        Some(Fork { index, nodes, is_outvoted })
    }

    /// How many peers have this value.
    fn agree_on(&self, point: Point) -> usize {
        let has = |peer: &&Peer| peer.said.iter().any(|said| said.theirs == point);
        self.peers.values().filter(has).count()
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<String> = self.nodes.iter().map(NodeId::to_string).collect();
        write!(f, "{}:{}", self.index, nodes.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::super::marks::MARK_EVERY;
    use super::*;
    use crate::consensus::types::{Ballot, Command, Entry};

    /// A cluster of watches that exchange all that they say.
    struct Cluster {
        now_ms: u64,
        nodes: Vec<(Arc<Mutex<Marks>>, ForkWatch)>,
    }

    impl Cluster {
        fn new(count: u64, proven: bool) -> Cluster {
            let members: Vec<NodeId> = (1..=count).collect();
            let node = |id: &NodeId| {
                let marks = Arc::new(Mutex::new(Marks::new(Point { index: 0, hash: 0 })));
                (marks.clone(), ForkWatch::new(*id, &members, proven, marks))
            };
            Cluster { now_ms: 0, nodes: members.iter().map(node).collect() }
        }

        /// A node delivers up to an index; from `fork_at` on it has a log of its own.
        fn deliver(&mut self, node: NodeId, upto: Index, fork_at: Index) {
            let mut marks = self.nodes[node as usize - 1].0.lock();
            for index in marks.newest().index + 1..=upto {
                let value = if index == fork_at { format!("forked by {node}") } else { "value".into() };
                let command = Command::value(index, 1, value);
                marks.deliver(&Entry { index, ballot: Ballot { round: 1, node: 1 }, command }, true);
            }
        }

        fn exchange(&mut self, seconds: u64) {
            for _ in 0..seconds {
                self.now_ms += EVERY_MS;
                let now_ms = self.now_ms;
                let said: Vec<_> =
                    self.nodes.iter_mut().flat_map(|(_, watch)| watch.handle_tick(now_ms)).collect();
                for Service { from, to, body } in said {
                    let ServiceBody::Hashes { points } = body else {
                        panic!("{body} is not of this service")
                    };
                    assert!(points.len() <= ServiceBody::MAX_POINTS, "{points:?}");
                    self.nodes[to as usize - 1].1.handle_hashes(from, &points);
                }
            }
        }

        fn forks(&self) -> Vec<Option<String>> {
            self.nodes.iter().map(|(_, watch)| watch.fork().map(Fork::to_string)).collect()
        }

        fn outvoted(&self) -> Vec<NodeId> {
            let is_outvoted = |watch: &ForkWatch| watch.fork().is_some_and(|fork| fork.is_outvoted);
            let nodes = self.nodes.iter().filter(|(_, watch)| is_outvoted(watch));
            nodes.map(|(_, watch)| watch.node).collect()
        }
    }

    /// Nodes with the same log report nothing, however far they are apart.
    #[test]
    fn the_same_log_is_no_fork() {
        let mut cluster = Cluster::new(3, true);
        for (node, upto) in [(1, 5 * MARK_EVERY + 17), (2, 5 * MARK_EVERY), (3, 40)] {
            cluster.deliver(node, upto, 0);
        }
        cluster.exchange(3);
        cluster.deliver(3, 2 * MARK_EVERY + 1, 0);
        cluster.exchange(3);
        assert_eq!(cluster.forks(), [None, None, None]);
    }

    /// Of three proven nodes the one that differs ends, and the others report it, wherever the logs end: a
    /// second later at the latest.
    #[test]
    fn a_proven_majority_outvotes_the_one_that_differs() {
        for (behind, fork_at) in [(0, 1), (0, 4000), (3000, 1), (2 * MARK_EVERY, 1), (MARK_EVERY + 9, 5)] {
            let mut cluster = Cluster::new(3, true);
            let last = 4 * MARK_EVERY + 100;
            cluster.deliver(1, last, 0);
            cluster.deliver(2, last - 7, 0);
            cluster.deliver(3, last - behind, fork_at);
            cluster.exchange(2);
            assert_eq!(cluster.outvoted(), [3], "{behind} behind, forked at {fork_at}");
            let forks = cluster.forks();
            assert!(forks[0].as_ref().is_some_and(|fork| fork.ends_with(":3")), "{forks:?}");
            assert!(forks[1].as_ref().is_some_and(|fork| fork.ends_with(":3")), "{forks:?}");
        }
    }

    /// Without a shared secret, or without a majority, all report the fork and nobody ends.
    #[test]
    fn without_a_proven_majority_nobody_ends() {
        let mut unproven = Cluster::new(3, false);
        let mut halves = Cluster::new(4, true);
        for node in 1..=3 {
            unproven.deliver(node, 100, if node == 3 { 50 } else { 0 });
        }
        for node in 1..=4 {
            // 1 and 2 agree, 3 and 4 differ from them and from each other.
            halves.deliver(node, 100, if node > 2 { 50 } else { 0 });
        }
        for cluster in [&mut unproven, &mut halves] {
            cluster.exchange(2);
            assert_eq!(cluster.outvoted(), [0; 0]);
            assert!(cluster.forks().iter().all(Option::is_some), "{:?}", cluster.forks());
        }
    }

    /// What one member claims, however often, ends nobody, and is forgotten once it says the truth again.
    #[test]
    fn forged_values_end_nobody() {
        let mut cluster = Cluster::new(3, true);
        (1..=3).for_each(|node| cluster.deliver(node, 100, 0));
        for hash in 0..20 {
            cluster.nodes[0].1.handle_hashes(2, &[Point { index: 0, hash: 0 }, Point { index: 100, hash }]);
        }
        assert_eq!(cluster.forks()[0].as_deref(), Some("100:2"));
        assert_eq!(cluster.outvoted(), [0; 0]);
        cluster.exchange(4);
        assert_eq!(cluster.forks(), [None, None, None]);
    }

    /// A node that ended is forgotten after a minute.
    #[test]
    fn a_node_that_is_gone_is_forgotten() {
        let mut cluster = Cluster::new(3, true);
        (1..=3).for_each(|node| cluster.deliver(node, 100, if node == 3 { 50 } else { 0 }));
        cluster.exchange(2);
        let watch = &mut cluster.nodes[0].1;
        for second in 3..=2 + FORGOTTEN_AFTER {
            watch.handle_tick(second * EVERY_MS);
            assert_eq!(watch.fork().map(Fork::to_string).as_deref(), Some("100:3"), "after {second} s");
        }
        watch.handle_tick((3 + FORGOTTEN_AFTER) * EVERY_MS);
        assert_eq!(watch.fork(), None);
    }

    /// Two nodes that differ from the third, and from each other, are no majority.
    #[test]
    fn a_majority_must_agree_with_each_other() {
        let mut cluster = Cluster::new(3, true);
        (1..=3).for_each(|node| cluster.deliver(node, 100, 50));
        cluster.exchange(3);
        assert_eq!(cluster.outvoted(), [0; 0]);
        assert_eq!(cluster.forks()[0].as_deref(), Some("100:2,3"));
    }
}
