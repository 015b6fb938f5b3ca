//! `kill -9` at any instant: what was committed is there, nothing is half there, the next run goes on.

use super::{PROBE, Place, index, search};
use freehold_map::{Map, Query, Scope};
use jail::{Command, Io};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::{Duration, Instant};

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
        let hits =
            map.search(&freehold_map::Query { text: "medlars".into(), limit: 1000 }, None).expect("it searches").hits;
        assert_eq!(hits.len(), there, "after {lines} lines");
        let ran = index(&map, &place.files(), None);
        let report = ran.report();
        assert_eq!((report.documents, report.unchanged as usize), (FILES as u64, there));
        let hits =
            map.search(&freehold_map::Query { text: "medlars".into(), limit: 1000 }, None).expect("it searches").hits;
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
    let old = map.search(&freehold_map::Query { text: "medlars".into(), limit: 1000 }, None).expect("it searches").hits;
    assert_eq!(old.len(), (0..FILES).filter(|number| number % 3 == 2).count());
    assert!(old.iter().all(|hit| hit.path.is_file()));
    let new = map.search(&freehold_map::Query { text: "sorbus".into(), limit: 1000 }, None).expect("it searches").hits;
    assert_eq!(new.len(), (0..FILES).filter(|number| number % 3 == 1).count());
    assert_eq!(search(&map, "nothing of the kind").hits.len(), 0);
}

/// Numbers that look random; the seed is told, so that a failure can be played again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The version of each file that a map finds, by the words that stand in it.
fn versions(map: &Map) -> BTreeMap<u64, u64> {
    let found = map.search(&Query { text: "medlars".into(), limit: 1000 }, None).expect("it searches");
    assert_eq!(found.notices, Vec::<String>::new());
    let mut versions = BTreeMap::new();
    for hit in found.hits {
        let numbers: Vec<u64> = hit.text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let name = hit.path.file_stem().expect("a name").to_string_lossy().into_owned();
        assert_eq!(name.parse(), Ok(numbers[0]), "a passage stands in its own file");
        assert_eq!(versions.insert(numbers[0], numbers[1]), None, "each file once");
    }
    versions
}

/// Kills as many indexing runs, each at a random instant, while files come, change and go between them.
/// Returns the longest time that opening the map took.
fn storm(kills: u64, seed: u64) -> Duration {
    const TREE: u64 = 90;
    let (place, mut dice) = (Place::new(), Dice(seed | 1));
    let mut files: BTreeMap<u64, u64> = BTreeMap::new();
    let mut indexed = BTreeMap::new();
    let (mut run_us, mut longest) = (1_000_000, Duration::ZERO);
    for kill in 0..kills {
        for _ in 0..dice.below(40) {
            let number = dice.below(TREE);
            let path = format!("{number}.txt");
            if files.contains_key(&number) && dice.below(4) == 0 {
                files.remove(&number);
                std::fs::remove_file(place.files().join(path)).expect("removed");
            } else {
                files.insert(number, kill);
                place.write(
                    &path,
                    format!("file {number} of version {kill} speaks of medlars {}", "and more ".repeat(20)),
                );
            }
        }
        let started = Instant::now();
        let mut child = Command::new(Path::new(PROBE))
            .args(["vectors".as_ref(), place.map_dir().as_os_str(), place.files().as_os_str()])
            .stdout(Io::Pipe)
            .spawn()
            .expect("it starts");
        std::thread::sleep(Duration::from_micros(dice.below(run_us)));
        let whole = child.try_wait().expect("looked").is_some();
        child.kill().expect("killed");
        child.wait().expect("collected");
        if whole {
            // It was done before: the instants are drawn from the time that a run takes.
            run_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(run_us).max(20_000);
        }
        let mut safe = 0;
        for line in BufReader::new(child.stdout.take().expect("a pipe")).lines() {
            let line = line.expect("it speaks");
            safe = line.strip_prefix("committed ").map_or(safe, |count| count.parse().expect("a number"));
        }
        let opening = Instant::now();
        let map = place.map();
        let now = versions(&map);
        longest = longest.max(opening.elapsed());
        let mut taken_up = 0;
        for number in 0..TREE {
            let (was, wanted, is) = (indexed.get(&number), files.get(&number), now.get(&number));
            assert!(is == was || is == wanted, "seed {seed}, kill {kill}, file {number}: {was:?} {wanted:?} {is:?}");
            taken_up += usize::from(was != wanted && is == wanted);
        }
        assert!(taken_up >= safe, "seed {seed}, kill {kill}: {safe} were said to be safe, {taken_up} are there");
        let seen = map.inspect(&Scope::of(vec![place.files()])).expect("inspected");
        assert!(seen.problems.is_empty(), "seed {seed}, kill {kill}: {:#?}", seen.problems);
        assert_eq!((seen.found_by_words, seen.passages), (now.len() as u64, now.len() as u64));
        indexed = now;
    }
    let map = place.map();
    if !files.is_empty() {
        index(&map, &place.files(), None).report();
    }
    assert_eq!(versions(&map), files, "in the end all of it is there, and nothing else");
    longest
}

/// What the benchmark reads.
fn tell(kills: u64, longest: Duration) {
    writeln!(std::io::stdout(), "kills {kills} longest opening ms {}", longest.as_millis()).expect("somebody listens");
}

fn seed() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |since| since.subsec_nanos().into())
}

#[test]
fn thirty_kills_at_random_instants_lose_nothing() {
    tell(30, storm(30, seed()));
}

/// Run by `cargo xtask bench crash`.
#[test]
#[ignore = "takes minutes"]
fn a_thousand_kills_at_random_instants_lose_nothing() {
    tell(1000, storm(1000, seed()));
}
