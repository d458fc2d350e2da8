//! The simulator: what a run leaves behind.
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod trace;
