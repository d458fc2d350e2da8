//! See `spaxos::fuzzing::peer_handshake`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spaxos::fuzzing::peer_handshake(data));
