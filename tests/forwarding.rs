//! Requests go to the leader once, and into the log once, as long as nothing is lost: no change of leader, no
//! broken link, no client that repeats itself. Here messages take long, so that requests are older than the
//! wait before they are known to be chosen, and are sent again.
//!
//! Cores in one thread, in virtual time. What a single core sends when is in `core_timers.rs`.

#[macro_use]
mod common;

use std::collections::{BTreeMap, VecDeque};

use spaxos::consensus::message::{Body, ClusterBody, Message};
use spaxos::consensus::protocol::Role;
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::types::{Command, NodeId, RequestId};

use common::cluster::{Cluster, Shape};

each_protocol!(
    what_is_chosen_in_time_is_sent_once,
    what_is_slow_is_in_the_log_once,
    what_a_node_cannot_know_is_not_placed_again,
);

const T: u64 = 100;
const HEARTBEAT_MS: u64 = 20;
const STEP_MS: u64 = 5;
/// How many requests the clients of each node send in a step.
const REQUESTS: u64 = 3;

/// Requests that are chosen before they are older than the wait are sent once.
fn what_is_chosen_in_time_is_sent_once(protocol: ProtocolName) {
    for delay_ms in [0, 5] {
        let counts = Slow::new(protocol, delay_ms, 1024).load(100);
        assert_eq!(counts, Counts { requests: 900, placed: 900, sent: 600, bytes: 600 * 72 });
    }
}

/// Requests that take longer are sent again, with a back-off: not often. The log has each once.
fn what_is_slow_is_in_the_log_once(protocol: ProtocolName) {
    // By how long a message takes and how much a leader has open: the most that 600 requests are sent.
    // A request takes 45, 60 and 90 ms; in the last two cases it waits for a place, for up to 8 T.
    let cases =
        [((15, 1024), 650), ((20, 1024), 650), ((30, 1024), 1200), ((20, 64), 1200), ((30, 64), 2400)];
    for ((delay_ms, window_entries), most) in cases {
        let counts = Slow::new(protocol, delay_ms, window_entries).load(100);
        let Counts { requests, placed, sent, .. } = counts;
        println!("{protocol}, {delay_ms} ms, window {window_entries}: {counts:?}");
        assert_eq!((requests, placed), (900, 900), "of {delay_ms} ms");
        assert!(sent > 600, "nothing was sent again, of {delay_ms} ms");
        assert!(sent <= most, "{sent} were sent, of {delay_ms} ms, window {window_entries}");
    }
}

/// A node does not learn for long that its requests are chosen, and sends them again and again.
fn what_a_node_cannot_know_is_not_placed_again(protocol: ProtocolName) {
    let mut slow = Slow::new(protocol, 0, 1024);
    slow.deaf = Some(2);
    slow.steps(100, REQUESTS);
    assert!(100 * STEP_MS > 4 * T, "long enough to send everything again");
    slow.deaf = None;
    let Counts { requests, placed, sent, .. } = slow.load(10);
    assert_eq!((requests, placed), (990, 990));
    assert!(sent > 660 + 300, "those of 300 were sent again: {sent}");
}

#[derive(Debug, PartialEq, Eq)]
struct Counts {
    requests: u64,
    /// How many indexes they have in the log.
    placed: u64,
    /// How many requests Forwards carried, and their bytes.
    sent: u64,
    bytes: u64,
}

/// Three nodes; node 1 leads. Each message takes as long as the others.
struct Slow {
    cluster: Cluster,
    delay_ms: u64,
    now_ms: u64,
    under_way: VecDeque<(u64, Message)>,
    requests: u64,
    sent: u64,
    bytes: u64,
    /// A node that hears of nothing but heartbeats: its own requests are chosen, and it does not learn of it.
    deaf: Option<NodeId>,
}

impl Slow {
    fn new(protocol: ProtocolName, delay_ms: u64, window_entries: u64) -> Slow {
        let shape = Shape {
            protocol,
            nodes: 3,
            election_ms: T,
            heartbeat_ms: HEARTBEAT_MS,
            window_entries,
            window_bytes: 16 << 20,
            seed: 1,
        };
        let mut cluster = Cluster::new(shape);
        while cluster.status(1).role != Role::Leader {
            let _ = cluster.tick(1, STEP_MS);
            cluster.settle();
        }
        let (under_way, deaf) = (VecDeque::new(), None);
        Slow { cluster, delay_ms, now_ms: 0, under_way, requests: 0, sent: 0, bytes: 0, deaf }
    }

    /// Clients of all nodes propose for so many steps; then all that is under way comes to an end.
    fn load(mut self, steps: u64) -> Counts {
        let ballot = self.cluster.status(1).promised;
        self.steps(steps, REQUESTS);
        self.steps(200, 0);
        for id in self.cluster.ids() {
            let status = self.cluster.status(id);
            assert_eq!((status.promised, status.leader), (ballot, Some(1)), "the leader stays: {status:?}");
            assert_eq!((status.pending, status.dropped), (0, 0), "{status:?}");
            assert_eq!(self.cluster.delivered(id).len() as u64, self.requests);
        }
        let mut placed: BTreeMap<RequestId, u64> = BTreeMap::new();
        for entry in self.cluster.disk(1).1 {
            *placed.entry(entry.command.request).or_default() += 1;
        }
        placed.remove(&RequestId::NONE);
        let Slow { requests, sent, bytes, .. } = self;
        Counts { requests, placed: placed.values().sum(), sent, bytes }
    }

    fn steps(&mut self, steps: u64, requests: u64) {
        for _ in 0..steps {
            self.now_ms += STEP_MS;
            for id in self.cluster.ids() {
                let _ = self.cluster.tick(id, STEP_MS);
                let reqids = self.requests + 1..=self.requests + requests;
                self.requests += requests;
                let commands = reqids.map(|reqid| Command::value(reqid, id, "8 bytes."));
                let _ = self.cluster.propose(id, commands.collect(), 1_000_000);
            }
            self.deliver();
        }
    }

    /// Flushes all, and delivers what was under way for long enough.
    fn deliver(&mut self) {
        loop {
            for id in self.cluster.ids() {
                self.cluster.flush(id, usize::MAX);
            }
            for message in std::mem::take(&mut self.cluster.flight) {
                if let Body::Cluster(ClusterBody::Forward { commands }) = &message.body {
                    self.sent += commands.len() as u64;
                    self.bytes += commands.iter().map(|command| command.cost_bytes() as u64).sum::<u64>();
                }
                let own = message.from == message.to;
                self.under_way.push_back((self.now_ms + if own { 0 } else { self.delay_ms }, message));
            }
            let arrives = |(at_ms, _): &(u64, Message)| *at_ms <= self.now_ms;
            let Some(place) = self.under_way.iter().position(arrives) else { return };
            let (_, message) = self.under_way.remove(place).expect("it was found there");
            let tells = matches!(message.body, Body::Cluster(ClusterBody::Heartbeat { .. }));
            if self.deaf != Some(message.to) || tells {
                let _ = self.cluster.arrive(vec![message]);
            }
        }
    }
}
