//! What one message can do to Paxos cores: each may be lost, come twice or late, and none of a peer's
//! nonsense makes a core panic or grow without limit.

mod common;

use bytes::Bytes;
use spaxos::consensus::batch::Batch;
use spaxos::consensus::config::{Config, ProtocolName, Restored};
use spaxos::consensus::message::{Body, Message, Range};
use spaxos::consensus::paxos::Paxos;
use spaxos::consensus::protocol::{Input, Proposal, Protocol, Role};
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::random::Random;
use spaxos::consensus::types::{Ballot, Command, Entry, Kind, NodeId, RequestId};

use common::cluster::{Cluster, Shape};

const ELECTION_MS: u64 = 100;

#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    Twice,
    /// It comes when nobody waits for it any more.
    Late,
}

/// Known bugs 15 and 24: whichever single message of a cluster's life is lost, comes twice or comes late,
/// all nodes reach the same log and deliver each request once.
#[test]
fn any_one_message_may_be_lost_doubled_or_late() {
    for fate in [Fate::Lost, Fate::Twice, Fate::Late] {
        let mut which = 0;
        while live(fate, which) {
            which += 1;
        }
        assert!(which > 100, "a life of only {which} messages");
    }
}

/// A cluster's life: an election, proposals through all nodes, the leader's end and return, and a new leader that
/// hands over. Whether it had
/// more messages than `which`.
fn live(fate: Fate, which: usize) -> bool {
    let mut life = Life { cluster: cluster(3), fate, which, seen: 0, late: Vec::new() };
    life.pass(300);
    life.propose([10, 20, 30]);
    life.pass(60);
    life.propose([11, 21, 31]);
    let leader = life.leader();
    life.cluster.crash(leader);
    life.pass(400);
    life.cluster.restart(leader);
    life.pass(100);
    life.propose([12, 22, 32]);
    let leader = life.leader();
    let _ = life.cluster.transfer(leader, leader % 3 + 1);
    life.pass(500);
    let late = std::mem::take(&mut life.late);
    life.cluster.flight.extend(late);
    life.pass(100);
    let first = life.cluster.status(1).chosen;
    for id in life.cluster.ids() {
        let chosen = life.cluster.status(id).chosen;
        assert_eq!(chosen, first, "{fate:?} of message {which}: nodes {id} and 1 differ");
        for reqid in [10, 20, 30, 12, 22, 32] {
            let found = life.cluster.requests(id).lookup(RequestId::user(reqid));
            assert!(found.is_some(), "{fate:?} of message {which}: {reqid} is not delivered on node {id}");
        }
    }
    life.seen > which
}

struct Life {
    cluster: Cluster,
    fate: Fate,
    which: usize,
    seen: usize,
    late: Vec<Message>,
}

impl Life {
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            for id in self.cluster.ids() {
                if self.cluster.is_up(id) {
                    let _ = self.cluster.tick(id, 10);
                }
            }
            self.settle();
        }
    }

    fn settle(&mut self) {
        loop {
            for id in self.cluster.ids() {
                self.cluster.flush(id, usize::MAX);
            }
            if self.cluster.flight.is_empty() {
                return;
            }
            let message = self.cluster.flight.remove(0);
            let meant = message.from != message.to && self.seen == self.which;
            self.seen += usize::from(message.from != message.to);
            match self.fate {
                Fate::Lost if meant => continue,
                Fate::Late if meant => {
                    self.late.push(message);
                    continue;
                }
                Fate::Twice if meant => self.cluster.flight.push(message.clone()),
                _ => {}
            }
            let _ = self.cluster.arrive(vec![message]);
        }
    }

    fn propose(&mut self, reqids: [u64; 3]) {
        for (id, reqid) in (1..).zip(reqids) {
            if self.cluster.is_up(id) {
                let _ = self.cluster.propose(id, vec![Command::value(reqid, id, "v")], 10_000);
            }
        }
    }

    fn leader(&self) -> NodeId {
        let leads = |id: &NodeId| self.cluster.status(*id).role == Role::Leader;
        self.cluster.ids().find(leads).expect("a leader after 3 T")
    }
}

fn cluster(nodes: u64) -> Cluster {
    Cluster::new(Shape {
        protocol: ProtocolName::Paxos,
        nodes,
        election_ms: ELECTION_MS,
        heartbeat_ms: 20,
        window_entries: 64,
        window_bytes: 1 << 20,
        seed: 7,
    })
}

/// Known bug 11, quorum loss: when only one node reaches a majority, it comes to lead within some T,
/// whoever led before.
#[test]
fn the_only_node_that_reaches_a_majority_leads() {
    for hub in 1..=5 {
        let mut cluster = cluster(5);
        cluster.run(3 * ELECTION_MS);
        for a in cluster.ids().filter(|a| *a != hub) {
            for b in cluster.ids().filter(|b| *b != hub && *b != a) {
                cluster.cut.insert((a, b));
            }
        }
        cluster.run(20 * ELECTION_MS);
        assert_eq!(cluster.status(hub).role, Role::Leader, "{:?}", cluster.status(hub));
        let _ = cluster.propose(hub, vec![Command::value(1, hub, "v")], 10_000);
        cluster.run(ELECTION_MS);
        for id in cluster.ids() {
            assert!(cluster.requests(id).lookup(RequestId::user(1)).is_some(), "not delivered on {id}");
        }
    }
}

/// Nothing that a peer says makes a core panic, and what it keeps stays within its limits.
#[test]
fn a_peers_nonsense_is_survived() {
    let (mut elections, mut chosen) = (0, 0);
    for seed in 0..100 {
        let mut nonsense = Nonsense(Random::new(seed));
        let mut core = Paxos::new(config(seed), Restored::default());
        let mut now_ms = 0;
        let mut back: Vec<Message> = Vec::new();
        for _ in 0..400 {
            let mut batch = Batch::default();
            now_ms += nonsense.0.between(0, 40);
            core.step(Input::Tick { now_ms }, &mut batch);
            for message in back.drain(..) {
                core.step(Input::Message(message), &mut batch);
            }
            core.step(Input::Propose(vec![nonsense.proposal(now_ms)]), &mut batch);
            if nonsense.0.between(0, 20) == 0 {
                core.step(Input::Transfer { to: nonsense.0.between(0, 5) }, &mut batch);
            }
            let round = core.status().promised.round;
            for _ in 0..nonsense.0.between(0, 5) {
                core.step(Input::Message(nonsense.message(round)), &mut batch);
            }
            for message in batch.early.iter().chain(&batch.messages) {
                back.extend(nonsense.answer(message));
            }
            let status = core.status();
            assert!(status.last - status.chosen <= 70_000, "seed {seed}: {status:?}");
            assert!(batch.to_string().len() < 10 << 20, "seed {seed}: a batch without limit");
        }
        elections += core.status().elections;
        chosen += core.status().chosen;
    }
    assert!(elections > 100 && chosen > 100, "mostly refused: {elections} elections, {chosen} chosen");
}

fn config(seed: u64) -> Config {
    Config {
        node: 1,
        voters: Voters::new(vec![1, 2, 3]),
        election_ms: ELECTION_MS,
        heartbeat_ms: 20,
        window_entries: 8,
        window_bytes: 10_000,
        seed,
    }
}

/// Messages whose every field is small, extreme, or near what the core knows.
struct Nonsense(Random);

impl Nonsense {
    fn number(&mut self) -> u64 {
        // An index as far as the window reaches is costly: the next leader fills all before it.
        if self.0.between(0, 2000) == 0 {
            return 65_530 + self.0.between(0, 10);
        }
        match self.0.between(0, 8) {
            0 => u64::MAX,
            1 => u64::MAX - self.0.between(0, 3),
            2 => 1 << self.0.between(20, 64),
            3 => 1 << self.0.between(0, 8),
            _ => self.0.between(0, 20),
        }
    }

    fn ballot(&mut self, from: NodeId, round: u64) -> Ballot {
        let node = if self.0.between(0, 10) == 0 { self.number() } else { from };
        let round = match self.0.between(0, 10) {
            0 => self.number(),
            1 => round.saturating_add(1 << 40),
            _ => round.saturating_add(self.0.between(0, 2)),
        };
        Ballot { round, node }
    }

    fn command(&mut self) -> Command {
        Command {
            request: RequestId { session: 0, number: self.number() },
            from: self.0.between(1, 4),
            kind: Kind::from_code(self.0.between(0, 6) as u8),
            payload: Bytes::from(vec![b'x'; self.0.between(0, 3000) as usize]),
        }
    }

    fn proposal(&mut self, now_ms: u64) -> Proposal {
        let number = self.0.between(1, 50);
        let deadline_ms = now_ms + self.0.between(1, 500);
        Proposal { command: Command::value(number, 1, "v"), deadline_ms }
    }

    fn entries(&mut self, ballot: Ballot) -> Vec<Entry> {
        let count = self.0.between(0, 5);
        let entry = |_| {
            let ballot = if self.0.between(0, 3) > 0 { ballot } else { self.ballot(2, 1) };
            Entry { index: self.number(), ballot, command: self.command() }
        };
        (0..count).map(entry).collect()
    }

    /// What the node tells itself comes back; what it asks others is answered now and then, so that the
    /// nonsense meets a candidate and a leader, too.
    fn answer(&mut self, message: &Message) -> Option<Message> {
        let chosen = 0;
        let body = match &message.body {
            _ if message.to == 1 => return Some(message.clone()),
            _ if self.0.between(0, 3) > 0 => return None,
            Body::PreVote { ballot } => {
                Body::PreVoteReply { ballot: *ballot, granted: true, promised: Ballot::ZERO }
            }
            Body::Prepare { ballot, first } => {
                let (entries, last) = (vec![], *first);
                Body::Promise {
                    ballot: *ballot,
                    chosen,
                    compacted: 0,
                    first: *first,
                    last,
                    more: false,
                    entries,
                }
            }
            Body::Accept { ballot, entries, .. } => {
                let (first, last) = (entries.first()?.index, entries.last()?.index);
                Body::Accepted { ballot: *ballot, chosen, ranges: vec![Range { first, last }] }
            }
            _ => return None,
        };
        Some(Message { from: message.to, to: 1, body })
    }

    fn message(&mut self, round: u64) -> Message {
        let from = self.0.between(2, 5);
        let ballot = match self.0.between(0, 4) {
            0 => Ballot { round, node: 1 },
            _ => self.ballot(from, round),
        };
        let (first, last, chosen) = (self.number(), self.number(), self.number());
        let promised = self.ballot(3, round);
        let flag = self.0.between(0, 2) == 0;
        let body = match self.0.between(0, 13) {
            0 => Body::PreVote { ballot },
            1 => Body::PreVoteReply { ballot, granted: flag, promised },
            2 => Body::Prepare { ballot, first },
            3 => {
                let entries = self.entries(Ballot { round: 1, node: 2 });
                Body::Promise { ballot, chosen, compacted: first, first, last, more: flag, entries }
            }
            4 => Body::Accept { ballot, chosen, entries: self.entries(ballot) },
            5 => Body::Accepted { ballot, chosen, ranges: vec![Range { first, last }] },
            6 => Body::Heartbeat { ballot, chosen, sent_ms: first },
            7 => Body::HeartbeatReply { ballot, chosen, sent_ms: first },
            8 => Body::Refuse { ballot, promised },
            9 => Body::CatchUp { first },
            10 => Body::Learn { chosen, entries: self.entries(ballot) },
            11 => Body::TimeoutNow { ballot },
            _ => Body::Forward { commands: (0..self.0.between(0, 4)).map(|_| self.command()).collect() },
        };
        let to = if self.0.between(0, 20) == 0 { 2 } else { 1 };
        Message { from, to, body }
    }
}
