//! Random schedules over the pipeline: the production objects between the cores (the turns of state machine,
//! storage and applier, what they share, the store) as `node/` drives them, with each thread as a step that gets
//! as far as the seed says. `core_random` drives the cores alone, with more of what happens between nodes; here
//! it is what happens inside: a slow disk, a lagging applier, reads that a rebuild overtakes, a full disk,
//! power cuts within a write. Left out: what happens between two instructions of one such step, but for reads of
//! the log (the applier's turn is one step), queues that wake threads, and compaction.
//!
//! `SEEDS=20000 cargo test --release --test pipeline_random` tries more seeds; `FIRST=n` starts elsewhere;
//! `SEED=n` runs one seed and prints all it did.

mod common;

use std::collections::BTreeMap;
use std::env;

use bytes::Bytes;
use spaxos::consensus::random::Random;
use spaxos::consensus::types::NodeId;

use common::cluster::Shape;
use common::disk::Fault;
use common::pipeline::{Pipelines, Reached};

static LARGE: [u8; 60_000] = [b'x'; 60_000];

const ELECTION_MS: u64 = 200;

/// Messages in flight at most; more are lost, oldest first.
const FLIGHT: usize = 60;

/// The same is delivered at every index on all nodes and over all restarts, each request once; what is read up
/// to the watermark is what is chosen; clients are told the truth, which stands; nothing leaves before what is
/// behind it is durable; and, once faults end, all find together and answer.
#[test]
fn random_schedules_keep_every_rule() {
    if let Some(seed) = number("SEED") {
        return println!("{:?}", run(seed, true));
    }
    let first = number("FIRST").unwrap_or(0);
    let seeds = number("SEEDS").unwrap_or(150);
    let mut sum = [0; 12];
    for seed in first..first + seeds {
        for (sum, count) in sum.iter_mut().zip(counts(run(seed, false))) {
            *sum += count;
        }
    }
    println!("{NAMES:?}: {sum:?}");
    // A harness that reaches nothing finds nothing. Few seeds may well reach little.
    assert!(seeds < 150 || sum.iter().all(|count| *count > 0), "{NAMES:?} of {sum:?}");
}

const NAMES: &str = "delivered, repeats, elections, crashes, full, rebuilds, found, answers, other values, read, \
                     overtaken, pages";

fn counts(reached: Reached) -> [u64; 12] {
    let Reached { delivered, repeats, elections, crashes, full, rebuilds, found, .. } = reached;
    let Reached { answers, other_values, read, overtaken, pages, ignored, .. } = reached;
    assert_eq!(ignored, 0, "cores take each other's messages for nonsense");
    [
        delivered,
        repeats,
        elections,
        crashes,
        full,
        rebuilds,
        found,
        answers,
        other_values,
        read,
        overtaken,
        pages,
    ]
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Names the seed when a rule is broken.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with SEED={}", self.0);
        }
    }
}

fn run(seed: u64, trace: bool) -> Reached {
    let _named = Seed(seed);
    let mut schedule = Schedule::new(seed, trace);
    for _ in 0..schedule.steps {
        schedule.act();
    }
    schedule.heal();
    schedule.cluster.reached()
}

/// One seed's cluster and the likelihood of what happens in it.
struct Schedule {
    cluster: Pipelines,
    random: Random,
    steps: u64,
    /// In percent.
    loss: u64,
    twice: u64,
    disorder: u64,
    /// In percent of writes.
    write_fails: u64,
    /// A thread of a node that gets nothing done for a while.
    stalled: BTreeMap<NodeId, Thread>,
    tick_ms: u64,
    /// What each step weighs against the others.
    weights: [(Step, u64); 17],
    requests: u64,
    /// Of forty values, how many are large.
    large: u64,
}

#[derive(Clone, Copy)]
enum Step {
    Crash,
    Start,
    CrashAll,
    ChangeLinks,
    Pause,
    Stall,
    Tick,
    Propose,
    Forget,
    Bind,
    Read,
    Take,
    Store,
    Send,
    Apply,
    /// The ring of a node goes round.
    Work,
    Deliver,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Thread {
    StateMachine,
    Storage,
    Applier,
}

impl Schedule {
    fn new(seed: u64, trace: bool) -> Schedule {
        let mut random = Random::new(seed);
        let mut pick = |values: &[u64]| values[random.between(0, values.len() as u64) as usize];
        let shape = Shape {
            nodes: pick(&[3, 3, 3, 5]),
            election_ms: ELECTION_MS,
            heartbeat_ms: pick(&[10, 20]),
            window_entries: pick(&[1, 3, 8, 64]),
            window_bytes: pick(&[300, 10_000, 4_000_000]) as usize,
            seed,
        };
        let mut cluster = Pipelines::new(shape, pick(&[1, 200, 600, 3000, 1_000_000]) as usize);
        cluster.trace = trace;
        let (take, store, apply) = (pick(&[60, 200, 300]), pick(&[40, 100, 250]), pick(&[8, 80, 150]));
        let crash = pick(&[0, 2, 5]);
        let all_crash = pick(&[0, 0, 1]);
        let start = pick(&[5, 20]);
        let cut = pick(&[0, 1, 4]);
        let pause = pick(&[0, 1, 4]);
        let propose = pick(&[10, 30, 60]);
        let ticks = pick(&[60, 100, 150]);
        let stall = pick(&[0, 4, 10]);
        let work = pick(&[0, 100, 400]);
        let read = pick(&[10, 40]);
        Schedule {
            cluster,
            steps: pick(&[1500, 4000]),
            stalled: BTreeMap::new(),
            tick_ms: pick(&[20, 49]),
            loss: pick(&[0, 1, 5, 20]),
            twice: pick(&[0, 2, 10]),
            disorder: pick(&[0, 20, 100]),
            write_fails: pick(&[0, 5, 20, 50]),
            weights: [
                (Step::Crash, crash),
                (Step::Start, start),
                (Step::CrashAll, all_crash),
                (Step::ChangeLinks, cut),
                (Step::Pause, pause),
                (Step::Stall, stall),
                (Step::Tick, ticks),
                (Step::Propose, propose),
                (Step::Forget, 3),
                (Step::Bind, 3),
                (Step::Read, read),
                (Step::Take, take),
                (Step::Store, store),
                (Step::Send, 200),
                (Step::Apply, apply),
                (Step::Work, work),
                (Step::Deliver, 300),
            ],
            requests: pick(&[10, 100, 1000]),
            large: pick(&[0, 0, 2, 20]),
            random,
        }
    }

    fn act(&mut self) {
        let id = self.any_node();
        let total = self.weights.iter().map(|(_, weight)| *weight).sum();
        let mut dice = self.random.between(0, total);
        let hit = self.weights.iter().find(|(_, weight)| {
            let hit = dice < *weight;
            dice = dice.saturating_sub(*weight);
            hit
        });
        match hit.expect("the dice is below the sum").0 {
            Step::Crash => self.crash(),
            Step::Start => self.start(),
            Step::CrashAll => self.cluster.ids().for_each(|id| self.cluster.crash(id)),
            Step::ChangeLinks => self.change_links(),
            Step::Pause => self.tick(id, ELECTION_MS / 2, 3 * ELECTION_MS),
            Step::Stall => self.stall(),
            Step::Tick => self.tick(id, 1, self.tick_ms),
            Step::Propose => self.propose(id),
            Step::Forget => self.cluster.forget_oldest(),
            Step::Bind => self.bind(id),
            Step::Read => self.read(id),
            Step::Take => self.take(id),
            Step::Store => self.store(id),
            Step::Send => self.send(id),
            Step::Apply => self.apply(id),
            Step::Work => self.work(id),
            Step::Deliver => (0..self.random.between(1, 5)).for_each(|_| self.deliver()),
        }
    }

    /// A step of one of a node's threads.
    fn act_on(&mut self, id: NodeId) {
        match self.random.between(0, 6) {
            0 => self.tick(id, 1, self.tick_ms),
            1 | 2 => self.take(id),
            3 | 4 => self.store(id),
            _ => self.send(id),
        }
    }

    fn any_node(&mut self) -> NodeId {
        self.random.between(1, self.cluster.shape().nodes + 1)
    }

    /// Any node, but rather one that leads: what happens to it matters most.
    fn victim(&mut self) -> NodeId {
        let leader = self.cluster.ids().find(|id| self.cluster.leads(*id));
        match (leader, self.percent(50)) {
            (Some(leader), true) => leader,
            _ => self.any_node(),
        }
    }

    fn percent(&mut self, likelihood: u64) -> bool {
        self.random.between(0, 100) < likelihood
    }

    /// None to all of what waits.
    fn some(random: &mut Random, waiting: usize) -> usize {
        match random.between(0, 3) {
            0 => random.between(0, waiting as u64 + 1) as usize,
            _ => waiting,
        }
    }

    /// Mostly a minority is down.
    fn crash(&mut self) {
        let down = self.cluster.ids().filter(|id| !self.cluster.is_up(*id)).count() as u64;
        if 2 * down + 1 < self.cluster.shape().nodes || self.percent(10) {
            let id = self.victim();
            self.cluster.crash(id);
        }
    }

    fn start(&mut self) {
        let id = self.any_node();
        if !self.cluster.is_up(id) {
            self.cluster.start(id);
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
    }

    fn tick(&mut self, id: NodeId, low_ms: u64, high_ms: u64) {
        let ms = self.random.between(low_ms, high_ms);
        self.cluster.tick(id, ms);
    }

    /// Some of few requests, so that they repeat, now and then with another value; some clients only wait.
    fn propose(&mut self, id: NodeId) {
        for _ in 0..self.random.between(1, 6) {
            let reqid = self.random.between(1, self.requests + 1);
            let payload = match self.random.between(0, 40) {
                size if size < self.large => Some(Bytes::from_static(&LARGE)),
                37 => None,
                38 | 39 => Some(Bytes::from_static(b"other")),
                _ => Some(Bytes::from_static(&LARGE[..5 + (reqid % 3) as usize])),
            };
            let ttl_ms = self.random.between(50, 1000);
            let _ = self.cluster.propose(id, reqid, payload, ttl_ms);
        }
    }

    /// Anything may happen to the node while its log is read.
    fn read(&mut self, id: NodeId) {
        let known = self.cluster.known(id);
        let first = match self.percent(70) {
            true => known.saturating_sub(self.random.between(0, 4)).max(1),
            false => self.random.between(1, known + 2),
        };
        let is_clients = self.percent(30);
        let Some(reading) = self.cluster.reading(id, is_clients) else { return };
        let read = reading.recent.read_chosen(|chosen| {
            if self.percent(30) {
                self.rebuild(id);
            }
            for _ in 0..self.random.between(0, 20) {
                self.act_on(id);
            }
            reading.read(first, chosen)
        });
        self.cluster.check_read(id, &reading, read);
    }

    /// If there is anything to write, that fails, and the node goes on from what is durable.
    fn rebuild(&mut self, id: NodeId) {
        self.cluster.store(id, usize::MAX, Some(Fault::NoRoom));
        self.cluster.retry(id, true, true);
        self.take(id);
    }

    fn is_stalled(&self, id: NodeId, thread: Thread) -> bool {
        self.stalled.get(&id) == Some(&thread)
    }

    fn stall(&mut self) {
        let id = self.victim();
        match self.random.between(0, 8) {
            0 => drop(self.stalled.insert(id, Thread::StateMachine)),
            1 | 2 => drop(self.stalled.insert(id, Thread::Storage)),
            3 => drop(self.stalled.insert(id, Thread::Applier)),
            _ => self.stalled.clear(),
        }
    }

    fn apply(&mut self, id: NodeId) {
        if !self.is_stalled(id, Thread::Applier) {
            self.cluster.apply(id);
        }
    }

    fn work(&mut self, id: NodeId) {
        self.take(id);
        self.store(id);
        self.send(id);
        self.take(id);
    }

    fn take(&mut self, id: NodeId) {
        if self.is_stalled(id, Thread::StateMachine) {
            return;
        }
        let random = &mut self.random;
        self.cluster.gather(id, |waiting| Schedule::some(random, waiting));
        // Storage does not wait for the turn: it may fail meanwhile, and find room again.
        if self.percent(20) {
            (0..self.random.between(1, 4)).for_each(|_| self.store(id));
        }
        self.cluster.turn(id);
    }

    fn store(&mut self, id: NodeId) {
        if self.is_stalled(id, Thread::Storage) {
            return;
        }
        if self.cluster.is_full(id) {
            let (reopens, writes) = (self.percent(80), self.percent(80));
            return self.cluster.retry(id, reopens, writes);
        }
        let fails = self.write_fails;
        let fault = self.percent(fails).then(|| match self.random.between(0, 5) {
            0 | 1 => Fault::NoRoom,
            kept @ (2 | 3) => Fault::NoRoomAtFlush(kept == 2),
            _ => Fault::PowerCut(self.percent(50)),
        });
        let count = Schedule::some(&mut self.random, 12);
        self.cluster.store(id, count, fault);
    }

    fn send(&mut self, id: NodeId) {
        let count = Schedule::some(&mut self.random, 12);
        self.cluster.send(id, count);
    }

    fn bind(&mut self, id: NodeId) {
        let peer = self.any_node();
        if peer != id {
            self.cluster.bind(id, peer);
        }
    }

    /// The oldest message, or any, arrives, at times twice or never.
    fn deliver(&mut self) {
        let surplus = self.cluster.flight.len().saturating_sub(FLIGHT);
        self.cluster.flight.drain(..surplus);
        if self.cluster.flight.is_empty() {
            return;
        }
        let (disorder, loss, twice) = (self.disorder, self.loss, self.twice);
        let place = match self.percent(disorder) {
            true => self.random.between(0, self.cluster.flight.len() as u64) as usize,
            false => 0,
        };
        let message = self.cluster.flight.remove(place);
        if self.percent(loss) {
            return;
        }
        if self.percent(twice) {
            self.cluster.flight.push(message.clone());
        }
        self.cluster.arrive(message);
    }

    /// Faults end. All nodes must reach the same log, which holds all that was ever delivered, and choose,
    /// deliver and answer what each node's client proposes then, within some election timeouts.
    fn heal(&mut self) {
        self.cluster.cut.clear();
        for id in self.cluster.ids() {
            if !self.cluster.is_up(id) {
                self.cluster.start(id);
            }
        }
        self.wait_until("one log", 40, |cluster| {
            let last = cluster.last();
            let leaders = cluster.ids().filter(|id| cluster.leads(*id)).count();
            leaders == 1 && cluster.ids().all(|id| cluster.applied(id) == last && cluster.pending(id) == 0)
        });
        self.cluster.check_requests();
        let mut tickets = Vec::new();
        for id in self.cluster.ids() {
            let payload = Some(Bytes::from_static(b"after"));
            tickets.extend(self.cluster.propose(id, 10_000 + id, payload, 1000 * ELECTION_MS));
        }
        assert_eq!(tickets.len() as u64, self.cluster.shape().nodes, "a node refuses a proposal");
        self.wait_until("new proposals are answered", 6, |cluster| {
            let last = cluster.last();
            let answered = !tickets.iter().any(|ticket| cluster.is_waiting(*ticket));
            answered && cluster.ids().all(|id| cluster.applied(id) == last)
        });
        self.cluster.check_requests();
    }

    /// Lets time pass until `done`, at most `timeouts` times T.
    fn wait_until(&mut self, what: &str, timeouts: u64, done: impl Fn(&Pipelines) -> bool) {
        let step_ms = self.cluster.shape().heartbeat_ms / 2;
        for _ in 0..timeouts * ELECTION_MS / step_ms {
            self.cluster.ids().for_each(|id| self.cluster.tick(id, step_ms));
            self.settle();
            if done(&self.cluster) {
                return;
            }
        }
        panic!("not within {timeouts} T without faults: {what}:\n{}", self.cluster.status());
    }

    /// Every thread of every node does what there is to do, and messages arrive, until nothing is left.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 10_000, "work without end:\n{}", self.cluster.status());
            for id in self.cluster.ids() {
                self.cluster.retry(id, true, true);
                self.cluster.store(id, usize::MAX, None);
                self.cluster.send(id, usize::MAX);
                self.cluster.gather(id, |waiting| waiting);
                self.cluster.turn(id);
                self.cluster.apply(id);
            }
            for message in std::mem::take(&mut self.cluster.flight) {
                self.cluster.arrive(message);
            }
            if self.cluster.ids().all(|id| self.cluster.is_idle(id)) {
                return;
            }
        }
    }
}
