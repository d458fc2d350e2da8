//! Every state that a small cluster can get into: three production cores, a network that loses, repeats and
//! reorders at will, a crash that keeps exactly what was durable. Searched breadth first until nothing is
//! left, so within its bounds a rule that holds here holds whatever happens.
//!
//! `cargo test` searches small spaces in seconds; the full ones take minutes:
//!
//! ```console
//! $ cargo test --release --test exhaustive -- --ignored --nocapture
//! ```
//!
//! # What can happen
//!
//! A node's turn is one input of a core, Paxos or Raft: a message, a proposal, time. Early messages leave
//! immediately, the batch is written, then its messages leave, those to the node itself through the same
//! network. A message that left may arrive at any time, again, or never. A crash takes the core, what was not
//! yet written and what the node said to itself; it starts again from what is durable. Checked in every state
//! (`rules.rs`, `node.rs`): one command an index, counted from all that was ever durable; what each core
//! takes for chosen is that; only what was proposed is chosen, or a no-op; what is durable never regresses;
//! one ballot proposes one command an index; no assertion of a core fails; no core takes another's message
//! for nonsense.
//!
//! # What is left out, and why that is sound, or what it costs
//!
//! * **Loss and repetition are not actions.** What was sent stays in the network: that it never arrives is
//!   one of the paths that the search takes, as is that it arrives again.
//! * **Writes** (`Writes::AtOnceOrNever`). Whether a write is durable matters only to messages behind it and
//!   at a crash. A write that happens may as well happen immediately, since its messages may arrive late; one
//!   that does not is lost with all after it. So a step's write is durable immediately, or the node is
//!   doomed: it goes on without writing until it crashes. A doomed node that does not lead says nothing that
//!   could matter, except for pages of chosen entries: only a leader is doomed, others just crash. One of the
//!   spaces has each write as an action of its own (`Writes::Separate`), to see that this hides nothing.
//! * **Clocks.** A clock moves only when a node campaigns, straight to that timeout. Heartbeats and
//!   repetitions (`Bounds::repeats`) are sent by a copy of the core that sees the time pass and is thrown
//!   away, since nothing but its waits would differ. That a leader hears no majority and steps down happens
//!   only on its way to a new campaign; proposals never run out of time.
//! * **Pre-vote** promises nothing and only holds candidates back. Here a candidate is always granted it,
//!   immediately, by a peer which has seen any round (`Bounds::jumps`): more than real peers would. What a
//!   core does *between* pre-vote and Prepare is left out.
//! * **Refuse and HeartbeatReply** are always lost: they only make a node give up what it leads, earlier than
//!   a higher ballot does. **Accepted** carries no watermark: the leader only shows it to people.
//! * **Forward** arrives at most once: each further arrival would be one more proposal, and the log would
//!   grow forever.
//! * **Dead messages.** A message that can mean nothing any more to its receiver (below its durable promise;
//!   an answer to what it asks no more, when it may campaign no more) is dropped, after it was tried one last
//!   time. A core that would take it seriously much later escapes, unless `campaigns_each` leaves it another
//!   campaign.
//! * **Which nodes campaign.** Nodes 1 and 2, where there are two campaigns: only the order of their ballots
//!   matters, and both orders occur.
//! * **Numbers that decide nothing**: the generator, counters, when peers were heard; `Paxos::normalize`
//!   fixes them. That two nodes time out at the same time is one of the paths that the search takes.
//! * The failed write with a rebuild, compaction, pages of more than 512 KiB, limits: `tests/core_random.rs`
//!   and the simulator have those.
//!
//! # Raft
//!
//! The nodes and the network are the same; the rules are counted differently. An entry is chosen when a
//! majority wrote it while in its own round, and with it all before it. Besides the rules above: a round has
//! one leader (Election Safety), entries of the same index and ballot have the same entries before them (Log
//! Matching), a leader has all that was chosen in earlier rounds (Leader Completeness), a node votes once a
//! round; and for both protocols, what a message promises is durable when it leaves.
//!
//! * `Raft::normalize` also drops what is under way to followers: limits of it are tested elsewhere.
//! * **Refuse and HeartbeatReply** arrive in one of the spaces (`Bounds::answers`); otherwise they are lost.
//! * **Pages** of the store (`Bounds::tail`): in one of the spaces no leader holds chosen entries in memory.
//! * That an old entry comes to a majority and is not chosen (figure 8 of the Raft paper) is reached; but
//!   entries this small travel together, so that a core which counted old entries would be found only where
//!   each fills a page (`Bounds::value_bytes`), and no such space has been searched to its end yet.
//! * Transfers and reads: golden scripts, `tests/core_random.rs`, the simulator.
//!
//! # Why not the crate stateright
//!
//! It would serve (0.31.0, MIT, one author). It keeps a 64-bit hash of each seen state, and whole states of
//! those to come; its shortest counterexamples need one thread; it brings 12 direct packages, an HTTP server
//! among them. Here a state is 16 bytes (numbers of nodes' views, `space.rs`), what a core does is worked out
//! once a view and not once a state, states are compared whole, and figures are the same at every run.

mod common;

#[path = "exhaustive/bounds.rs"]
mod bounds;
#[path = "exhaustive/disk.rs"]
mod disk;
#[path = "exhaustive/node.rs"]
mod node;
#[path = "exhaustive/rules.rs"]
mod rules;
#[path = "exhaustive/search.rs"]
mod search;
#[path = "exhaustive/space.rs"]
mod space;
#[path = "exhaustive/traffic.rs"]
mod traffic;

use bounds::{Bounds, Clients, Writes};
use search::{Reached, search};
use spaxos::consensus::protocols::ProtocolName;

/// Two nodes campaign once each, neither having heard of the other; both have a proposal; one node crashes.
const SMALL: Bounds = Bounds {
    protocol: ProtocolName::Paxos,
    campaigns: 2,
    campaigns_each: 1,
    campaigners: 2,
    rounds: 1,
    jumps: false,
    proposals: 2,
    clients: Clients::First,
    crashes: 1,
    writes: Writes::AtOnceOrNever,
    repeats: false,
    answers: false,
    tail: true,
    value_bytes: 1,
};

/// The same, with a second round: a node campaigns knowing of the other's ballot, or not.
const FULL: Bounds = Bounds { rounds: 2, ..SMALL };

/// All rules, in all states of small spaces.
#[test]
fn small_spaces() {
    let at_leaders = Bounds { clients: Clients::AtLeaders, proposals: 1, crashes: 0, ..SMALL };
    let separate = Bounds { writes: Writes::Separate, proposals: 0, ..SMALL };
    search_all(&[SMALL, at_leaders, separate]);
}

/// All rules, in all states of spaces as large as a coffee break allows.
#[test]
#[ignore = "minutes, in release"]
fn full_spaces() {
    let at_leaders = Bounds { clients: Clients::AtLeaders, proposals: 1, ..FULL };
    let three = Bounds { campaigns: 3, campaigners: 3, rounds: 3, jumps: true, proposals: 0, ..FULL };
    let again = Bounds { campaigns_each: 2, jumps: true, proposals: 0, ..FULL };
    let anywhere = Bounds { clients: Clients::Anywhere, proposals: 1, crashes: 0, ..FULL };
    let repeats = Bounds { repeats: true, proposals: 1, ..SMALL };
    let separate = Bounds { writes: Writes::Separate, proposals: 1, ..SMALL };
    search_all(&[FULL, at_leaders, three, again, anywhere, repeats, separate]);
}

/// Raft: a node campaigns knowing of the other's round, or not; no client proposes, so that logs are the
/// no-ops of elections; one node crashes.
const RAFT: Bounds = Bounds { protocol: ProtocolName::Raft, rounds: 2, proposals: 0, ..SMALL };

/// All rules, in all states of small spaces of Raft.
#[test]
fn small_raft_spaces() {
    let one_leader = Bounds {
        campaigns: 1,
        campaigners: 1,
        proposals: 1,
        clients: Clients::AtLeaders,
        tail: false,
        ..RAFT
    };
    let rarer = ["both values are", "an old entry on a majority is not chosen"];
    search_all_but(&[RAFT, one_leader], &rarer);
}

/// All rules, in all states of spaces of Raft that take a minute or two. Figure 8 of the Raft paper is among
/// them.
#[test]
#[ignore = "minutes, in release"]
fn full_raft_spaces() {
    let value = Bounds { proposals: 1, ..RAFT };
    let pages = Bounds { tail: false, ..value };
    let two_values = Bounds { rounds: 1, proposals: 2, crashes: 0, ..RAFT };
    let at_leaders = Bounds { clients: Clients::AtLeaders, crashes: 0, ..value };
    let separate = Bounds { writes: Writes::Separate, ..RAFT };
    let answers = Bounds { answers: true, ..RAFT };
    let repeats = Bounds { repeats: true, ..RAFT };
    let three = Bounds { campaigns: 3, campaigners: 3, rounds: 3, jumps: true, ..RAFT };
    let again = Bounds { campaigns: 3, campaigns_each: 2, rounds: 3, jumps: true, ..RAFT };
    search_all(&[value, pages, two_values, at_leaders, separate, answers, repeats, three, again]);
}

/// Searches each to its end; together they reach all that is worth reaching.
fn search_all(spaces: &[Bounds]) {
    search_all_but(spaces, &[]);
}

/// Does the same with spaces that are too small for some of it.
fn search_all_but(spaces: &[Bounds], absent: &[&str]) {
    let mut reached = Reached::default();
    for bounds in spaces {
        let report = search(*bounds);
        println!("{report}");
        assert!(report.broken.is_none(), "a rule is broken: {report}");
        reached = reached.or(report.reached);
    }
    let missing = reached.missing(spaces[0].protocol);
    assert_eq!(missing, absent, "what the spaces do not show, and what they need not");
}
