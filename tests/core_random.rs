//! Random schedules over cores of each protocol: loss, duplication, reordering, crashes that lose what was
//! not flushed, restarts, rebuilds, leaders that hand over, cut links, clocks that run apart and stand still,
//! proposals repeated through several nodes. `sim::checker` watches every step; when the faults end, the
//! cluster must come together again.
//!
//! `SEEDS=20000 cargo test --release --test core_random` tries more seeds; `FIRST=n` starts elsewhere;
//! `SEED=n cargo test --test core_random raft -- --nocapture` runs one seed and prints all it did.

#[macro_use]
mod common;

use bytes::Bytes;
use spaxos::consensus::message::Message;
use spaxos::consensus::protocol::Role;
use spaxos::consensus::protocols::ProtocolName;
use spaxos::consensus::random::Random;
use spaxos::consensus::types::{Command, NodeId, RequestId};

use common::cluster::{Cluster, Detail, Reached, Shape};
use common::seeds::{each_seed, only_seed};

each_protocol!(random_schedules_keep_every_rule);

/// Payloads of this size make a Promise or a Learn take several pages.
static LARGE: [u8; 200_000] = [b'x'; 200_000];

const ELECTION_MS: u64 = 100;

/// At most this many messages are in flight; more are lost, oldest first.
const FLIGHT: usize = 100;

/// Agreement, immutability of the chosen, promises that never regress, ballots used once, delivery in order
/// and at most once, validity; and, once faults end, progress (known bugs 1, 2, 4, 10, 14, 15, 16, 24). For
/// Raft also election safety and leader completeness.
fn random_schedules_keep_every_rule(protocol: ProtocolName) {
    let detail = only_seed().map_or(Detail::Nothing, |_| Detail::Full);
    let mut sum = Reached::default();
    let enough = each_seed(0..500, |seed| {
        let reached = run(protocol, seed, detail);
        sum.chosen += reached.chosen;
        sum.elections += reached.elections;
        sum.stepped_down += reached.stepped_down;
        sum.adopted += reached.adopted;
        sum.holes += reached.holes;
        sum.catch_ups += reached.catch_ups;
        sum.truncations += reached.truncations;
        sum.pages += reached.pages;
        sum.reads += reached.reads;
        sum.repeats += reached.repeats;
        sum.crashes += reached.crashes;
        sum.transfers += reached.transfers;
        sum.taken_over += reached.taken_over;
        sum.kept += reached.kept;
        sum.ignored += reached.ignored;
    });
    println!("{sum:?}");
    // A harness that never elects, or only elects, finds nothing.
    let Reached { chosen, elections, stepped_down, adopted, holes, catch_ups, repeats, crashes, .. } = sum;
    let Reached { transfers, taken_over, kept, ignored, truncations, pages, reads, .. } = sum;
    let own = match protocol {
        ProtocolName::Paxos => [holes, catch_ups],
        ProtocolName::Raft => [truncations, pages],
    };
    let all =
        [chosen, elections, stepped_down, adopted, repeats, crashes, transfers, taken_over, kept, reads];
    assert!(!enough || all.into_iter().chain(own).min() > Some(0), "the schedules reach too little: {sum:?}");
    assert_eq!(ignored, 0, "cores take each other's messages for nonsense");
}

fn run(protocol: ProtocolName, seed: u64, detail: Detail) -> Reached {
    let mut schedule = Schedule::new(protocol, seed, detail);
    for _ in 0..schedule.steps {
        schedule.act();
        schedule.print();
    }
    schedule.heal();
    schedule.cluster.reached()
}

/// One seed's cluster and the likelihood of what happens in it, in percent unless something else is said.
struct Schedule {
    cluster: Cluster,
    random: Random,
    steps: u64,
    loss: u64,
    twice: u64,
    disorder: u64,
    together: u64,
    ticks: u64,
    tick_ms: u64,
    /// In thousandths.
    propose: u64,
    /// In thousandths: crash, rebuild, cut, pause.
    faults: [u64; 4],
    /// In thousandths.
    transfer: u64,
    /// In thousandths.
    read: u64,
    requests: u64,
    /// How many of forty values are large.
    large: u64,
}

impl Schedule {
    fn new(protocol: ProtocolName, seed: u64, detail: Detail) -> Schedule {
        let mut random = Random::new(seed);
        let mut pick = |values: &[u64]| values[random.between(0, values.len() as u64) as usize];
        let shape = Shape {
            protocol,
            nodes: pick(&[1, 2, 3, 3, 3, 3, 3, 3, 4, 4, 5, 5, 5, 5, 5, 5, 5, 5]),
            election_ms: ELECTION_MS,
            heartbeat_ms: pick(&[10, 20]),
            window_entries: pick(&[1, 3, 8, 64]),
            window_bytes: pick(&[100, 300, 10_000, 4_000_000]) as usize,
            seed,
        };
        let mut cluster = Cluster::new(shape);
        cluster.detail = detail;
        let faults = [pick(&[0, 5, 20, 40]), pick(&[0, 0, 10]), pick(&[0, 5, 20]), pick(&[0, 5, 20])];
        Schedule {
            cluster,
            steps: pick(&[400, 1000, 2000]),
            loss: pick(&[0, 1, 5, 20, 50]),
            twice: pick(&[0, 2, 10]),
            disorder: pick(&[0, 20, 100]),
            together: pick(&[0, 20, 60]),
            ticks: pick(&[5, 10, 20, 40]),
            propose: pick(&[20, 60, 150]),
            tick_ms: pick(&[20, 49]),
            faults,
            requests: pick(&[10, 100]),
            large: pick(&[0, 1, 20]),
            transfer: pick(&[0, 0, 5, 20]),
            read: pick(&[0, 20, 60]),
            random,
        }
    }

    fn act(&mut self) {
        let [crash, rebuild, cut, pause] = self.faults;
        let limits =
            [crash, rebuild, cut, pause, 10 * self.ticks, self.propose, 150, 3, 2, self.transfer, self.read];
        let mut dice = self.random.between(0, 1000);
        let action = limits.iter().position(|limit| {
            let hit = dice < *limit;
            dice = dice.saturating_sub(*limit);
            hit
        });
        match action {
            Some(0) => self.crash_or_restart(),
            Some(1) => self.rebuild(),
            Some(2) => self.change_links(),
            Some(3) => self.tick(40, 400),
            Some(4) => self.tick(1, self.tick_ms),
            Some(5) => self.propose(),
            Some(6) => self.flush(),
            Some(7) => self.lose_all(),
            Some(8) => self.cluster.settle(),
            Some(9) => self.transfer(),
            Some(10) => self.read(),
            _ => self.deliver(),
        }
    }

    fn any_node(&mut self) -> NodeId {
        self.random.between(1, self.cluster.shape().nodes + 1)
    }

    /// Any node, but preferably one that leads: what happens to it matters most.
    fn victim(&mut self) -> NodeId {
        let up = self.cluster.ids().filter(|id| self.cluster.is_up(*id));
        let mut leaders = up.filter(|id| self.cluster.status(*id).role == Role::Leader);
        match (leaders.next(), self.percent(60)) {
            (Some(leader), true) => leader,
            _ => self.any_node(),
        }
    }

    fn percent(&mut self, likelihood: u64) -> bool {
        self.random.between(0, 100) < likelihood
    }

    /// Mostly a minority is down.
    fn crash_or_restart(&mut self) {
        let down: Vec<NodeId> = self.cluster.ids().filter(|id| !self.cluster.is_up(*id)).collect();
        let many = 2 * down.len() as u64 + 1 >= self.cluster.shape().nodes;
        let id = match down.first() {
            Some(first) if many && self.percent(90) => *first,
            _ => self.victim(),
        };
        if self.cluster.is_up(id) {
            self.cluster.say(Detail::Full, || format!("{id} crashes"));
            self.cluster.crash(id);
        } else {
            // The first node forgets; the others can still answer those that are behind. (A Raft leader would
            // need a snapshot.)
            let can_forget = self.cluster.shape().protocol == ProtocolName::Paxos;
            if id == 1 && can_forget && self.percent(30) {
                let compacted = self.random.between(0, 20);
                self.cluster.compact(id, compacted);
            }
            self.cluster.say(Detail::Full, || format!("{id} restarts"));
            self.cluster.restart(id);
        }
    }

    fn rebuild(&mut self) {
        let id = self.victim();
        if self.cluster.is_up(id) {
            self.cluster.say(Detail::Full, || format!("{id} is rebuilt"));
            self.cluster.rebuild(id);
        }
    }

    fn change_links(&mut self) {
        let (from, to) = (self.victim(), self.any_node());
        let ids: Vec<NodeId> = self.cluster.ids().filter(|id| *id != from).collect();
        match self.random.between(0, 4) {
            0 if from != to => drop(self.cluster.cut.insert((from, to))),
            1 => self.cluster.cut.extend(ids.iter().flat_map(|id| [(from, *id), (*id, from)])),
            _ => self.cluster.cut.clear(),
        }
        let cut = self.cluster.cut.clone();
        self.cluster.say(Detail::Full, || format!("cut links: {cut:?}"));
    }

    fn tick(&mut self, low_ms: u64, high_ms: u64) {
        let (id, ms) = (self.any_node(), self.random.between(low_ms, high_ms));
        if self.cluster.is_up(id) {
            let _ = self.cluster.tick(id, ms);
        }
    }

    /// Some of few requests, so that they repeat, through any node, now and then with a different value.
    fn propose(&mut self) {
        let id = self.any_node();
        if !self.cluster.is_up(id) {
            return;
        }
        let count = self.random.between(1, 6);
        let commands = (0..count).map(|_| self.command(id)).collect();
        let ttl_ms = self.random.between(50, 1000);
        let _ = self.cluster.propose(id, commands, ttl_ms);
    }

    fn command(&mut self, from: NodeId) -> Command {
        let reqid = self.random.between(1, self.requests + 1);
        let payload = match self.random.between(0, 40) {
            size if size < self.large => Bytes::from_static(&LARGE),
            39 => Bytes::from_static(b"other"),
            _ => Bytes::from_static(&LARGE[..5 + (reqid % 3) as usize]),
        };
        Command::value(reqid, from, payload)
    }

    /// A node, mostly one that leads, is asked to hand over to any other.
    fn transfer(&mut self) {
        let (id, to) = (self.victim(), self.any_node());
        if self.cluster.is_up(id) && id != to {
            let _ = self.cluster.transfer(id, to);
        }
    }

    fn read(&mut self) {
        let id = self.any_node();
        if self.cluster.is_up(id) {
            let _ = self.cluster.read(id);
        }
    }

    fn flush(&mut self) {
        let writing: Vec<NodeId> = self.cluster.ids().filter(|id| self.cluster.unflushed(*id) > 0).collect();
        if writing.is_empty() {
            return;
        }
        let id = writing[self.random.between(0, writing.len() as u64) as usize];
        let count = if self.percent(80) { usize::MAX } else { 1 };
        self.cluster.flush(id, count);
    }

    /// All that is in flight between nodes is lost.
    fn lose_all(&mut self) {
        self.cluster.flight.retain(|message| message.from == message.to);
    }

    /// The oldest message, or any, arrives, sometimes twice or never; sometimes several arrive in one turn.
    fn deliver(&mut self) {
        while self.cluster.flight.len() > FLIGHT {
            let lossy = self.cluster.flight.iter().position(|message| message.from != message.to);
            let Some(oldest) = lossy else { break };
            self.cluster.flight.remove(oldest);
        }
        if self.cluster.flight.is_empty() {
            return;
        }
        let disorder = self.disorder;
        let place = if self.percent(disorder) {
            self.random.between(0, self.cluster.flight.len() as u64) as usize
        } else {
            0
        };
        // What a node tells itself arrives once, in order.
        let message = self.cluster.flight[place].clone();
        let own = |message: &Message| (message.from, message.to);
        let place = if message.from == message.to {
            self.cluster.flight.iter().position(|other| own(other) == own(&message))
        } else {
            Some(place)
        };
        let message = self.cluster.flight.remove(place.expect("it is there"));
        if message.from != message.to {
            let (loss, twice) = (self.loss, self.twice);
            if self.percent(loss) {
                return;
            }
            if self.percent(twice) {
                self.cluster.flight.push(message.clone());
            }
        }
        let mut turn = vec![message];
        if self.percent(self.together) {
            let to = turn[0].to;
            let rest = std::mem::take(&mut self.cluster.flight);
            let (more, rest) = rest.into_iter().partition(|other| other.to == to);
            self.cluster.flight = rest;
            turn.extend::<Vec<_>>(more);
        }
        let _ = self.cluster.arrive(turn);
    }

    /// Faults end. All nodes must reach the same log, and choose and deliver what each node proposes then,
    /// within some election timeouts.
    fn heal(&mut self) {
        self.cluster.say(Detail::Full, || "heal".to_string());
        self.cluster.cut.clear();
        for id in self.cluster.ids() {
            if !self.cluster.is_up(id) {
                self.cluster.restart(id);
            }
        }
        self.wait_until("one log", 40, |cluster| {
            let first = cluster.status(1);
            let together =
                |id| cluster.status(id).chosen == first.chosen && cluster.applied(id) == first.chosen;
            let leaders = cluster.ids().filter(|id| cluster.status(*id).role == Role::Leader).count();
            let open = cluster.ids().any(|id| cluster.status(id).pending > 0);
            leaders == 1 && !open && cluster.ids().all(together)
        });
        let nodes = self.cluster.shape().nodes;
        for id in 1..=nodes {
            let command = Command::value(1000 + id, id, "after");
            let _ = self.cluster.propose(id, vec![command], 1000 * ELECTION_MS);
        }
        self.wait_until("new proposals are delivered", 6, |cluster| {
            let delivered =
                |id, other| cluster.requests(id).ledger.lookup(RequestId::user(1000 + other)).is_some();
            (1..=nodes).all(|id| (1..=nodes).all(|other| delivered(id, other)))
        });
    }

    /// Lets time pass until `done`, at most `timeouts` times T.
    fn wait_until(&mut self, what: &str, timeouts: u64, done: impl Fn(&Cluster) -> bool) {
        let step_ms = self.cluster.shape().heartbeat_ms;
        for _ in 0..timeouts * ELECTION_MS / step_ms {
            self.cluster.run(step_ms);
            self.print();
            if done(&self.cluster) {
                return;
            }
        }
        let all: Vec<_> = self.cluster.ids().map(|id| self.cluster.status(id)).collect();
        panic!("not within {timeouts} T without faults: {what}: {all:#?}");
    }

    fn print(&mut self) {
        print!("{}", std::mem::take(&mut self.cluster.out));
    }
}
