//! What nodes send each other, as bytes: frames (length, checksum), the hello that opens a connection, and
//! the protobuf form of consensus messages.
//!
//! Everything here is a function of bytes: no socket, clock or thread (those are in `node::peers`). Input is
//! checked before it costs memory, and never causes a panic. An error names both values. Read `frame`,
//! `hello`, `message`.

pub mod frame;
pub mod hello;
pub mod message;
pub mod proof;
pub mod refusal;
