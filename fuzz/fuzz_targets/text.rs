//! Text formats: the first byte chooses which.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| freehold_map::fuzz::text(data));
