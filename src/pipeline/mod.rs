//! The three-thread pipeline as functions of plain data, without threads. `node` runs it on threads, and a
//! simulator runs it in virtual time.
//!
//! [`state_machine`] → [`storage`] → network (`node`) → [`inbox`] → state machine, with [`applier`] next to
//! them, which pulls what is chosen. The [`ledger`] holds what was delivered, and [`waiters`] holds those who
//! wait for it. The crate's documentation has the picture.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod applier;
pub mod chosen_line;
pub mod fork;
pub mod held;
pub mod inbox;
pub mod ledger;
pub mod marks;
pub mod placement;
pub mod queue;
pub mod recent;
pub mod requests;
pub mod state_machine;
pub mod storage;
pub mod trouble;
pub mod trust;
pub mod waiters;
