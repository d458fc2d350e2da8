//! What several tests share. Each test is a crate of its own and uses a part of it.
#![allow(dead_code, unused_macros)]

#[macro_use]
mod each_protocol;

pub mod any_core;
pub mod cluster;
pub mod hung_disk;
pub mod one_core;
pub mod outside;
pub mod seeds;
pub mod tracer;
