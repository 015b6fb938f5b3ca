//! A second look at a real search: what the reranker is shown, and what its word changes.

use super::{Hashing, Place, index, names};
use base::Fault;
use freehold_map::rerank::{Judged, Weighing, rerank};
use freehold_map::{Filter, Query, Rerank};
use std::sync::Mutex;

/// Likes walls, and keeps what it was shown.
#[derive(Default)]
struct Walls(Mutex<Vec<String>>);

impl Rerank for Walls {
    fn model(&self) -> String {
        "walls".into()
    }

    fn judge(&self, _: &str, passages: &[String]) -> Result<Judged, Fault> {
        self.0.lock().expect("no thread panicked").extend(passages.iter().cloned());
        let score = |passage: &String| f32::from(u8::from(passage.contains("wall")));
        Ok(Judged { scores: passages.iter().map(score).collect(), shortened: 0 })
    }
}

#[test]
fn the_reranker_sees_what_the_filter_let_through_below_its_title() {
    let place = Place::new();
    place.write("garden/a.md", "# Beds\n\nMedlars grow by the fence.\n");
    place.write("garden/b.md", "# Trees\n\nMedlars grow by the wall.\n");
    place.write("house/c.md", "# Secret\n\nMedlars grow by the wall of the house, by the fence.\n");
    let (map, embed) = (place.map(), Hashing::default());
    index(&map, &place.files(), Some(&embed)).report();
    let folders = vec![place.files().canonicalize().expect("there").join("garden")];
    let filter = Filter { folders, ..Filter::default() };
    let query = Query { text: "medlars fence".into(), limit: 8, filter, explain: true, ..Query::default() };
    let mut found = map.search(&query, Some(&embed)).expect("it searches");
    assert_eq!(names(&found), ["a.md", "b.md"]);
    let walls = Walls::default();
    let outcome = rerank(&query.text, &mut found.hits, &walls, Weighing::default());
    assert_eq!((names(&found), outcome.by.as_deref()), (vec!["b.md".to_string(), "a.md".into()], Some("walls")));
    let shown = walls.0.lock().expect("no thread panicked");
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(shown[0].starts_with("Beds\n") && shown[1].starts_with("Trees\n"), "{shown:?}");
    let before: Vec<Option<usize>> = found
        .hits
        .iter()
        .map(|hit| hit.why.as_ref().and_then(|why| why.reranked).map(|again| again.rank_before))
        .collect();
    assert_eq!(before, [Some(2), Some(1)]);
}
