//! The pure cores without any node: three of them in one thread, with a clock that is a number, a network
//! that is a list and disks that are structs. This is what you write (with your own threads, disk and
//! sockets) if you want the protocol and nothing else; etcd calls it `RawNode`.
//!
//! ```console
//! $ cargo run --example raw_core
//! ```
//!
//! [`spaxos::consensus`] has the contract in full, and `Host::carry_out` shows it in order: early messages
//! leave immediately; hard state and log become durable in one write; only then do the other messages leave,
//! those to the node itself included; what is chosen may be applied; ticks keep coming.

use std::collections::{BTreeMap, VecDeque};

use spaxos::consensus::batch::{Batch, Page};
use spaxos::consensus::config::{Config, Restored};
use spaxos::consensus::message::{ClusterBody, MAX_PAGE_BYTES, Message};
use spaxos::consensus::protocol::{Input, Proposal, Protocol};
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{Ballot, Entry, HardState, Kind};
use spaxos::{Command, Index, NodeId, ProtocolName};

const ELECTION_MS: u64 = 100;
const HEARTBEAT_MS: u64 = 20;
const TICK_MS: u64 = 5;

fn main() {
    for protocol in ProtocolName::ALL {
        println!("---- {protocol} ----");
        for (node, values) in run(protocol, 20) {
            println!("node {node} applied {} values, the last of them {:?}", values.len(), values.last());
        }
    }
}

/// Elects a leader, proposes values, kills the leader in the middle of it, brings it back, and returns what
/// each node applied.
pub fn run(protocol: ProtocolName, values: u64) -> BTreeMap<NodeId, Vec<String>> {
    let mut world = World::new(protocol, 3);
    while world.leader().is_none() {
        world.tick();
    }
    for number in 1..=values {
        if number == values / 2 {
            world.kill_and_restart_the_leader();
        }
        // Any node takes a proposal: one that does not lead forwards it to the leader, until it is chosen or
        // out of time.
        world.propose(1 + number % 3, Command::value(number, 1 + number % 3, format!("value {number}")));
        world.tick();
    }
    while !world.hosts.values().all(|host| host.values.len() as u64 == values) {
        world.tick();
    }
    world.hosts.into_iter().map(|(node, host)| (node, host.values)).collect()
}

/// Three hosts, the messages between them, and the time.
struct World {
    protocol: ProtocolName,
    hosts: BTreeMap<NodeId, Host>,
    network: VecDeque<Message>,
    now_ms: u64,
}

impl World {
    fn new(protocol: ProtocolName, nodes: u64) -> World {
        let hosts = (1..=nodes).map(|node| (node, Host::start(protocol, node, nodes, Disk::default())));
        World { protocol, hosts: hosts.collect(), network: VecDeque::new(), now_ms: 0 }
    }

    fn leader(&self) -> Option<NodeId> {
        self.hosts.values().find(|host| host.core.status().is_leader()).map(|host| host.node)
    }

    /// Time passes for everybody, then all messages arrive, and all answers to them as well.
    fn tick(&mut self) {
        self.now_ms += TICK_MS;
        for host in self.hosts.values_mut() {
            host.step(Input::Tick { now_ms: self.now_ms }, &mut self.network);
        }
        // A real network may lose, repeat, delay and reorder them: the cores repeat what matters.
        while let Some(message) = self.network.pop_front() {
            if let Some(host) = self.hosts.get_mut(&message.to) {
                host.step(Input::Message(message), &mut self.network);
            }
        }
    }

    fn propose(&mut self, node: NodeId, command: Command) {
        let Some(host) = self.hosts.get_mut(&node) else { return };
        // `room` returns how many proposals a core takes: the driver keeps the rest.
        assert!(host.core.room() > 0, "a core holds thousands");
        let proposal = Proposal { command, deadline_ms: u64::MAX };
        host.step(Input::Propose(vec![proposal]), &mut self.network);
    }

    /// All that is left of a process is its disk. The others elect a new leader before it comes back.
    fn kill_and_restart_the_leader(&mut self) {
        let dead = self.leader().expect("somebody leads");
        let nodes = self.hosts.len() as u64;
        let disk = self.hosts.remove(&dead).expect("the leader is one of them").disk;
        println!("node {dead} led, and is killed");
        while self.leader().is_none() {
            self.tick();
        }
        println!("node {} leads now; node {dead} comes back", self.leader().unwrap_or_default());
        self.hosts.insert(dead, Host::start(self.protocol, dead, nodes, disk));
    }
}

/// One node: what a process has around a core.
struct Host {
    node: NodeId,
    core: Box<dyn Protocol>,
    disk: Disk,
    /// Everything up to this index is applied.
    applied: Index,
    values: Vec<String>,
}

/// What survives the process: the last hard state, and the last entry that was written at each index.
#[derive(Default)]
struct Disk {
    hard_state: HardState,
    entries: BTreeMap<Index, Entry>,
}

impl Disk {
    /// One atomic durable write: after a crash all of it is there, or nothing. Yours ends with an fsync.
    fn write(&mut self, hard_state: Option<HardState>, truncate: Option<Index>, entries: &[Entry]) {
        self.hard_state = hard_state.unwrap_or(self.hard_state);
        if let Some(first) = truncate {
            self.entries.split_off(&first);
        }
        self.entries.extend(entries.iter().map(|entry| (entry.index, entry.clone())));
    }

    /// The highest round anywhere on it: a ballot is never used twice.
    fn highest_round(&self) -> u64 {
        let rounds = self.entries.values().map(|entry| entry.ballot.round);
        rounds.max().unwrap_or(0).max(self.hard_state.promised.round)
    }
}

impl Host {
    /// Starts a core from what is on the disk, after a crash in the same way as the first time.
    fn start(protocol: ProtocolName, node: NodeId, nodes: u64, disk: Disk) -> Host {
        let config = Config {
            node,
            voters: Voters::new((1..=nodes).collect()),
            election_ms: ELECTION_MS,
            heartbeat_ms: HEARTBEAT_MS,
            window_entries: 1024,
            window_bytes: 1 << 20,
            // Different on each node and at each start: nodes should not campaign at the same time.
            seed: node + 100 * disk.highest_round(),
        };
        let chosen = disk.hard_state.chosen;
        let restored = Restored {
            hard_state: disk.hard_state,
            chosen_ballot: disk.entries.get(&chosen).map_or(Ballot::ZERO, |entry| entry.ballot),
            highest_round: disk.highest_round(),
            compacted: 0,
            // What is chosen needs no consensus any more.
            entries: disk.entries.range(chosen + 1..).map(|(_, entry)| entry.clone()).collect(),
        };
        let core = protocol.core(config, restored);
        let mut host = Host { node, core, disk, applied: 0, values: Vec::new() };
        host.apply(chosen);
        host
    }

    /// One turn. It may take many inputs into one batch: then one write and one message to a peer serve them
    /// all.
    fn step(&mut self, input: Input, network: &mut VecDeque<Message>) {
        let mut batch = Batch::default();
        self.core.step(input, &mut batch);
        self.carry_out(batch, network);
    }

    /// The contract, in order.
    fn carry_out(&mut self, batch: Batch, network: &mut VecDeque<Message>) {
        // 1. Early messages promise nothing: they leave immediately, while the disk is still at work.
        network.extend(batch.early);
        // 2. What must be durable goes into one write; a Raft follower may have to drop the end of its log
        //    first.
        self.disk.write(batch.hard_state, batch.truncate, &batch.entries);
        // 3. Only now do the messages that promise leave, those to the node itself included: its own vote is
        //    a message as well.
        network.extend(batch.messages);
        // 4. Peers are sent the pages of the chosen log that they lack.
        network.extend(batch.pages.iter().filter_map(|page| self.read_page(page)));
        // 5. What is chosen may be applied, in order.
        if let Some(chosen) = batch.chosen {
            self.apply(chosen);
        }
        // (6. Reads: nobody asks for any here.) Events are for your log:
        for event in batch.events {
            println!("{:12} node {}: {event}", "", self.node);
        }
    }

    fn read_page(&self, page: &Page) -> Option<Message> {
        let mut bytes = 0;
        let chosen = self.disk.entries.range(page.first..=page.chosen).map(|(_, entry)| entry.clone());
        let entries: Vec<Entry> = chosen
            .take_while(|entry| {
                let is_first = bytes == 0;
                bytes += entry.command.cost_bytes();
                is_first || bytes <= MAX_PAGE_BYTES
            })
            .collect();
        let body = ClusterBody::Learn { chosen: page.chosen, entries };
        (bytes > 0).then_some(Message { from: self.node, to: page.to, body: body.into() })
    }

    /// A new leader may choose a request again at another index: what was applied before is left out.
    fn apply(&mut self, chosen: Index) {
        for index in self.applied + 1..=chosen {
            let command = &self.disk.entries[&index].command;
            let value = String::from_utf8_lossy(&command.payload).into_owned();
            if command.kind == Kind::Value && !self.values.contains(&value) {
                self.values.push(value);
            }
        }
        self.applied = self.applied.max(chosen);
    }
}
