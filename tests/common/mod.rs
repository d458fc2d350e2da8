//! What several tests share. Each test is a crate of its own and uses a part of it.
#![allow(dead_code)]

pub mod cluster;
pub mod one_core;
pub mod one_raft;
pub mod tracer;
