//! The refusal of a connection: a code for any other end, and words with both values for one that has
//! proved itself.
//!
//! A stranger learns from a code that it is refused and roughly why, and nothing that it could use:
//! names, members, hashes and ids are in the text, which leaves only under a proof
//! (`pipeline::handshake`).

use std::fmt;

use super::proof::Proof;

/// The longest text that is accepted, in bytes.
pub(super) const MAX_TEXT_BYTES: usize = 1024;

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the program.
    pub code: RefusalCode,
    /// For a person, with both values; empty when it was said to, or by, an end that nobody proved. It
    /// comes from another machine, so print it with [`Refusal`]'s `Display`, which escapes it.
    pub text: String,
    /// Proves that a member said so.
    pub proof: Option<Proof>,
}

/// What a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalCode {
    /// There is no wire version that both speak.
    Version,
    /// A different cluster.
    Cluster,
    /// A different consensus protocol.
    Protocol,
    /// Different founding members or constants.
    Founding,
    /// The node id of the node that refuses.
    OwnNode,
    /// A node id that is not a member.
    UnknownNode,
    /// The node id is bound to another data directory.
    WrongDirectory,
    /// An earlier start than one seen from the same directory.
    OldStart,
    /// One end has a shared key, and the other has none.
    Key,
    /// The other end does not prove that it knows the shared key.
    Proof,
    /// A different node was called.
    OtherNode,
    /// A code of a newer version.
    Other(u32),
}

impl Refusal {
    /// A refusal without a proof. The text is cut to what the other end accepts.
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Refusal {
        let text: String = text.into();
        Refusal { code, text: text.chars().take(MAX_TEXT_BYTES / 4).collect(), proof: None }
    }
}

impl RefusalCode {
    pub(super) const KNOWN: [RefusalCode; 11] = [
        RefusalCode::Version,
        RefusalCode::Cluster,
        RefusalCode::Protocol,
        RefusalCode::Founding,
        RefusalCode::OwnNode,
        RefusalCode::UnknownNode,
        RefusalCode::WrongDirectory,
        RefusalCode::OldStart,
        RefusalCode::Key,
        RefusalCode::Proof,
        RefusalCode::OtherNode,
    ];

    /// Its number on the wire.
    pub fn number(self) -> u32 {
        match self {
            RefusalCode::Other(number) => number,
            known => {
                let place = RefusalCode::KNOWN.iter().position(|code| *code == known);
                place.expect("every code but Other is listed") as u32 + 1
            }
        }
    }

    pub(super) fn from_number(number: u32) -> RefusalCode {
        let known = (number as usize).checked_sub(1).and_then(|place| RefusalCode::KNOWN.get(place));
        known.copied().unwrap_or(RefusalCode::Other(number))
    }

    /// What it says without any value, to the node that is refused.
    fn meaning(self) -> &'static str {
        match self {
            RefusalCode::Version => "it speaks no wire version that this node speaks",
            RefusalCode::Cluster => "its cluster has a different name",
            RefusalCode::Protocol => "its cluster runs a different protocol",
            RefusalCode::Founding => "its cluster was founded with different members or constants",
            RefusalCode::OwnNode => "it has the same node id: two configurations name the same node",
            RefusalCode::UnknownNode => "this node is not a member there",
            RefusalCode::WrongDirectory => "it knows this node by a different data directory",
            RefusalCode::OldStart => {
                "it has seen a later start of this data directory: this one may be an old copy"
            }
            RefusalCode::Key => "one of the two nodes has a peers_key, and the other has none",
            RefusalCode::Proof => "the two nodes have different keys (peers_key) or cluster names",
            RefusalCode::OtherNode => "it is not the node that was called",
            RefusalCode::Other(_) => "for a reason that only a newer version knows",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            return write!(
                f,
                "{:?}: {}; the log of that node has both values",
                self.code,
                self.code.meaning()
            );
        }
        write!(f, "{:?}: {}", self.code, self.text.escape_debug())
    }
}
