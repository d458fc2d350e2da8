//! A value of the running hash that nodes compare.

use crate::consensus::types::Index;

/// The most points in one message: two of the sender's own, and two answers.
pub const MAX_POINTS: usize = 4;

/// The running hash of a delivered log at one index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Point {
    /// The value covers every index up to this one.
    pub index: Index,
    /// The value.
    pub hash: u128,
}
