//! node
pub mod clients;
