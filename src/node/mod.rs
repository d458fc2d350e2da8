//! node
pub mod peers;
