//! See `spaxos::fuzzing::peer_core_raft`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spaxos::fuzzing::peer_core_raft(data));
