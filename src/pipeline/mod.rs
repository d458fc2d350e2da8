//! The three-thread pipeline as functions of plain data, without threads: what `node` runs on threads and a
//! simulator runs in virtual time.
//!
//! [`state_machine`] → [`storage`] → network (`node`) → [`inbox`] → state machine, with [`applier`] beside
//! it, pulling what is chosen. What was delivered is in the [`ledger`], who waits for it in [`waiters`]. See
//! the crate's documentation for the picture.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod applier;
pub mod chosen_line;
pub mod inbox;
pub mod ledger;
pub mod placement;
pub mod queue;
pub mod recent;
pub mod requests;
pub mod state_machine;
pub mod storage;
pub mod trust;
pub mod waiters;
