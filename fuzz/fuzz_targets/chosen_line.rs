//! See `spaxos::fuzzing::chosen_line`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spaxos::fuzzing::chosen_line(data));
