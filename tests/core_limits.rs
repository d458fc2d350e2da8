//! The exact limits of one core, which is told everything by hand: what it takes for nonsense, how much it
//! keeps, when it asks again. Schedules and scripts pass such a limit by, here each side of it is looked at.

use spaxos::consensus::batch::{Batch, Event};
use spaxos::consensus::message::{Body, Message, Range};
use spaxos::consensus::paxos::{Config, Paxos, Restored};
use spaxos::consensus::protocol::{Input, PeerStatus, Proposal, Protocol, Role};
use spaxos::consensus::quorum::Voters;
use spaxos::consensus::types::{
    Ballot, Command, Entry, Index, Kind, MAX_PAYLOAD_BYTES, MAX_WINDOW_ENTRIES, NodeId, RequestId,
};

const T: u64 = 100;

/// The first round that nodes with nothing on their disks use.
const FIRST: Ballot = Ballot { round: 1, node: 1 };

/// Node 1 of a cluster.
#[derive(Clone)]
struct Node {
    core: Paxos,
    now_ms: u64,
    /// Whether the others answer heartbeats at once.
    followed: bool,
}

impl Node {
    fn new(config: Config, restored: Restored) -> Node {
        Node { core: Paxos::new(config, restored), now_ms: 0, followed: false }
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

    /// Lets time pass in steps of a millisecond: when, from now on, which such messages left, and for whom.
    fn when(&mut self, ms: u64, kind: &str) -> Vec<(u64, NodeId)> {
        let mut when = Vec::new();
        for passed_ms in 1..=ms {
            let batch = self.ticks(1);
            for message in batch.early.iter().chain(&batch.messages) {
                if message.body.to_string().split(' ').next() == Some(kind) {
                    when.push((passed_ms, message.to));
                }
                if let (Body::Heartbeat { ballot, sent_ms, .. }, true) = (&message.body, self.followed) {
                    let (ballot, sent_ms) = (*ballot, *sent_ms);
                    let _ = self.told(message.to, Body::HeartbeatReply { ballot, chosen: 0, sent_ms });
                }
            }
        }
        when
    }

    /// How long it takes until it asks whether others would follow, if nothing happens.
    fn patience_ms(&self) -> u64 {
        let mut node = self.clone();
        let asks = |event: &Event| matches!(event, Event::Campaigning { .. });
        (1..).find(|_| node.ticks(1).events.iter().any(asks)).expect("it asks")
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

/// What an acceptor keeps above its watermark: a window of indexes, four windows of bytes, and in any case the
/// entry that the watermark waits for. Beyond is dropped, counted, and not answered.
#[test]
fn an_acceptor_keeps_what_its_limits_allow() {
    let (low, high) = (ballot(1, 2), ballot(2, 2));
    let large = |index, ballot, cost_bytes: usize| {
        let payload = vec![b'x'; cost_bytes - 64];
        Entry { index, ballot, command: Command::value(index, 2, payload) }
    };
    // What is held, what comes, whether it is kept.
    let cases = [
        (None, large(1, low, 4001), true),
        (None, large(2, low, 4000), true),
        (None, large(2, low, 4001), false),
        (Some(large(2, low, 3000)), large(3, low, 1000), true),
        (Some(large(2, low, 3000)), large(3, low, 1001), false),
        (Some(large(2, low, 3000)), large(2, high, 4000), true),
        (Some(large(2, low, 3000)), large(2, high, 4001), false),
        (Some(large(2, low, 3000)), large(1, low, 4001), true),
        (None, large(MAX_WINDOW_ENTRIES, low, 64), true),
        (None, large(MAX_WINDOW_ENTRIES + 1, low, 64), false),
    ];
    for (held, entry, kept) in cases {
        let words = format!("{held:?} then {entry}");
        let mut node = Node::follower();
        if let Some(held) = held {
            let _ = node.told(2, accept(held.ballot, 0, vec![held]));
        }
        for times in 1..=3 {
            let batch = node.told(2, accept(entry.ballot, 0, vec![entry.clone()]));
            assert_eq!(batch.messages.len(), usize::from(kept), "{words}");
            assert_eq!(batch.entries.len(), usize::from(kept && times == 1), "{words}");
            assert_eq!(node.core.status().dropped, if kept { 0 } else { times }, "{words}");
        }
    }
}

/// An acceptance is answered if the entry is held under its ballot or known to be chosen, else not.
#[test]
fn only_what_is_held_is_answered() {
    let leader = ballot(1, 2);
    let other = Entry { command: Command::value(9, 2, "other"), ..entry(1, leader) };
    let mut node = Node::follower();
    let answers = |node: &mut Node, entries: Vec<Entry>| {
        let batch = node.told(2, accept(leader, 0, entries));
        batch.messages.iter().map(|message| message.body.to_string()).collect::<Vec<_>>()
    };
    let once = |words: &str| vec![words.to_string()];
    let none: Vec<String> = vec![];
    assert_eq!(answers(&mut node, vec![entry(0, leader)]), none, "before the first index");
    assert_eq!(answers(&mut node, vec![entry(1, ballot(1, 3))]), none, "another's ballot");
    let three = vec![entry(1, leader), entry(2, leader), entry(4, leader)];
    assert_eq!(answers(&mut node, three), once("Accepted 1.2 chosen=0 [1..2, 4]"));
    assert_eq!(answers(&mut node, vec![other.clone(), entry(2, leader)]), once("Accepted 1.2 chosen=0 [2]"));
    assert_eq!(node.core.status().ignored, 1, "one ballot proposes one command");
    let _ = node.told(2, Body::Heartbeat { ballot: leader, chosen: 1, sent_ms: 0 });
    assert_eq!(answers(&mut node, vec![entry(1, leader)]), once("Accepted 1.2 chosen=1 [1]"));
    assert_eq!(answers(&mut node, vec![entry(0, leader)]), none, "before the first index");
}

/// What a person and the node that embeds the core see of it.
#[test]
fn the_status_counts() {
    let mut node = Node::leader();
    let room = node.core.room();
    let _ = node.ticks(5);
    let _ = node.proposes(vec![Command::value(1, 1, "a"), Command::value(2, 1, "b")]);
    let now_ms = node.now_ms;
    let _ = node.ticks(5);
    for from in [1, 2] {
        let ranges = vec![Range { first: 1, last: 2 }];
        let _ = node.told(from, Body::Accepted { ballot: FIRST, chosen: 0, ranges });
    }
    let status = node.core.status();
    assert_eq!((status.node, status.leader, status.elections), (1, Some(1), 1));
    assert_eq!((status.compacted, status.chosen, status.last), (0, 2, 3));
    assert_eq!((status.in_flight, status.pending), (1, 1));
    assert_eq!(node.core.room(), room - 1);
    let peer = |node, heard_ms| PeerStatus { node, chosen: 0, heard_ms };
    assert_eq!(status.peers, [peer(2, now_ms + 5), peer(3, 0)]);
    let _ = node.told(3, Body::HeartbeatReply { ballot: FIRST, chosen: 2, sent_ms: now_ms });
    let _ = node.told(3, Body::HeartbeatReply { ballot: FIRST, chosen: 1, sent_ms: now_ms });
    assert_eq!(node.core.status().peers[1], PeerStatus { node: 3, chosen: 2, heard_ms: now_ms + 5 });

    let mut node = Node::follower();
    let _ = node.told(2, accept(ballot(1, 2), 0, vec![entry(1, ballot(1, 2))]));
    let _ =
        node.told(3, Body::Forward { commands: vec![Command::value(1, 3, "a"), Command::value(2, 3, "b")] });
    let status = node.core.status();
    assert_eq!((status.in_flight, status.last, status.dropped, status.leader), (0, 1, 2, Some(2)));
}

/// A wait for a leader is between T and 2T, each equally likely, and drawn anew each time.
#[test]
fn the_wait_for_a_leader_is_between_t_and_2_t() {
    let (mut first, mut again, mut heard) = ([0; 5], [0; 5], [0; 5]);
    for seed in 0..100 {
        let config = Config { election_ms: 2, heartbeat_ms: 1, seed, ..config() };
        let mut node = Node::new(config, Restored::default());
        first[node.patience_ms() as usize] += 1;
        let mut asking = node.clone().until_it_asks();
        again[asking.patience_ms() as usize] += 1;
        let _ = asking.ticks(1);
        let _ = node.ticks(1);
        for node in [&mut node, &mut asking] {
            let _ = node.told(2, Body::Heartbeat { ballot: ballot(1, 2), chosen: 0, sent_ms: 0 });
            heard[node.patience_ms() as usize] += 1;
        }
    }
    for [none, one, two, three, four] in [first, again, heard] {
        assert_eq!([none, one, four], [0, 0, 0]);
        assert!(two > 30 && three > 30, "{two} waits of T, {three} of 2T - 1");
    }
}

/// A new promise starts the wait for its leader; the same promise once more does not.
#[test]
fn a_promise_restarts_the_wait_once() {
    let mut node = Node::follower();
    let prepare = Body::Prepare { ballot: ballot(1, 2), first: 1 };
    let _ = node.ticks(node.patience_ms().min(50));
    let _ = node.told(2, prepare.clone());
    let patience_ms = node.patience_ms();
    assert!(patience_ms >= T, "{patience_ms}");
    let _ = node.when(30, "");
    let _ = node.told(2, prepare);
    assert_eq!(node.patience_ms(), patience_ms - 30);
}

/// A gap of more than T/2 between ticks is a pause of this node: the silence meanwhile says nothing of others.
#[test]
fn a_pause_is_longer_than_half_of_t() {
    let mut node = Node::follower();
    let _ = node.when(node.patience_ms() - 1, "");
    assert!(!node.clone().ticks(T / 2).is_empty(), "no pause: it asks");
    assert!(node.clone().ticks(T / 2 + 1).is_empty(), "a pause: it waits");
    let mut node = Node::leader();
    let _ = node.when(T - 1, "");
    let role_after = |ms| {
        let mut node = node.clone();
        let _ = node.ticks(ms);
        node.core.status().role
    };
    assert_eq!((role_after(T / 2), role_after(T / 2 + 1)), (Role::Follower, Role::Leader));
}

/// A candidate asks those who have not answered, once a heartbeat interval.
#[test]
fn a_candidate_asks_again_who_has_not_answered() {
    let config = Config { voters: Voters::new(vec![1, 2, 3, 4, 5]), ..config() };
    let mut node = Node::new(config, Restored::default()).until_it_asks();
    let granted = Body::PreVoteReply { ballot: FIRST, granted: true, promised: Ballot::ZERO };
    let _ = node.told(2, granted.clone());
    assert_eq!(node.when(20, "PreVote"), [(10, 3), (10, 4), (10, 5), (20, 3), (20, 4), (20, 5)]);
    let _ = node.ticks(5);
    let _ = node.told(4, granted);
    let _ = node.told(3, promise(FIRST, 0, (1, 1), vec![]));
    let _ = node.told(5, promise(FIRST, 0, (1, 1), vec![]));
    assert_eq!(node.when(25, "Prepare"), [(10, 2), (10, 4), (20, 2), (20, 4)]);
    assert_eq!(node.core.status().role, Role::Candidate, "its own promise is not durable yet");
}

/// A leader is heard once a heartbeat interval. What makes no progress it sends again, to those who have not
/// accepted it, after two intervals, then with a back-off up to T.
#[test]
fn a_leader_repeats_what_makes_no_progress() {
    let mut node = Node { followed: true, ..Node::leader() };
    assert_eq!(node.clone().when(25, "Heartbeat"), [(10, 2), (10, 3), (20, 2), (20, 3)]);
    let accepted = |first, last| {
        let ranges = vec![Range { first, last }];
        Body::Accepted { ballot: FIRST, chosen: 0, ranges }
    };
    let _ = node.told(2, accepted(1, 1));
    let back_off = [(20, 3), (60, 3), (140, 3), (240, 3), (340, 3)];
    assert_eq!(node.clone().when(400, "Accept"), back_off);
    // Progress begins the back-off anew; new entries do not put it off.
    let _ = node.when(100, "");
    let _ = node.proposes(vec![Command::value(1, 1, "a"), Command::value(2, 1, "b")]);
    let _ = node.told(2, accepted(2, 3));
    let _ = node.told(1, accepted(1, 2));
    let _ = node.when(15, "");
    let _ = node.proposes(vec![Command::value(3, 1, "c")]);
    assert_eq!(node.clone().when(50, "Accept"), [(5, 2), (5, 3), (45, 2), (45, 3)]);
    // Nothing is open, nothing is sent; what comes then has its own two intervals.
    let _ = node.told(1, accepted(3, 4));
    let _ = node.told(3, accepted(4, 4));
    assert_eq!(node.core.status().in_flight, 0);
    assert_eq!(node.when(115, "Accept"), []);
    let _ = node.proposes(vec![Command::value(4, 1, "d")]);
    assert_eq!(node.when(30, "Accept"), [(20, 2), (20, 3)]);
}

/// A leader that no majority followed for T steps down. A reply proves what was when its heartbeat was sent.
#[test]
fn a_leader_leads_for_t_after_it_was_followed() {
    let lasts = |mut node: Node| {
        (1..).find(|_| !node.ticks(1).is_empty() && node.core.status().role != Role::Leader).expect("it ends")
    };
    let mut node = Node::leader();
    let since_ms = node.now_ms;
    assert_eq!(lasts(node.clone()), T);
    let _ = node.ticks(40);
    let reply = |sent_ms| Body::HeartbeatReply { ballot: FIRST, chosen: 0, sent_ms };
    let _ = node.told(3, reply(since_ms + 30));
    let _ = node.told(3, reply(since_ms + 10));
    assert_eq!(lasts(node.clone()), T - 10);
    let _ = node.told(2, Body::HeartbeatReply { ballot: ballot(0, 1), chosen: 0, sent_ms: since_ms + 40 });
    assert_eq!(lasts(node.clone()), T - 10, "a reply to another ballot");
    let _ = node.told(2, Body::Accepted { ballot: ballot(0, 1), chosen: 0, ranges: vec![] });
    assert_eq!(lasts(node.clone()), T - 10, "an acceptance of another ballot");
    let _ = node.told(2, Body::Accepted { ballot: FIRST, chosen: 0, ranges: vec![] });
    assert_eq!(lasts(node), T);
}

/// Who heard a leader follows nobody else for T.
#[test]
fn a_candidate_is_refused_for_t_after_a_leader_was_heard() {
    let asked = |node: &Node, ballot| {
        let batch = node.clone().told(3, Body::PreVote { ballot });
        let Some(Message { body: Body::PreVoteReply { granted, .. }, .. }) = batch.early.first() else {
            panic!("no answer: {batch}");
        };
        *granted
    };
    let mut node = Node::follower();
    assert!(asked(&node, ballot(2, 3)), "no leader was heard");
    let _ = node.ticks(50);
    let _ = node.told(2, Body::Heartbeat { ballot: ballot(1, 2), chosen: 0, sent_ms: 0 });
    let _ = node.when(T - 1, "");
    assert!(!asked(&node, ballot(2, 3)));
    let _ = node.ticks(1);
    assert_eq!(node.core.status().role, Role::Follower);
    assert!(asked(&node, ballot(2, 3)));
    let node = Node::leader();
    assert!(!asked(&node, ballot(2, 3)), "it leads itself");
}

/// A question for chosen entries goes to the next peer after two heartbeat intervals, then with a back-off up to
/// T, until all that is known to be chosen has come.
#[test]
fn a_learner_asks_one_peer_after_the_other() {
    let mut node = Node::follower();
    let leader = ballot(1, 2);
    let told = node.told(2, Body::Heartbeat { ballot: leader, chosen: 2, sent_ms: 0 });
    assert!(told.early.contains(&Message { from: 1, to: 2, body: Body::CatchUp { first: 1 } }), "{told}");
    let again = node.told(2, Body::Heartbeat { ballot: leader, chosen: 2, sent_ms: 0 });
    assert!(again.early.iter().all(|message| !matches!(message.body, Body::CatchUp { .. })), "{again}");
    assert_eq!(node.when(300, "CatchUp"), [(20, 3), (60, 2), (140, 3), (240, 2)]);
    let _ = node.told(3, Body::Learn { chosen: 1, entries: vec![entry(1, leader)] });
    assert_eq!(node.when(30, "CatchUp"), [(20, 3)], "3 had no more, 2 was asked");
    let _ = node.told(3, Body::Learn { chosen: 2, entries: vec![entry(2, leader)] });
    assert_eq!(node.core.status().chosen, 2);
    assert_eq!(node.when(300, "CatchUp"), []);
}

/// Own proposals go to the leader at once, again after two heartbeat intervals, then with a back-off up to T.
#[test]
fn a_proposal_is_forwarded_again() {
    let mut node = Node::follower();
    let _ = node.ticks(7);
    let heartbeat = |node| Body::Heartbeat { ballot: ballot(1, node), chosen: 0, sent_ms: 0 };
    let _ = node.told(2, heartbeat(2));
    let _ = node.ticks(33);
    let batch = node.proposes(vec![Command::value(1, 1, "a")]);
    assert_eq!(batch.to_string(), "early 1→2 Forward [1=\"a\"]\n");
    assert_eq!(node.clone().when(300, "Forward"), [(20, 2), (40, 2), (80, 2)]);
    let _ = node.when(5, "");
    let batch = node.proposes(vec![Command::value(2, 1, "b")]);
    assert_eq!(batch.to_string(), "early 1→2 Forward [2=\"b\"]\n");
    assert_eq!(node.clone().when(20, "Forward"), [(15, 2)]);
    let batch = node.told(3, heartbeat(3));
    assert!(batch.to_string().contains("early 1→3 Forward [1=\"a\", 2=\"b\"]\n"), "{batch}");
}
