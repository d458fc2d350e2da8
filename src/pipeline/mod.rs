//! The three-thread pipeline as functions of plain data, without threads: what `node` runs on threads and a
//! simulator runs in virtual time.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod chosen_line;
pub mod inbox;
pub mod queue;
pub mod requests;
