//! Segments against a plain scan over everything, and against what disks and kills do to files.

use super::*;
use crate::record::{Change, Key};
use proptest::prelude::*;
use std::collections::BTreeMap;

const WIDTH: usize = 96;

/// Numbers that look random and are the same each time.
fn vector(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let values: Vec<f32> = (0..WIDTH).map(|_| next()).collect();
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.into_iter().map(|value| value / length).collect()
}

/// A record whose passages all have vectors.
struct Kept {
    dir: tempfile::TempDir,
    record: Mutex<Record>,
}

impl Kept {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let record = Mutex::new(Record::open(dir.path()).expect("it opens"));
        Self { dir, record }
    }

    fn put(&self, names: &[u64]) {
        let mut record = locked(&self.record);
        let changes: Vec<Change> =
            names.iter().map(|name| crate::record::tests::row(&format!("/{name}"), &format!("words {name}"))).collect();
        record.apply(&changes).expect("applied");
        let waiting = record.unembedded("m", 0).and_then(|ids| record.to_embed(&ids)).expect("read");
        let rows: Vec<(Key, Option<Vec<f32>>)> = waiting
            .iter()
            .map(|waiting| {
                let name = waiting.text.trim_start_matches("words ").parse().expect("a number");
                (waiting.key, Some(vector(name)))
            })
            .collect();
        record.put_vectors("m", &rows).expect("stored");
    }

    fn remove(&self, names: &[u64]) {
        let mut record = locked(&self.record);
        let known = record.known_in(&crate::Scope::default()).expect("read");
        let gone: Vec<Change> = names
            .iter()
            .filter_map(|name| known.get(Path::new(&format!("/{name}"))))
            .map(|known| Change::Remove { id: known.id })
            .collect();
        record.apply(&gone).expect("applied");
    }

    /// All vectors that the record holds, by passage.
    fn all(&self) -> BTreeMap<i64, Vec<f32>> {
        let mut all = BTreeMap::new();
        let mut take = |id, vector: &dyn Fn() -> Vec<f32>| {
            all.insert(id, vector());
            Ok(())
        };
        locked(&self.record).each_vector("m", &mut take).expect("read");
        all
    }

    fn follow(&self, segments: Segments, gone: Gone) -> Segments {
        segments.follow("m", &locked(&self.record), gone).expect("it follows")
    }

    fn empty(&self) -> Segments {
        Segments::empty(self.dir.path(), "m")
    }

    fn open(&self) -> Option<Segments> {
        Segments::open(self.dir.path(), "m")
    }

    /// What a plain scan over everything finds.
    fn exact(&self, question: &[f32], allowed: Option<&RoaringBitmap>, limit: usize) -> Vec<i64> {
        let may = |id: i64| allowed.is_none_or(|allowed| allowed.contains(id as u32));
        let mut all: Vec<(i64, f32)> =
            self.all().iter().filter(|(id, _)| may(**id)).map(|(id, own)| (*id, cosine(question, own))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.into_iter().take(limit).map(|(id, _)| id).collect()
    }

    fn search(&self, segments: &Segments, question: &[f32], allowed: Option<&RoaringBitmap>) -> Vec<i64> {
        let found = segments.search("m", question, &self.record, allowed, 10).expect("found");
        found.into_iter().map(|(id, _)| id).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<u64>),
    Remove(Vec<u64>),
    Erase,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let names = || prop::collection::vec(0u64..60, 1..20);
    prop_oneof![
        4 => names().prop_map(Step::Put),
        2 => names().prop_map(Step::Remove),
        1 => Just(Step::Erase),
        1 => Just(Step::Reopen)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_happens_the_vectors_are_those_of_the_record(steps in prop::collection::vec(step(), 1..12), asked in 0u64..99, few in prop::collection::btree_set(1u32..200, 0..60)) {
        let kept = Kept::new();
        let mut segments = kept.empty();
        let (question, allowed) = (vector(asked + 1000), few.into_iter().collect::<RoaringBitmap>());
        for step in steps {
            let gone = if matches!(step, Step::Erase) { Gone::Erase } else { Gone::Hide };
            match &step {
                Step::Put(names) => kept.put(names),
                Step::Remove(names) => kept.remove(names),
                Step::Erase => {}
                Step::Reopen => segments = kept.open().unwrap_or_else(|| kept.empty()),
            }
            segments = kept.follow(segments, gone);
            prop_assert_eq!(segments.count(), kept.all().len() as u64);
            prop_assert!(gone == Gone::Hide || segments.rows() == kept.all().len());
            prop_assert!(segments.segments.windows(2).all(|pair| pair[1].rows() * 2 <= pair[0].rows()));
            prop_assert_eq!(kept.search(&segments, &question, None), kept.exact(&question, None, 10));
            prop_assert_eq!(kept.search(&segments, &question, Some(&allowed)), kept.exact(&question, Some(&allowed), 10));
        }
    }
}

#[test]
fn files_that_are_torn_or_scrambled_are_not_used() {
    let kept = Kept::new();
    kept.put(&(0..40).collect::<Vec<_>>());
    let segments = kept.follow(kept.empty(), Gone::Hide);
    assert!(kept.open().is_some_and(|opened| opened.version == segments.version && opened.count() == 40));
    let files: Vec<PathBuf> =
        std::fs::read_dir(&segments.dir).expect("read").map(|file| file.expect("one").path()).collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for path in files {
        let whole = std::fs::read(&path).expect("read");
        let middle = whole.len() / 2;
        let mut damages = vec![whole[..middle].to_vec(), Vec::new()];
        if path.extension().is_none_or(|ending| ending != "codes") {
            let mut scrambled = whole.clone();
            scrambled[middle] ^= 0x40;
            damages.push(scrambled);
        }
        for damage in damages {
            std::fs::remove_file(&path).expect("removed");
            std::fs::write(&path, damage).expect("written");
            assert!(kept.open().is_none(), "{}", path.display());
        }
        std::fs::write(&path, whole).expect("written");
        assert!(kept.open().is_some());
    }
}

#[test]
fn what_a_kill_leaves_behind_is_removed_and_erased_vectors_are_gone_from_the_disk() {
    let kept = Kept::new();
    kept.put(&(0..40).collect::<Vec<_>>());
    let segments = kept.follow(kept.empty(), Gone::Hide);
    for leftover in ["00000099.bits", "00000099.codes", "manifest.new"] {
        std::fs::write(segments.dir.join(leftover), "half").expect("written");
    }
    kept.remove(&[7]);
    let hidden = kept.follow(segments, Gone::Hide);
    assert_eq!((hidden.count(), hidden.rows(), hidden.hides()), (39, 40, true), "one of forty only hides");
    let erased = kept.follow(hidden, Gone::Erase);
    assert_eq!((erased.count(), erased.rows(), erased.hides()), (39, 39, false));
    let [_, old] = erased.segments[0].card.files(&erased.dir);
    let mut codes = Vec::new();
    scan::quantize(&vector(7), &mut codes);
    let on_disk = std::fs::read(old).expect("read");
    assert!(!on_disk.windows(codes.len()).any(|window| window == codes));
    assert_eq!(std::fs::read_dir(&erased.dir).expect("read").count(), 3, "manifest and one segment");
}

/// A segment of rows that `make` gives, without a record.
fn segment(dir: &Path, rows: u32, make: impl Fn(u64) -> Vec<f32>) -> Arc<Segment> {
    let mut writer = Writer::new(dir, 1, WIDTH).expect("made");
    for row in 0..rows {
        writer.push(row + 1, &make(u64::from(row))).expect("pushed");
    }
    Arc::new(writer.finish().expect("finished"))
}

/// Around some centres, as texts about some subjects are.
fn clustered(row: u64) -> Vec<f32> {
    let (centre, own) = (vector(row % 300), vector(row + 10_000));
    centre.iter().zip(&own).map(|(centre, own)| centre + 0.6 * own).collect()
}

/// All in one corner: every sign the same, as some models' vectors are.
fn crowded(row: u64) -> Vec<f32> {
    clustered(row).iter().map(|value| 0.3 + value).collect()
}

#[test]
fn a_model_that_its_signs_cannot_tell_apart_is_searched_by_eight_bits() {
    let rows = 1 << 15;
    for (make, by_signs) in [(clustered as fn(u64) -> Vec<f32>, true), (crowded, false)] {
        let dir = tempfile::tempdir().expect("a folder");
        let segment = segment(dir.path(), rows, make);
        let gate = gate::test(std::slice::from_ref(&segment), rows as usize).expect("read").expect("tested");
        assert_eq!(gate.passed(), by_signs, "{gate:?}");
        assert!(!gate::is_due(Some(&gate), rows as usize) && gate::is_due(Some(&gate), rows as usize * 4));
        let mut segments = Segments::empty(dir.path(), "m");
        (segments.dimensions, segments.segments, segments.gate) = (WIDTH, vec![segment], Some(gate));
        let odd: RoaringBitmap = (1..rows).step_by(2).collect();
        let (mut held, mut wanted) = (0, 0);
        for question in 0..4 {
            let question = make(question * 999 + 40_000_000);
            for allowed in [None, Some(&odd)] {
                let found: Vec<u32> =
                    segments.nearest(&question, allowed, 10).expect("found").into_iter().map(|(id, _)| id).collect();
                assert!(found.iter().all(|id| allowed.is_none_or(|allowed| allowed.contains(*id))));
                let may = |id: &u32| allowed.is_none_or(|allowed| allowed.contains(*id));
                let mut exact: Vec<(f32, u32)> =
                    (1..=rows).filter(may).map(|id| (cosine(&question, &make(u64::from(id - 1))), id)).collect();
                exact.sort_by(|a, b| b.0.total_cmp(&a.0));
                wanted += 10;
                held += exact[..10].iter().filter(|(_, id)| found.contains(id)).count();
            }
        }
        assert!(held * 100 >= wanted * 99, "{held} of {wanted}, by signs: {by_signs}");
    }
}

/// Ids in runs, with holes between them as removed passages leave them.
fn runs() -> impl Strategy<Value = Vec<std::ops::Range<u32>>> {
    prop::collection::vec((0u32..2500, 1u32..400).prop_map(|(start, count)| start..start + count), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn rows_that_a_filter_leaves_are_read_whole_and_no_others(stored in runs(), allowed in runs(), asked: u64) {
        let stored: RoaringBitmap = stored.into_iter().flatten().collect();
        let allowed: RoaringBitmap = allowed.into_iter().flatten().collect();
        let dir = tempfile::tempdir().expect("a folder");
        let mut writer = Writer::new(dir.path(), 1, WIDTH).expect("made");
        for id in &stored {
            writer.push(id, &vector(u64::from(id))).expect("pushed");
        }
        prop_assume!(!stored.is_empty());
        let segment = writer.finish().expect("finished");
        let both = &stored & &allowed;
        let Some(mask) = segment.mask(Some(&allowed)) else {
            prop_assert!(both.is_empty());
            return Ok(());
        };
        let rows = segment.seen_rows(&mask);
        prop_assert_eq!(rows.iter().map(|row| segment.ids()[*row as usize]).collect::<RoaringBitmap>(), both);
        let question = scan::widened(&vector(asked));
        let (mut read, mut mapped) = (Best::new(stored.len() as usize), Best::new(stored.len() as usize));
        segment.rescore(&question, &rows, &mut read).expect("read");
        segment.scan_codes(&question, &mask, &mut mapped);
        prop_assert_eq!(read.finish(), mapped.finish());
        let mut all = [Best::new(stored.len() as usize)];
        segment.read_codes(std::slice::from_ref(&question), &mut all).expect("read");
        let (mut mapped, [all]) = (Best::new(stored.len() as usize), all);
        segment.scan_codes(&question, &None, &mut mapped);
        prop_assert_eq!(all.finish(), mapped.finish());
    }
}
