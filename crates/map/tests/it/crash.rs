//! `kill -9` at any instant: what was committed is there, nothing is half there, the next run goes on.

use super::{PROBE, Place, index, search};
use jail::{Command, Io};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;

const FILES: usize = 400;

/// Starts an indexing process and kills it after it has said `lines` lines.
fn killed_after(place: &Place, lines: usize) -> usize {
    let mut child = Command::new(Path::new(PROBE))
        .arg("index")
        .arg(place.map_dir())
        .arg(place.files())
        .stdout(Io::Pipe)
        .spawn()
        .expect("it starts");
    let output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut committed = 0;
    for line in output.lines().take(lines) {
        let line = line.expect("it speaks");
        if let Some(count) = line.strip_prefix("committed ") {
            committed = count.parse().expect("a number");
        }
    }
    child.kill().expect("killed");
    child.wait().expect("collected");
    committed
}

#[test]
fn what_was_committed_survives_a_kill() {
    for lines in [0, 1, 3, 6] {
        let place = Place::new();
        for number in 0..FILES {
            place.write(
                &format!("{number:03}.txt"),
                format!("file number {number} speaks of medlars and of thing{number}"),
            );
        }
        let committed = killed_after(&place, lines);
        let map = place.map();
        let there = map.summary().expect("it opens").documents as usize;
        assert!(there >= committed, "{committed} were said to be safe, {there} are there");
        // What the word index finds is exactly what the record holds.
        let hits = map
            .search(&freehold_map::Query { text: "medlars".into(), limit: 1000, ..Default::default() }, None)
            .expect("it searches")
            .hits;
        assert_eq!(hits.len(), there, "after {lines} lines");
        let ran = index(&map, &place.files(), None);
        let report = ran.report();
        assert_eq!((report.documents, report.unchanged as usize), (FILES as u64, there));
        let hits = map
            .search(&freehold_map::Query { text: "medlars".into(), limit: 1000, ..Default::default() }, None)
            .expect("it searches")
            .hits;
        let paths: BTreeSet<_> = hits.iter().map(|hit| &hit.path).collect();
        assert_eq!((hits.len(), paths.len()), (FILES, FILES), "each file once");
    }
}

#[test]
fn a_kill_while_files_change_leaves_no_ghost() {
    let place = Place::new();
    for number in 0..FILES {
        place.write(&format!("{number:03}.txt"), format!("file number {number} speaks of medlars"));
    }
    index(&place.map(), &place.files(), None).report();
    for number in 0..FILES {
        let name = format!("{number:03}.txt");
        match number % 3 {
            0 => std::fs::remove_file(place.files().join(name)).expect("removed"),
            1 => drop(place.write(&name, format!("file number {number} speaks of sorbus now"))),
            _ => {}
        }
    }
    killed_after(&place, 1);
    let map = place.map();
    index(&map, &place.files(), None).report();
    let old = map
        .search(&freehold_map::Query { text: "medlars".into(), limit: 1000, ..Default::default() }, None)
        .expect("it searches")
        .hits;
    assert_eq!(old.len(), (0..FILES).filter(|number| number % 3 == 2).count());
    assert!(old.iter().all(|hit| hit.path.is_file()));
    let new = map
        .search(&freehold_map::Query { text: "sorbus".into(), limit: 1000, ..Default::default() }, None)
        .expect("it searches")
        .hits;
    assert_eq!(new.len(), (0..FILES).filter(|number| number % 3 == 1).count());
    assert_eq!(search(&map, "nothing of the kind").hits.len(), 0);
}
