//! Making way: a node in trouble does not lead while another could.
//!
//! A node whose disk hangs, or whose log file takes no lines, still answers and sends heartbeats, so nobody
//! notices: it goes on leading while clients wait in vain. Its driver notices, asks the others how they are,
//! and names those that are better off ([`Input::MakeWay`](super::protocol::Input::MakeWay)): the *fitter*
//! ones. While there are any:
//!
//! 1. A leader places nothing, so that its followers can come up to its log, and hands over to the first
//!    fitter one that is up to date ([`Transfer`](super::transfer::Transfer)).
//! 2. If it still leads after T, it steps down, whatever its log. Its last word is a TimeoutNow to the fitter
//!    node that lacks least, so that nobody waits for an election timeout.
//! 3. It does not campaign, not even when another node hands over to it, because a fitter one will.
//!
//! A fitter node may be unable to win: in Raft its log may be behind that of the node in trouble, without
//! which there is no majority. So a node waives [`MAX_WAIVED`] elections in a row without a leader, and no
//! more. If it wins, it leads for T, in which the others catch up.
//!
//! Nothing here promises anything or decides about a value: TimeoutNow only lets a node campaign as it could
//! at any time, and a node that leads less, or campaigns less, is a slow one. If the driver is wrong about
//! who is fit, that costs elections, not safety.
//!
//! Left out: what a trouble is, and how nodes tell each other of it (`pipeline/trouble.rs`).

use super::quorum::{Bit, Set};

/// How many elections a node in trouble leaves to the fitter ones, one after the other: three to six T.
const MAX_WAIVED: u8 = 3;

/// The voters that are better off than this node: empty if it is not in trouble, or all others are as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Fitter {
    voters: Set,
    /// Elections waived since a leader was last heard.
    waived: u8,
}

impl Fitter {
    pub(super) fn replace(&mut self, voters: Set) {
        *self = Fitter { voters, waived: 0 };
    }

    /// Whether this node makes way.
    pub(super) fn any(&self) -> bool {
        !self.voters.is_empty()
    }

    pub(super) fn contains(&self, bit: Bit) -> bool {
        self.voters.contains(bit)
    }

    /// Somebody leads, so the others could win.
    pub(super) fn leader_heard(&mut self) {
        self.waived = 0;
    }

    /// An election is due. Returns whether it is left to the others.
    pub(super) fn waives_election(&mut self) -> bool {
        let waives = self.any() && self.waived < MAX_WAIVED;
        self.waived += u8::from(waives);
        waives
    }
}

/// How a leader stands with making way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It leads as always.
    Leads,
    /// It leads as always again: what waited can be placed.
    LeadsAgain,
    /// It looks for a successor.
    Seeks,
    /// Nobody took over within T: it must step down.
    StepsDown,
}
