//! See `spaxos::fuzzing::client`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spaxos::fuzzing::client(data));
