//! The exact limits of one core, which is told everything by hand: what it takes for nonsense, how much it
//! keeps, when it asks again. Schedules and scripts pass such a limit by, here each side of it is looked at.

use spaxos::consensus::batch::{Batch, Event};
use spaxos::consensus::message::{Body, Message, Range};
use spaxos::consensus::paxos::{Config, Paxos, Restored};
use spaxos::consensus::protocol::{Input, PeerStatus, Proposal, Protocol, Role};
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{
    Ballot, Command, Entry, HardState, Index, Kind, MAX_PAYLOAD_BYTES, MAX_WINDOW_ENTRIES, NodeId, RequestId,
};

const T: u64 = 100;

/// The first round that nodes with nothing on their disks use.
const FIRST: Ballot = Ballot { round: 1, node: 1 };

/// Node 1 of a cluster.
struct Node {
    core: Paxos,
    now_ms: u64,
}

impl Node {
    fn new(config: Config, restored: Restored) -> Node {
        Node { core: Paxos::new(config, restored), now_ms: 0 }
    }

    fn follower() -> Node {
        Node::new(config(), Restored::default())
    }

    /// It has asked whether the others would follow ballot 1.1.
    fn asking() -> Node {
        Node::follower().until_it_asks()
    }

    /// It has prepared ballot 1.1, and its own promise came back.
    fn candidate() -> Node {
        let mut node = Node::asking();
        let batch = node.told(2, Body::PreVoteReply { ballot: FIRST, granted: true, promised: Ballot::ZERO });
        let own = batch.messages.iter().find(|message| message.to == 1).expect("a promise to itself");
        let _ = node.told(1, own.body.clone());
        node
    }

    /// It leads with ballot 1.1; nothing is chosen, its no-op at 1 is not accepted.
    fn leader() -> Node {
        let mut node = Node::candidate();
        let _ = node.told(2, promise(FIRST, 0, (1, 1), vec![]));
        assert_eq!(node.core.status().role, Role::Leader);
        node
    }

    fn until_it_asks(mut self) -> Node {
        while self.core.status().role == Role::Follower {
            let _ = self.ticks(1);
        }
        self
    }

    fn told(&mut self, from: NodeId, body: Body) -> Batch {
        self.message(Message { from, to: 1, body })
    }

    fn message(&mut self, message: Message) -> Batch {
        let mut batch = Batch::default();
        self.core.step(Input::Message(message), &mut batch);
        batch
    }

    /// Time passes in one tick.
    fn ticks(&mut self, ms: u64) -> Batch {
        let mut batch = Batch::default();
        self.now_ms += ms;
        self.core.step(Input::Tick { now_ms: self.now_ms }, &mut batch);
        batch
    }

    fn proposes(&mut self, commands: Vec<Command>) -> Batch {
        let mut batch = Batch::default();
        let deadline_ms = self.now_ms + 100 * T;
        let proposals = commands.into_iter().map(|command| Proposal { command, deadline_ms }).collect();
        self.core.step(Input::Propose(proposals), &mut batch);
        batch
    }
}

fn config() -> Config {
    Config {
        node: 1,
        voters: Voters::new(vec![1, 2, 3]),
        election_ms: T,
        heartbeat_ms: 10,
        window_entries: 64,
        window_bytes: 1000,
        seed: 1,
    }
}

fn ballot(round: u64, node: NodeId) -> Ballot {
    Ballot { round, node }
}

fn entry(index: Index, ballot: Ballot) -> Entry {
    Entry { index, ballot, command: Command::value(index, ballot.node, "v") }
}

fn promise(ballot: Ballot, chosen: Index, page: (Index, Index), entries: Vec<Entry>) -> Body {
    Body::Promise { ballot, chosen, compacted: 0, first: page.0, last: page.1, more: false, entries }
}

fn accept(ballot: Ballot, chosen: Index, entries: Vec<Entry>) -> Body {
    Body::Accept { ballot, chosen, entries }
}

/// What no honest node says is ignored, counted once, and leaves no trace in what the core says or does.
#[test]
fn nonsense_is_counted_and_nothing_else() {
    let far = (1 << 40) + 1;
    let heartbeat = |ballot| Body::Heartbeat { ballot, chosen: 0, sent_ms: 0 };
    let follower = [
        (9, 1, Body::CatchUp { first: 1 }),
        (2, 3, Body::CatchUp { first: 1 }),
        (1, 1, Body::PreVote { ballot: FIRST }),
        (2, 1, Body::PreVote { ballot: ballot(1, 3) }),
        (2, 1, Body::PreVote { ballot: ballot(0, 2) }),
        (2, 1, Body::PreVote { ballot: ballot(far, 2) }),
        (2, 1, Body::PreVoteReply { ballot: FIRST, granted: true, promised: ballot(far, 2) }),
        (1, 1, Body::Prepare { ballot: FIRST, first: 1 }),
        (2, 1, Body::Prepare { ballot: ballot(1, 3), first: 1 }),
        (2, 1, Body::Prepare { ballot: ballot(1, 2), first: 0 }),
        (1, 1, accept(FIRST, 0, vec![entry(1, FIRST)])),
        (2, 1, accept(ballot(1, 3), 0, vec![entry(1, ballot(1, 3))])),
        (1, 1, heartbeat(FIRST)),
        (2, 1, heartbeat(ballot(far, 2))),
        (2, 1, Body::Refuse { ballot: FIRST, promised: ballot(far, 3) }),
        (2, 1, Body::Learn { chosen: 1, entries: vec![entry(1, ballot(far, 2))] }),
    ];
    for (from, to, body) in follower {
        ignores(Node::follower(), Message { from, to, body });
    }
    let more = |last| {
        let (ballot, entries) = (FIRST, vec![]);
        Body::Promise { ballot, chosen: 0, compacted: 0, first: 1, last, more: true, entries }
    };
    let candidate = [
        promise(FIRST, 0, (1, 0), vec![]),
        promise(FIRST, 0, (1, 1), vec![entry(2, ballot(0, 2))]),
        promise(FIRST, 0, (1, 1), vec![entry(1, FIRST)]),
        promise(FIRST, 0, (1, 1 << 20), vec![entry(MAX_WINDOW_ENTRIES + 1, ballot(0, 2))]),
        more(MAX_WINDOW_ENTRIES),
    ];
    for body in candidate {
        ignores(Node::candidate(), Message { from: 2, to: 1, body });
    }
    let forwarded = |command| Body::Forward { commands: vec![command] };
    let value = Command::value(1, 2, "v");
    let leader = [
        forwarded(Command { request: RequestId::NONE, ..value.clone() }),
        forwarded(Command { from: 3, ..value.clone() }),
        forwarded(Command { kind: Kind::Noop, ..value.clone() }),
        forwarded(Command { kind: Kind::Unknown(9), ..value.clone() }),
        forwarded(Command { payload: vec![0; MAX_PAYLOAD_BYTES + 1].into(), ..value }),
        Body::HeartbeatReply { ballot: FIRST, chosen: 0, sent_ms: 1000 },
    ];
    for body in leader {
        ignores(Node::leader(), Message { from: 2, to: 1, body });
    }
}

fn ignores(mut node: Node, message: Message) {
    for times in 1..=3 {
        let before = node.core.status();
        let batch = node.message(message.clone());
        assert!(batch.is_empty(), "{message}: {batch}");
        let after = node.core.status();
        assert_eq!(after.ignored, times, "{message}");
        assert_eq!((after.role, after.promised, after.last), (before.role, before.promised, before.last));
        assert_eq!(after.highest_round, before.highest_round, "{message}");
    }
}

/// What is just within the limits is no nonsense.
#[test]
fn the_limits_of_nonsense_are_exact() {
    let granted = |round| Body::PreVoteReply { ballot: FIRST, granted: true, promised: ballot(round, 2) };
    let highest = (1 << 62) - 5;
    let old = Restored { highest_round: highest, ..Restored::default() };
    let refuse = Body::Refuse { ballot: FIRST, promised: ballot(2, 3) };
    let large = Command { payload: vec![0; MAX_PAYLOAD_BYTES].into(), ..Command::value(1, 2, "v") };
    let page = |last, more| {
        let (ballot, entries) = (FIRST, vec![entry(MAX_WINDOW_ENTRIES, ballot(0, 2))]);
        Body::Promise { ballot, chosen: 0, compacted: 0, first: 1, last, more, entries }
    };
    let cases = [
        (Node::follower(), granted(1 << 40), 0),
        (Node::new(config(), old.clone()), granted(1 << 62), 0),
        (Node::new(config(), old), granted((1 << 62) + 1), 1),
        (Node::candidate(), refuse, 0),
        (Node::candidate(), page(1 << 20, false), 0),
        (Node::candidate(), promise(FIRST, 0, (1, 1), vec![]), 0),
        (Node::leader(), Body::Forward { commands: vec![large] }, 0),
        (Node::leader(), Body::HeartbeatReply { ballot: FIRST, chosen: 0, sent_ms: 0 }, 0),
    ];
    for (mut node, body, ignored) in cases {
        let words = body.to_string();
        let _ = node.told(2, body);
        assert_eq!(node.core.status().ignored, ignored, "{words}");
    }
}
