//! See `spaxos::fuzzing::store_recovery`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spaxos::fuzzing::store_recovery(data));
