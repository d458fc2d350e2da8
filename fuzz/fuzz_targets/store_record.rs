//! See `spaxos::fuzzing::store_record`.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| spaxos::fuzzing::store_record(data));
