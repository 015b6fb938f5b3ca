//! The list of models, on real files made by another hand.

use super::*;
use crate::model::read_model;
use std::os::unix::fs::PermissionsExt;
use testkit::model::TestModel;
use testkit::script::Script;

fn chat(folder: &Path, name: &str) -> Model {
    read_model(&TestModel::chat(folder, name, &Script::default()).path).unwrap()
}

fn embed(folder: &Path, name: &str) -> Model {
    read_model(&TestModel::embed(folder, name, &Script::default()).path).unwrap()
}

fn hub() -> Source {
    Source::Hub { hub: "hub.example".into(), repo: "a/b".into(), files: vec!["c.gguf".into()] }
}

#[test]
fn names_clash_into_numbers_and_one_file_is_one_entry() {
    let home = tempfile::tempdir().unwrap();
    let mut index = Index::default();
    let first = index.adopt(chat(&home.path().join("one"), "tiny-chat"), Source::InPlace, None);
    let second = index.adopt(chat(&home.path().join("two"), "tiny-chat"), Source::InPlace, None);
    assert_eq!((first.name.0.as_str(), second.name.0.as_str()), ("tiny-chat:f32", "tiny-chat-2:f32"));
    let again = index.adopt(chat(&home.path().join("one"), "tiny-chat"), Source::InPlace, None);
    assert_eq!(again.name, first.name);
    let link = home.path().join("link.gguf");
    std::os::unix::fs::symlink(&first.parts[0], &link).unwrap();
    let linked = index.adopt(read_model(&link).unwrap(), Source::InPlace, None);
    assert_eq!(linked.name, first.name);
    assert_eq!(index.entries.len(), 2);
}

#[test]
fn names_are_found_by_whole_by_model_and_by_beginning() {
    let home = tempfile::tempdir().unwrap();
    let mut index = Index::default();
    for name in ["qwen3-8b", "qwen3-8b-instruct", "llama"] {
        index.adopt(chat(home.path(), name), Source::InPlace, None);
    }
    let names = |wanted: &str| index.matches(wanted).iter().map(|entry| entry.name.0.clone()).collect::<Vec<_>>();
    assert_eq!(names("QWEN3-8B:F32"), ["qwen3-8b:f32"]);
    assert_eq!(names("qwen3-8b"), ["qwen3-8b:f32"], "the untagged name beats a longer one");
    assert_eq!(names("qwen3-8b-"), ["qwen3-8b-instruct:f32"]);
    assert_eq!(names("qwen"), ["qwen3-8b:f32", "qwen3-8b-instruct:f32"]);
    assert!(names("gemma").is_empty() && names("  ").is_empty());
    let fault = index.missing("gemma");
    assert!(fault.message.contains("`gemma`") && fault.message.contains("`llama:f32`"), "{fault}");
    assert!(Index::default().missing("x").hints[0].contains("freehold pull starter"));
}

#[test]
fn the_default_is_the_chosen_one_then_the_pulled_one_and_never_a_broken_one() {
    let home = tempfile::tempdir().unwrap();
    let mut index = Index::default();
    let default = |index: &Index, kind| index.default_for(kind).map(|entry| entry.name.0.clone());
    assert_eq!(default(&index, Modality::Chat), None);
    let old = index.adopt(chat(home.path(), "old"), Source::InPlace, None);
    let pulled = index.adopt(chat(home.path(), "pulled"), hub(), None);
    index.adopt(chat(home.path(), "newest"), Source::InPlace, None);
    index.adopt(embed(home.path(), "vectors"), Source::InPlace, None);
    assert_eq!(default(&index, Modality::Chat).as_deref(), Some("pulled:f32"));
    assert_eq!(default(&index, Modality::Embed).as_deref(), Some("vectors:f32"));
    index.choose(&old);
    assert_eq!(default(&index, Modality::Chat).as_deref(), Some("old:f32"));
    assert_eq!(default(&index, Modality::Embed).as_deref(), Some("vectors:f32"));
    std::fs::write(&old.parts[0], b"GGUF").unwrap();
    assert!(index.entries.iter().find(|entry| entry.name == old.name).unwrap().problem().unwrap().contains("now 4"));
    assert_eq!(default(&index, Modality::Chat).as_deref(), Some("pulled:f32"));
    std::fs::remove_file(&pulled.parts[0]).unwrap();
    assert!(index.entries.iter().any(|entry| entry.problem().is_some_and(|problem| problem.contains("is gone"))));
    assert_eq!(default(&index, Modality::Chat).as_deref(), Some("newest:f32"));
    index.remove("OLD:f32").unwrap();
    assert_eq!(index.default_chat, None);
    assert_eq!(index.remove("new").unwrap_err().code, Code::ModelMissing, "no removal by a beginning");
}

#[test]
fn the_file_is_private_whole_and_refused_when_it_is_not_ours() {
    let home = tempfile::tempdir().unwrap();
    let file = IndexFile::new(home.path().join("index.json"));
    assert_eq!(file.read().unwrap(), Index::default());
    let mut index = Index::default();
    index.adopt(chat(home.path(), "tiny"), hub(), None);
    file.write(&index).unwrap();
    assert_eq!(file.read().unwrap(), index);
    assert_eq!(std::fs::metadata(&file.path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file.path).unwrap();
    std::fs::write(&file.path, text.replacen("\"version\": 1", "\"version\": 2", 1)).unwrap();
    assert!(file.read().unwrap_err().message.contains("version 2"));
    std::fs::write(&file.path, &text[..text.len() / 2]).unwrap();
    let fault = file.read().unwrap_err();
    assert!(fault.code == Code::ConfigInvalid && fault.hints[0].starts_with("`mv "), "{fault:?}");
}
