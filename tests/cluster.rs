//! Clusters of real processes, sockets and disks, seen from outside: what a user does to them, and what the
//! README promises about it. A user sees no difference between the protocols, so each test runs under both:
//! `cargo test --test cluster raft` runs those of one.
//!
//! Each file has one subject. All of them wait for conditions, never for times; `harness` says how. Left out:
//! an assertion of ours that fails (exit code 4), since nothing from outside should make one fail.

#[macro_use]
mod common;

#[path = "cluster/descriptors.rs"]
mod descriptors;
#[path = "cluster/disk.rs"]
mod disk;
#[path = "cluster/folder.rs"]
mod folder;
#[path = "cluster/fork.rs"]
mod fork;
#[path = "cluster/harness.rs"]
mod harness;
#[path = "cluster/hostile.rs"]
mod hostile;
#[path = "cluster/hung.rs"]
mod hung;
#[path = "cluster/key.rs"]
mod key;
#[path = "cluster/load.rs"]
mod load;
#[path = "cluster/log.rs"]
mod log;
#[path = "cluster/majority.rs"]
mod majority;
#[path = "cluster/names.rs"]
mod names;
#[path = "cluster/pause.rs"]
mod pause;
#[path = "cluster/record.rs"]
mod record;
#[path = "cluster/requests.rs"]
mod requests;
#[path = "cluster/restart.rs"]
mod restart;
#[path = "cluster/shim.rs"]
mod shim;
#[path = "cluster/signals.rs"]
mod signals;
#[path = "cluster/small_disk.rs"]
mod small_disk;
#[path = "cluster/starting.rs"]
mod starting;
#[path = "cluster/status.rs"]
mod status;
#[path = "cluster/telnet.rs"]
mod telnet;
#[path = "cluster/unbind.rs"]
mod unbind;
