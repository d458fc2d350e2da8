//! What nodes say to each other, as bytes: frames (length, checksum), the hello that opens a connection, and
//! the protobuf form of consensus messages.
//!
//! Everything here is a function of bytes: no socket, clock or thread (those are in `node::peers`). What
//! comes in is checked before it costs memory and never panics; what is wrong is an error that names both
//! values. Read `frame`, `hello`, `message`.

pub mod frame;
pub mod hello;
pub mod message;
