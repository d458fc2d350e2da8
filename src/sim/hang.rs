//! Leaders that cannot serve and do not fail: the disk hangs, or the log file takes no lines. Such a leader
//! makes way (`consensus`, `making_way.rs`), and the clients of the other nodes are served again, soon.
//!
//! A leader is elected and serves. Then its disk or its log file hangs and stays so, perhaps with one of the
//! others cut off. From then on clients propose at every other node, twenty times in T.

use std::collections::BTreeSet;
use std::fmt;

use crate::consensus::protocols::ProtocolName;
use crate::consensus::random::Random;
use crate::consensus::types::NodeId;

use super::cluster::Cluster;
use super::counts::Count;
use super::faults::Faults;
use super::plan::Plan;

/// What hangs at the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// Whatever must become durable waits.
    Disk,
    /// The log file takes no lines, so the applier waits and answers nobody.
    LogFile,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct MadeWay {
    /// T.
    pub election_ms: u64,
    /// From when on every request at the other nodes was answered within T; `None` if that never came.
    pub served_ms: Option<u64>,
    /// When the former leader no longer led; `None` if it led to the end.
    pub led_ms: Option<u64>,
    /// How many leaders were elected after the hang began.
    pub elections: u64,
}

impl MadeWay {
    /// Within how many T the clients of other nodes must be served again.
    pub const SERVED_T: u64 = 4;
    /// Within how many T the leader must notice and step down: T each.
    pub const LED_T: u64 = 2;

    /// Whether both came in time, with one election or two. (The clocks of threads are up to a tick apart.)
    pub fn is_in_time(&self) -> bool {
        let within =
            |ms: Option<u64>, t: u64| ms.is_some_and(|ms| ms <= t * self.election_ms + self.election_ms / 4);
        within(self.served_ms, MadeWay::SERVED_T)
            && within(self.led_ms, MadeWay::LED_T)
            && self.elections <= 2
    }
}

impl fmt::Display for Hang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hang::Disk => "a hung disk",
            Hang::LogFile => "a log file that takes no lines",
        })
    }
}

/// For how long the cluster is watched, in T.
const WATCHED_T: u64 = 9;

/// A request of a client.
struct Probe {
    node: NodeId,
    reqid: u64,
    sent_us: u64,
    is_late: bool,
    is_answered: bool,
}

/// Lets something hang at the leader of a cluster that serves, with one other node `down` or not, and watches
/// it.
pub fn hang(seed: u64, protocol: ProtocolName, nodes: u64, down: bool, hang: Hang) -> MadeWay {
    let mut dice = Random::new(seed ^ 0x4A46);
    let slow = dice.between(1, 20);
    let faults = Faults { delay_max_us: 100 + 100 * slow, write_max_us: 100 + 50 * slow, ..Faults::none() };
    let mut cluster = Cluster::new(&Plan { protocol, nodes, faults: Some(faults), ..Plan::new(seed) }, 0);
    let t_us = cluster.election_ms() * 1000;
    while cluster.leader().is_none() {
        cluster.run_for(t_us / 10);
    }
    cluster.world.stop_clients();
    let others = |leader| (1..=nodes).filter(move |id| *id != leader);
    if down {
        let leader = cluster.leader().expect("it was awaited");
        let gone = others(leader).next_back().expect("there are others");
        let links = others(gone).flat_map(|id| [(id, gone), (gone, id)]);
        cluster.cut(links.collect::<BTreeSet<_>>());
    }
    cluster.run_for(3 * t_us + dice.between(0, 3 * t_us));
    let leader = cluster.leader().expect("nothing is wrong yet");
    let reaches = |id: &NodeId| !cluster.world.network.cut.contains(&(*id, leader));
    let asked: Vec<NodeId> = others(leader).filter(reaches).collect();
    match hang {
        Hang::Disk => {
            let until_us = cluster.now_us() + 2 * WATCHED_T * t_us;
            cluster.world.running(leader).disk_busy_until_us = until_us;
        }
        Hang::LogFile => cluster.world.running(leader).log_file_fails = true,
    }
    watch(&mut cluster, leader, &asked)
}

fn watch(cluster: &mut Cluster, leader: NodeId, asked: &[NodeId]) -> MadeWay {
    let t_us = cluster.election_ms() * 1000;
    let elections = cluster.counts().of(Count::Elections);
    let began_us = cluster.now_us();
    let mut probes: Vec<Probe> = Vec::new();
    let mut led_us = None;
    while cluster.now_us() < began_us + WATCHED_T * t_us {
        for node in asked {
            let (reqid, sent_us) = (cluster.probe_at(*node), cluster.now_us());
            probes.push(Probe { node: *node, reqid, sent_us, is_late: false, is_answered: false });
        }
        cluster.run_for(t_us / 20);
        let now_us = cluster.now_us();
        for probe in probes.iter_mut().filter(|probe| !probe.is_answered) {
            probe.is_late = now_us > probe.sent_us + t_us;
            probe.is_answered = cluster.has_delivered(probe.node, probe.reqid);
        }
        let leads = cluster.leads(leader);
        led_us = if leads { None } else { led_us.or(Some(now_us)) };
    }
    // What was sent last may still be under way.
    let last_us = cluster.now_us() - 2 * t_us;
    let late = probes.iter().filter(|probe| probe.is_late).map(|probe| probe.sent_us + t_us / 20).max();
    let served_us = Some(late.unwrap_or(began_us)).filter(|served_us| *served_us < last_us);
    let since_ms = |us: u64| (us - began_us) / 1000;
    MadeWay {
        election_ms: cluster.election_ms(),
        served_ms: served_us.map(since_ms),
        led_ms: led_us.map(since_ms),
        elections: cluster.counts().of(Count::Elections) - elections,
    }
}
