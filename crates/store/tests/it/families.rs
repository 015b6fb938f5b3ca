//! What is read from the header of every family's model, beside what llama.cpp itself said of its cache.

use freehold_store::read_header;
use std::path::Path;
use testkit::family::FAMILIES;

/// A pool of the worker in whose run the page's table was made: tokens, sequences, tokens of a step.
const POOL: (u32, u32, u32) = (2048, 4, 512);

/// The cache's bytes in the table's last column, by architecture.
fn said(page: &str, arch: &str) -> Option<u64> {
    let row = page.lines().find(|line| line.contains(&format!("| `{arch}` |")))?;
    row.trim_end_matches([' ', '|']).rsplit('|').next()?.trim().parse().ok()
}

#[test]
fn the_cache_of_every_family_is_known_before_it_is_made() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/families.md");
    let page = std::fs::read_to_string(page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for family in FAMILIES {
        let path = folder.path().join(format!("{}.gguf", family.arch));
        std::fs::write(&path, family.gguf().to_bytes()).unwrap();
        let facts = read_header(&path).unwrap().0;
        assert_eq!(facts.arch, family.arch);
        let Some(said) = said(&page, family.arch) else {
            assert_eq!(facts.cache, None, "{}: the page names no cache", family.name);
            continue;
        };
        let (tokens, sequences, step) = POOL;
        let known = facts.cache.expect("a model that generates").bytes(tokens, sequences, step);
        let off = known.abs_diff(said) as f64 / said as f64;
        assert!(off < 0.05, "{}: {known} bytes expected, {said} made", family.name);
    }
}
