//! Multi-Paxos.
