//! node

pub mod log;
