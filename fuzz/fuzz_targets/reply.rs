//! What a reader child may answer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| freehold_map::fuzz::reply(data));
