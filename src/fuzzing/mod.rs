//! What the fuzzers run: one function per target, which takes any bytes and asserts what must hold of the
//! code that reads them.
//!
//! It is hidden, and nothing in the product calls it. It is in the library because the targets of `fuzz/`,
//! the test that runs all of the corpus (`tests/fuzz_corpus.rs`) and the one that counts memory
//! (`tests/fuzz_memory.rs`) share it, and because records and recovery are not public. A panic here is a
//! finding: ours if an assertion of this module fails, the decoder's otherwise.
//!
//! | target | reads | asserts |
//! | --- | --- | --- |
//! | `peer_stream` | a connection of a peer, in pieces | pieces do not matter; frames are written as they were read |
//! | `peer_message` | the payload of a frame | what is decoded is encoded to the same, and not longer |
//! | `peer_handshake` | what someone between two members that meet passes on | with a key, they believe only what the other said |
//! | `peer_core` | messages and time for a Paxos core | no panic; memory and answers are bounded |
//! | `peer_core_raft` | the same for a Raft core | the same |
//! | `client` | a connection of a client, in pieces | pieces do not matter; answers are complete replies |
//! | `store_record` | a record, an identity | what is decoded is built to the same |
//! | `store_recovery` | writes, and then damage | opens with all that was durable, or says what is damaged |
//! | `config` | a configuration | valid, or an error with its place |
//! | `chosen_line` | a line of a log file | written lines are read back, cut lines are told from others |
//!
//! Left out: sockets, sled's own files (`tests/store.rs` damages those).

mod chosen_line;
mod client;
mod config;
mod handshake;
mod peer;
mod peer_core;
mod pieces;
mod store_record;
mod store_recovery;

pub use chosen_line::chosen_line;
pub use client::client;
pub use config::config;
pub use handshake::peer_handshake;
pub use peer::{peer_message, peer_stream};
pub use peer_core::{peer_core, peer_core_raft};
pub use store_record::store_record;
pub use store_recovery::{engine_of_records, open_engine, store_recovery};

/// A target: its name, which is that of its folders under `fuzz/`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 10] = [
    ("peer_stream", peer_stream),
    ("peer_message", peer_message),
    ("peer_handshake", peer_handshake),
    ("peer_core", peer_core),
    ("peer_core_raft", peer_core_raft),
    ("client", client),
    ("store_record", store_record),
    ("store_recovery", store_recovery),
    ("config", config),
    ("chosen_line", chosen_line),
];
