//! Documents that are ZIP files: the first byte chooses which.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| freehold_map::fuzz::package(data));
