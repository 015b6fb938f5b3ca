//! A text that the embedding model refuses costs its own vector and nothing else.

use super::{Hashing, Place, index, names, search};
use base::{Code, Fault};
use freehold_map::{Embed, Query};
use std::sync::atomic::{AtomicU32, Ordering};

/// Refuses texts of more than so many words, as a model with a small window does.
struct Narrow {
    words_max: usize,
    code: Code,
    asked: AtomicU32,
}

impl Narrow {
    fn new(words_max: usize, code: Code) -> Self {
        Self { words_max, code, asked: AtomicU32::new(0) }
    }
}

impl Embed for Narrow {
    fn model(&self) -> String {
        "hashing".into()
    }

    fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Fault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if texts.iter().any(|text| text.split_whitespace().count() > self.words_max) {
            return Err(Fault::new(self.code, "the text needs more than the model takes"));
        }
        Hashing::default().embed(texts)
    }
}

fn three(place: &Place) {
    place.write("heating.md", "The boiler is serviced every year in March.\n");
    place.write("long.txt", format!("quinces {}\n", "and then some more of it ".repeat(20)));
    place.write("garden.txt", "The plums are ripe in the last week of August.\n");
}

#[test]
fn a_text_that_is_too_long_is_embedded_by_its_beginning() {
    let place = Place::new();
    three(&place);
    let (map, embed) = (place.map(), Narrow::new(20, Code::ContextOverflow));
    let ran = index(&map, &place.files(), Some(&embed));
    assert_eq!(ran.report().embedded, 3);
    assert_eq!(ran.notices(), ["1 passage is longer than `hashing` can take; vectors were made from their beginnings"]);
    let query = |text: &str| Query { text: text.into(), limit: 3, ..Default::default() };
    let hits = map.search(&query("quinces"), Some(&embed)).expect("found").hits;
    assert!(hits[0].dense.is_some() && hits[0].text.len() > 400, "what is cited stays whole: {hits:?}");
    // A question that is too long is shortened, too.
    let found = map.search(&query(&"quinces and plums ".repeat(30)), Some(&embed)).expect("found");
    assert_eq!((found.arms.as_str(), found.notices.len()), ("lexical+vector", 0));
    let asked = embed.asked.load(Ordering::Relaxed);
    assert!(asked < 20, "{asked}");
}

#[test]
fn a_text_that_is_refused_whatever_its_length_is_not_asked_about_again() {
    let place = Place::new();
    three(&place);
    for code in [Code::ContextOverflow, Code::InvalidAsk] {
        let _ = std::fs::remove_dir_all(place.map_dir());
        let map = place.map();
        let embed = Narrow::new(0, code);
        let ran = index(&map, &place.files(), Some(&embed));
        assert_eq!((ran.report().embedded, ran.report().documents), (0, 3));
        let [notice] = ran.notices()[..] else { panic!("{:?}", ran.notices()) };
        assert!(notice.starts_with("3 passages have no vector, because `hashing` refuses them"), "{notice}");
        assert_eq!(names(&search(&map, "boiler")), ["heating.md"]);
        let asked = embed.asked.load(Ordering::Relaxed);
        let again = index(&map, &place.files(), Some(&embed));
        assert!(again.notices().is_empty(), "{:?}", again.notices());
        assert_eq!((embed.asked.load(Ordering::Relaxed), map.summary().expect("read").embedded), (asked, 0));
    }
}

#[test]
fn a_refused_text_stands_in_no_others_way() {
    let place = Place::new();
    three(&place);
    place.write("odd.txt", "unspeakable\n");
    /// Refuses one word, whole or not.
    struct Choosy;
    impl Embed for Choosy {
        fn model(&self) -> String {
            "hashing".into()
        }

        fn embed(&self, texts: &[String]) -> Result<Vec<Vec<f32>>, Fault> {
            if texts.iter().any(|text| text.contains("unspeak")) {
                return Err(Fault::new(Code::InvalidAsk, "no such word"));
            }
            Hashing::default().embed(texts)
        }
    }
    let map = place.map();
    let ran = index(&map, &place.files(), Some(&Choosy));
    assert_eq!((ran.report().embedded, map.summary().expect("read").embedded), (3, 3));
    let found = map
        .search(&Query { text: "plums in August".into(), limit: 4, ..Default::default() }, Some(&Choosy))
        .expect("found");
    assert_eq!((found.arms.as_str(), names(&found)[0].as_str()), ("lexical+vector", "garden.txt"));
}
