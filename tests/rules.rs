//! The rules that two well-known courses check a Raft by, each as a test of ours: TinyKV's project 2 and 3A,
//! and lab 2 of MIT's 6.824. Each test's first line says which rule it is; `RULES.md` lists rule → test, with
//! those that wait and those that do not hold by design.
//!
//! What is not Raft's own runs under every protocol. Left out: the courses' own code and interfaces;
//! snapshots and changes of members, which do not exist yet.

#[macro_use]
mod common;

#[path = "rules/lab.rs"]
mod lab;
#[path = "rules/lab_agreement.rs"]
mod lab_agreement;
#[path = "rules/lab_elections.rs"]
mod lab_elections;
#[path = "rules/lab_faults.rs"]
mod lab_faults;
#[path = "rules/raft_core.rs"]
mod raft_core;
#[path = "rules/tinykv_election.rs"]
mod tinykv_election;
#[path = "rules/tinykv_node.rs"]
mod tinykv_node;
#[path = "rules/tinykv_replication.rs"]
mod tinykv_replication;
