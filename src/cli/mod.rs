//! The subcommands of `spaxos`, one a file.

pub mod dump;
