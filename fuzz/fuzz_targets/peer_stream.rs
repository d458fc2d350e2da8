//! See `spaxos::fuzzing::peer_stream`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spaxos::fuzzing::peer_stream(data));
