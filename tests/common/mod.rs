//! What several tests share. Each test is a crate of its own and uses a part of it.
#![allow(dead_code)]

pub mod cluster;
pub mod disk;
pub mod pipeline;
pub mod pipeline_node;
