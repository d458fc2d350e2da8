//! The tests of `cluster.rs` with `protocol = "raft"`: a user sees no difference.
//!
//! Left out: `record`, which makes a corpus for the fuzzers and not a test.

/// What the nodes run.
const PROTOCOL: &str = "raft";

#[path = "cluster/disk.rs"]
mod disk;
#[path = "cluster/folder.rs"]
mod folder;
#[path = "cluster/harness.rs"]
mod harness;
#[path = "cluster/hostile.rs"]
mod hostile;
#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/log.rs"]
mod log;
#[path = "cluster/majority.rs"]
mod majority;
#[path = "cluster/pause.rs"]
mod pause;
#[path = "cluster/requests.rs"]
mod requests;
#[path = "cluster/restart.rs"]
mod restart;
#[path = "cluster/signals.rs"]
mod signals;
#[path = "cluster/telnet.rs"]
mod telnet;
