//! A smaller model beside a larger one guesses for it: by itself, by name, or not at all.

use crate::home::Home;
use serde_json::Value;
use std::path::{Path, PathBuf};
use testkit::gguf::{Gguf, Value as Key};
use testkit::{Script, model};

/// Makes a file many times as large as the small ones.
const WEIGHTS: usize = 32 * 640;

fn add(home: &Home, name: &str, file: &Gguf) {
    let path = home.folder("models").join(format!("{name}.gguf"));
    std::fs::write(&path, file.to_bytes()).expect("written");
    home.done(&["models", "add", path.to_str().expect("utf-8")]);
}

/// A large model, a small one of its vocabulary, and one of another.
fn home(draft_model: &str) -> (Home, PathBuf) {
    let home = Home::new();
    let config = format!("confine = \"best-effort\"\ndraft_model = \"{draft_model}\"\n");
    std::fs::write(home.home.join("config.toml"), config).expect("config");
    let log = home.path("frames");
    let small = |name: &str| model::chat_gguf(name, &Script::default());
    add(&home, "small", &small("small"));
    let words = ["<unk>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "a", "b", "d", " "].map(str::to_owned);
    add(&home, "odd", &small("odd").set("tokenizer.ggml.tokens", Key::Texts(words.to_vec())));
    let large = model::chat_gguf("large", &Script::default().logged(&log));
    add(&home, "large", &large.tensor("blk.0.ffn_up.weight", &[32, 640], vec![0.5; WEIGHTS]));
    (home, log)
}

fn drafts(log: &Path) -> Vec<String> {
    let frames = std::fs::read_to_string(log).expect("frames");
    frames.lines().filter(|line| line.starts_with("draft ")).map(str::to_owned).collect()
}

fn shown(rows: &Value) -> Option<String> {
    let rows = rows["models"].as_array().expect("rows");
    let large = rows.iter().find(|row| row["name"].as_str().is_some_and(|name| name.starts_with("large")));
    large.expect("the large one")["draft_model"].as_str().map(str::to_owned)
}

#[test]
fn a_smaller_model_of_the_same_vocabulary_is_handed_over_and_shown() {
    for (setting, name) in [("auto", Some("small")), ("small", Some("small")), ("off", None)] {
        let (home, log) = home(setting);
        home.done(&["chat", "large", "-m", "hello"]);
        assert_eq!(drafts(&log).len(), usize::from(name.is_some()), "{setting}");
        for shown in [shown(&home.status()), shown(&home.json(&["models", "--json"]))] {
            let expected = name.map(str::to_owned);
            assert_eq!(
                shown.map(|shown| shown.split(':').next().unwrap_or_default().to_owned()),
                expected,
                "{setting}"
            );
        }
        // The small one says by itself what it says, and nobody guesses for it.
        home.done(&["chat", "small", "-m", "hello"]);
    }
}

#[test]
fn a_named_one_of_another_vocabulary_is_an_error_in_words() {
    let (home, log) = home("odd");
    let ran = home.run(&["chat", "large", "-m", "hello"]);
    let said = ran.fails(5, "model_unfit").err.clone();
    assert!(said.contains("`odd") && said.contains("vocabulary") && said.contains("draft_model"), "{said}");
    assert!(!log.exists(), "nothing was loaded");
}

#[test]
fn a_named_one_that_is_not_smaller_is_an_error_with_both_sizes() {
    let (home, log) = home("large");
    let ran = home.run(&["chat", "small", "-m", "hello"]);
    let said = ran.fails(5, "model_unfit").err.clone();
    assert!(said.contains("`large") && said.contains("aren't smaller") && said.contains("draft_model"), "{said}");
    assert!(said.matches("iB").count() >= 2, "{said}");
    assert!(!log.exists(), "nothing was loaded");
    home.done(&["chat", "large", "-m", "hello"]);
    assert!(drafts(&log).is_empty(), "it is no help to itself");
}
