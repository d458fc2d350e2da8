//! Networks that are split in part: some node still reaches a majority both ways, so the cluster must serve,
//! and soon ("Omni-Paxos: Breaking the Barriers of Partial Connectivity", EuroSys 2023, section 2, and what
//! Cloudflare saw in 2020: a link lost between two of three nodes).
//!
//! A leader is elected and serves, then links are cut around it. From then on clients propose at every node
//! each quarter of T. The cluster serves again when a node answers, and goes on answering. If it does not,
//! the links come back, and then it must.

use std::collections::BTreeSet;
use std::fmt;

use crate::consensus::protocols::ProtocolName;
use crate::consensus::random::Random;
use crate::consensus::types::{NodeId, Position};

use super::cluster::Cluster;
use super::faults::Faults;
use super::plan::Plan;

/// A way in which a network is split in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// All are connected to one node only, which does not lead: the leader has lost its quorum, but is alive.
    QuorumLoss,
    /// The leader is gone, and all others are connected to one node only, whose log is behind.
    Constrained,
    /// Each is connected to its neighbours only, with the leader anywhere. (In a chain of more than five
    /// nodes none reaches a majority, so none can serve.)
    Chained,
    /// Two halves, and one node that sees both, with the leader anywhere.
    Bridge,
    /// The leader hears nobody, and all hear it.
    DeafLeader,
    /// Nobody hears the leader, and it hears all.
    MuteLeader,
    /// Links are lost at random, each direction on its own, so that some node is left with a quorum.
    Random,
}

impl Split {
    /// All of them.
    pub const ALL: [Split; 7] = [
        Split::QuorumLoss,
        Split::Constrained,
        Split::Chained,
        Split::Bridge,
        Split::DeafLeader,
        Split::MuteLeader,
        Split::Random,
    ];

    /// The largest number of nodes for which some node is left with a quorum.
    pub fn most_nodes(self) -> u64 {
        if self == Split::Chained { 5 } else { 9 }
    }
}

/// How a split cluster served.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// T.
    pub election_ms: u64,
    /// When, after the cut, the first node that went on answering gave its first answer; `None` if none did.
    pub after_ms: Option<u64>,
    /// Raft, if it did not serve: none of the nodes that reach a majority has a log that a majority of all
    /// would vote for. (A Paxos candidate is told what it lacks.)
    pub nobody_may_win: bool,
    /// When it served again once all links were back, if it did not before.
    pub healed_ms: Option<u64>,
    /// How many leaders were elected after the cut.
    pub elections: u64,
}

impl Served {
    /// [`Served::after_ms`] in T.
    pub fn after_t(&self) -> Option<f64> {
        self.after_ms.map(|after_ms| after_ms as f64 / self.election_ms as f64)
    }

    /// [`Served::healed_ms`] in T.
    pub fn healed_t(&self) -> Option<f64> {
        self.healed_ms.map(|healed_ms| healed_ms as f64 / self.election_ms as f64)
    }

    /// Whether it served within this many T; or could not, and did within this many T of the links' return.
    pub fn is_within(&self, within_t: f64) -> bool {
        let soon = |after_t: Option<f64>| after_t.is_some_and(|after_t| after_t <= within_t);
        soon(self.after_t()) || (self.nobody_may_win && soon(self.healed_t()))
    }

    /// Within how many T a cluster serves again.
    pub fn limit_t(protocol: ProtocolName) -> f64 {
        match protocol {
            ProtocolName::Paxos => 4.0,
            ProtocolName::Raft => 8.0,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Split::QuorumLoss => "quorum-loss",
            Split::Constrained => "constrained",
            Split::Chained => "chained",
            Split::Bridge => "bridge",
            Split::DeafLeader => "deaf-leader",
            Split::MuteLeader => "mute-leader",
            Split::Random => "random",
        })
    }
}

/// For how long after the cut the cluster is watched, in T.
const WATCHED_T: u64 = 10;

/// Splits a cluster of `nodes` (3 to 9; at most 5 in a chain) that serves, and watches it.
pub fn split(seed: u64, protocol: ProtocolName, nodes: u64, split: Split) -> Served {
    let most = split.most_nodes();
    assert!((3..=most).contains(&nodes), "{nodes} nodes cannot be split like that, 3 to {most} can");
    let mut dice = Random::new(seed ^ 0x5911);
    let slow = dice.between(1, 20);
    let faults = Faults { delay_max_us: 100 + 100 * slow, write_max_us: 100 + 50 * slow, ..Faults::none() };
    let mut cluster = Cluster::new(&Plan { protocol, nodes, faults: Some(faults), ..Plan::new(seed) }, 0);
    let t_us = cluster.election_ms() * 1000;
    let mut leader = cluster.leader();
    while leader.is_none() {
        cluster.run_for(t_us / 10);
        leader = cluster.leader();
    }
    cluster.run_for(t_us + dice.between(0, 3 * t_us));
    let leader = cluster.leader().or(leader).expect("it was awaited");
    let centre = 1 + (leader + dice.between(0, nodes - 1)) % nodes;
    if split == Split::Constrained {
        cluster.cut([(leader, centre), (centre, leader)].into());
        cluster.run_for(dice.between(t_us / 2, 3 * t_us));
    }
    let cut = links_lost(split, nodes, leader, centre, &mut dice);
    cluster.world.stop_clients();
    cluster.cut(cut.clone());
    let elections = cluster.counts().of(super::Count::Elections);
    let after_ms = watch(&mut cluster, t_us);
    let mut served = Served {
        election_ms: cluster.election_ms(),
        after_ms,
        nobody_may_win: false,
        healed_ms: None,
        elections: cluster.counts().of(super::Count::Elections) - elections,
    };
    if after_ms.is_none() {
        served.nobody_may_win = protocol == ProtocolName::Raft && nobody_may_win(&cluster, nodes, &cut);
        cluster.cut(BTreeSet::new());
        served.healed_ms = watch(&mut cluster, t_us);
    }
    served
}

/// Whether no node can get the votes of a majority. It asks the nodes that it reaches both ways, and their
/// logs must not be ahead of its own.
fn nobody_may_win(cluster: &Cluster, nodes: u64, cut: &BTreeSet<(NodeId, NodeId)>) -> bool {
    let last = |id: NodeId| {
        let last = cluster.world.node(id).account.entries.last_key_value();
        last.map_or(Position::default(), |(index, (ballot, _))| Position {
            round: ballot.round,
            index: *index,
        })
    };
    let votes = |id: NodeId| {
        let both = |other: &NodeId| !cut.contains(&(id, *other)) && !cut.contains(&(*other, id));
        (1..=nodes).filter(both).filter(|other| last(*other) <= last(id)).count() as u64
    };
    (1..=nodes).all(|id| votes(id) <= nodes / 2)
}

/// The links that are cut, as pairs of from and to.
fn links_lost(
    split: Split,
    nodes: u64,
    leader: NodeId,
    centre: NodeId,
    dice: &mut Random,
) -> BTreeSet<(NodeId, NodeId)> {
    let all = || (1..=nodes).flat_map(|a| (1..=nodes).map(move |b| (a, b))).filter(|(a, b)| a != b);
    let mut order: Vec<NodeId> = (1..=nodes).collect();
    for place in (1..order.len()).rev() {
        order.swap(place, dice.between(0, place as u64 + 1) as usize);
    }
    let place = |id: NodeId| order.iter().position(|other| *other == id).unwrap_or(0);
    match split {
        Split::QuorumLoss => all().filter(|(a, b)| *a != centre && *b != centre).collect(),
        Split::Constrained => {
            let stays = |a, b| (a == centre || b == centre) && a != leader && b != leader;
            all().filter(|(a, b)| !stays(*a, *b)).collect()
        }
        Split::Chained => all().filter(|(a, b)| place(*a).abs_diff(place(*b)) > 1).collect(),
        Split::Bridge => {
            let half = |id| place(id) % 2;
            all().filter(|(a, b)| place(*a) > 0 && place(*b) > 0 && half(*a) != half(*b)).collect()
        }
        Split::DeafLeader => all().filter(|(_, b)| *b == leader).collect(),
        Split::MuteLeader => all().filter(|(a, _)| *a == leader).collect(),
        Split::Random => loop {
            let lost_percent = dice.between(5, 70);
            let cut: BTreeSet<_> = all().filter(|_| dice.between(0, 100) < lost_percent).collect();
            if (1..=nodes).any(|id| has_quorum(id, nodes, &cut)) {
                return cut;
            }
        },
    }
}

/// Whether a node reaches a majority, itself included, and is reached by it.
fn has_quorum(id: NodeId, nodes: u64, cut: &BTreeSet<(NodeId, NodeId)>) -> bool {
    let both = |other: &NodeId| !cut.contains(&(id, *other)) && !cut.contains(&(*other, id));
    (1..=nodes).filter(both).count() as u64 > nodes / 2
}

/// How long it takes until the cluster serves, from now on, in milliseconds.
fn watch(cluster: &mut Cluster, t_us: u64) -> Option<u64> {
    let began_us = cluster.now_us();
    // Node and reqid of each probe, when it was sent, and when it was answered.
    let mut probes: Vec<(NodeId, u64, u64, Option<u64>)> = Vec::new();
    while cluster.now_us() < began_us + WATCHED_T * t_us {
        for id in cluster.ids() {
            let reqid = cluster.probe_at(id);
            probes.push((id, reqid, cluster.now_us(), None));
        }
        let next_us = cluster.now_us() + t_us / 4;
        while cluster.now_us() < next_us {
            cluster.run_for(t_us / 50);
            for (id, reqid, _, answered) in probes.iter_mut().filter(|probe| probe.3.is_none()) {
                if cluster.has_delivered(*id, *reqid) {
                    *answered = Some(cluster.now_us());
                }
            }
        }
    }
    // What was sent later may still be under way.
    let end_us = cluster.now_us() - 2 * t_us;
    let serves_from = |id: NodeId| {
        let of_node = || probes.iter().filter(move |probe| probe.0 == id);
        let first_us = of_node().filter_map(|probe| probe.3).min()?;
        let goes_on = of_node()
            .filter(|(_, _, sent_us, _)| (first_us..end_us).contains(sent_us))
            .all(|(_, _, sent_us, answered)| answered.is_some_and(|answered| answered < sent_us + 2 * t_us));
        goes_on.then_some(first_us)
    };
    let first_us = cluster.ids().filter_map(serves_from).min();
    first_us.map(|first_us| (first_us - began_us) / 1000)
}
