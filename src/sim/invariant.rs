//! What must hold after every step, by name, in prose.
//!
//! A rule that is broken ends the run by a panic whose text begins with the rule's name ([`broken`]), like
//! the assertions of the production code that the simulator runs: a program that runs many seeds catches both
//! ([`Violation::of_panic`]).

use std::any::Any;
use std::fmt;

use crate::consensus::types::Command;

/// A rule that holds after every step of every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// See [`Invariant::prose`], as for all of them.
    Agreement,
    /// See there.
    Chosen,
    /// See there.
    Order,
    /// See there.
    Validity,
    /// See there.
    Durability,
    /// See there.
    Promise,
    /// See there.
    Ballot,
    /// See there.
    Majority,
    /// See there.
    Proposal,
    /// See there.
    ElectionSafety,
    /// See there.
    LogMatching,
    /// See there.
    LeaderCompleteness,
    /// See there.
    AppendOnly,
    /// See there.
    WriteFirst,
    /// See there.
    OnceOnly,
    /// See there.
    Watermarks,
    /// See there.
    Bounds,
    /// See there.
    Linearizable,
    /// See there.
    Refusal,
    /// See there.
    Honesty,
    /// See there.
    Liveness,
    /// See there.
    MakesWay,
    /// See there.
    EqualLogs,
    /// See there.
    EqualStates,
    /// See there.
    Fork,
    /// See there.
    Assertion,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Invariant; 26] = [
        Invariant::Agreement,
        Invariant::Chosen,
        Invariant::Order,
        Invariant::Validity,
        Invariant::Durability,
        Invariant::Promise,
        Invariant::Ballot,
        Invariant::Majority,
        Invariant::Proposal,
        Invariant::ElectionSafety,
        Invariant::LogMatching,
        Invariant::LeaderCompleteness,
        Invariant::AppendOnly,
        Invariant::WriteFirst,
        Invariant::OnceOnly,
        Invariant::Watermarks,
        Invariant::Bounds,
        Invariant::Linearizable,
        Invariant::Refusal,
        Invariant::Honesty,
        Invariant::Liveness,
        Invariant::MakesWay,
        Invariant::EqualLogs,
        Invariant::EqualStates,
        Invariant::Fork,
        Invariant::Assertion,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Invariant::Agreement => "agreement",
            Invariant::Chosen => "chosen is immutable",
            Invariant::Order => "delivery in order",
            Invariant::Validity => "validity",
            Invariant::Durability => "durability",
            Invariant::Promise => "a promise never regresses",
            Invariant::Ballot => "one ballot, one proposal",
            Invariant::Majority => "a majority promised",
            Invariant::Proposal => "what is chosen is proposed again",
            Invariant::ElectionSafety => "election safety",
            Invariant::LogMatching => "log matching",
            Invariant::LeaderCompleteness => "leader completeness",
            Invariant::AppendOnly => "leader append-only",
            Invariant::WriteFirst => "the write comes first",
            Invariant::OnceOnly => "delivered at most once",
            Invariant::Watermarks => "watermark chain",
            Invariant::Bounds => "bounded",
            Invariant::Linearizable => "linearizable",
            Invariant::Refusal => "a bad disk is refused",
            Invariant::Honesty => "no nonsense between honest nodes",
            Invariant::Liveness => "serves again",
            Invariant::MakesWay => "a leader in trouble makes way",
            Invariant::EqualLogs => "equal logs",
            Invariant::EqualStates => "equal states",
            Invariant::Fork => "a fork is told",
            Invariant::Assertion => "assertion",
        }
    }

    /// What it says.
    pub fn prose(self) -> &'static str {
        match self {
            Invariant::Agreement => "all nodes deliver the same command at an index, over all incarnations",
            Invariant::Chosen => {
                "what a majority durably holds under one ballot stays the only command at its index, a node takes \
                 nothing else for chosen, and (Raft) removes no copy that counted"
            }
            Invariant::Order => "a process delivers 1, 2, 3, … without gaps or repeats",
            Invariant::Validity => "what is chosen was proposed, or is a no-op",
            Invariant::Durability => {
                "what was durable is found at the next start, and what a client was told stays true forever"
            }
            Invariant::Promise => "the promise on a disk never goes back, nor does the watermark there",
            Invariant::Ballot => {
                "a ballot proposes one command at an index, and is prepared by one incarnation of one node"
            }
            Invariant::Majority => "a leader's ballot was promised by a majority, each node behind its write",
            Invariant::Proposal => {
                "once a value is chosen under a ballot, every higher ballot proposes that value at its index"
            }
            Invariant::ElectionSafety => "Raft: a node votes once in a round, and a round has one leader",
            Invariant::LogMatching => {
                "Raft: logs have no holes; two logs that have an entry of the same index and round are the same up to that \
                 entry; and a follower claims no more than that of its log"
            }
            Invariant::LeaderCompleteness => "Raft: a leader has all that was chosen in earlier rounds",
            Invariant::AppendOnly => "Raft: a leader changes or removes nothing in its log",
            Invariant::WriteFirst => {
                "a message that promises leaves only after the state behind it is durable, even one to the node itself"
            }
            Invariant::OnceOnly => "a request counts at one index only, and its clients are told that index",
            Invariant::Watermarks => "compacted <= applied <= chosen <= last on every node",
            Invariant::Bounds => "no queue and no buffer holds more than its limit",
            Invariant::Linearizable => {
                "a request that was first sent after another was answered comes after it in the log, and a reader \
                 is shown a prefix of the log"
            }
            Invariant::Refusal => {
                "a node does not start on a disk that lost or changed what was durable, and no peer talks to a \
                 node whose disk is not the one that the peer knows durably"
            }
            Invariant::Honesty => {
                "no honest node's message is refused by the decoder or taken for nonsense by a core"
            }
            Invariant::Liveness => "once faults end, every node that is left serves again within 10 T",
            Invariant::MakesWay => {
                "a leader that has been in trouble for T, while another node reported that it is not, does not lead on \
                 after one more T of its own ticks"
            }
            Invariant::EqualLogs => "at the end all nodes that are left have delivered the same",
            Invariant::EqualStates => {
                "after the same index the applications of all nodes are in the same state, over all incarnations"
            }
            Invariant::Fork => {
                "a node whose memory no longer has the log that it delivered is outvoted and ends within 5 s of the end of \
                 faults, and no other node ends or is said to differ"
            }
            Invariant::Assertion => "an assertion of the production code",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const PREFIX: &str = "broken invariant: ";

/// Ends the run: `text` shows both sides.
#[track_caller]
pub fn broken(invariant: Invariant, text: impl fmt::Display) -> ! {
    panic!("{PREFIX}{invariant}: {text}")
}

/// Ends the run unless the condition holds; the rest is as in `format!`.
macro_rules! hold {
    ($invariant:ident, $condition:expr, $($text:tt)+) => {
        if !$condition {
            $crate::sim::invariant::broken($crate::sim::invariant::Invariant::$invariant, format_args!($($text)+))
        }
    };
}
pub(super) use hold;

/// A command in such a text, or `nothing` if there is none.
pub(super) struct Shown<'a>(pub Option<&'a Command>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(command) => command.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// Both sides of it.
    pub text: String,
}

impl Violation {
    /// The violation that a panic of a run stands for, by its payload.
    pub fn of_panic(payload: &(dyn Any + Send)) -> Violation {
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "a panic without a text".to_owned());
        let named = text.strip_prefix(PREFIX).and_then(|rest| {
            let invariant = Invariant::ALL.into_iter().find(|it| rest.starts_with(it.name()))?;
            Some((invariant, rest.strip_prefix(invariant.name())?.trim_start_matches(": ").to_owned()))
        });
        let (invariant, text) = named.unwrap_or((Invariant::Assertion, text));
        Violation { invariant, text }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.text)
    }
}
