//! A person's own files: used where they lie, or refused with a sentence.

use crate::Home;
use base::Code;
use freehold_store::{Source, Store, read_header};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use testkit::model::{TestModel, chat_gguf, embed_gguf};
use testkit::script::Script;

const NOWHERE: &str = "https://hub.invalid";

fn script() -> Script {
    Script::default()
}

#[test]
fn a_file_is_used_in_place_and_known_after_a_restart() {
    let home = Home::new(NOWHERE);
    let model = TestModel::chat(&home.path("mine"), "Tiny-Chat.Q4_1", &script());
    let before = std::fs::read(&model.path).unwrap();
    let entry = home.store.add(&model.path).unwrap().remove(0);
    assert_eq!((entry.name.0.as_str(), entry.source.clone()), ("tiny-chat:q4_1", Source::InPlace));
    assert_eq!((entry.parts.as_slice(), entry.sha256.as_ref()), ([model.path.clone()].as_slice(), None));
    assert_eq!((entry.facts.clone(), entry.problem()), (model.facts.clone(), None));
    assert_eq!(std::fs::read_dir(home.path("models/blobs")).unwrap().count(), 0, "nothing is copied");

    let again = Store::open(home.dir.path()).unwrap();
    assert_eq!(again.list(), home.store.list());
    assert_eq!(again.find("TINY").unwrap().name, entry.name);
    again.remove("tiny-chat:q4_1").unwrap();
    assert_eq!(std::fs::read(&model.path).unwrap(), before, "a person's own file stays");
    assert!(again.list().is_empty() && Store::open(home.dir.path()).unwrap().list().is_empty());
}

#[test]
fn of_several_forms_of_one_model_the_usual_one_is_meant() {
    let home = Home::new(NOWHERE);
    for file in ["Tiny.Q4_1", "Tiny.Q8_0", "Tiniest.Q8_0"] {
        home.store.add(&TestModel::chat(&home.path(file), file, &script()).path).unwrap();
    }
    let found = |name: &str| home.store.find(name).map(|entry| entry.name.0);
    assert_eq!(found("tiny").unwrap_err().code, Code::ModelMissing, "none of its forms is taken by itself");
    for name in ["tiny:q8_0", "tiny:q4_1"] {
        home.store.set_default(name).unwrap();
        assert_eq!((found(" Tiny").unwrap().as_str(), found(name).unwrap().as_str()), (name, name));
    }
    let fault = found("tin").unwrap_err();
    assert!(fault.message.contains("`tiny:q4_1` or `tiny:q8_0`"), "a beginning names models, not forms: {fault}");
}

#[test]
fn headers_made_by_another_hand_are_read_alike() {
    let dir = tempfile::tempdir().unwrap();
    let chat = TestModel::chat(dir.path(), "tiny", &script());
    assert_eq!(read_header(&chat.path).unwrap().0, chat.facts);
    let embed = TestModel::embed(dir.path(), "vectors", &script());
    let facts = read_header(&embed.path).unwrap().0;
    // An encoder keeps no keys and values from token to token.
    assert_eq!(facts, base::ModelFacts { kv_bytes_per_token: 0, ..embed.facts });
}

#[test]
fn a_folder_gives_all_its_models_and_tells_what_it_refused() {
    let home = Home::new(NOWHERE);
    let folder = home.path("models-of-mine");
    TestModel::chat(&folder, "one", &script());
    TestModel::embed(&folder.join("deep/er"), "two", &script());
    let elsewhere = TestModel::chat(&home.path("elsewhere"), "linked", &script());
    std::os::unix::fs::symlink(&elsewhere.path, folder.join("three.gguf")).unwrap();
    std::os::unix::fs::symlink(&folder, folder.join("deep/circle")).unwrap();
    std::fs::write(folder.join("notes.txt"), "no model").unwrap();
    let whole = chat_gguf("cut", &script()).to_bytes();
    std::fs::write(folder.join("cut.gguf"), &whole[..whole.len() - 100]).unwrap();
    // Another program's content-addressed files carry no ending.
    let blob = folder.join(format!("sha256-{}", "0f".repeat(32)));
    std::fs::write(&blob, embed_gguf("Addressed Model", &script()).to_bytes()).unwrap();

    let mut refused = Vec::new();
    let mut names: Vec<_> = home
        .store
        .add_each(&folder, &mut |path, fault| refused.push((path.to_path_buf(), fault.clone())))
        .unwrap()
        .into_iter()
        .map(|entry| entry.name.0)
        .collect();
    names.sort();
    assert_eq!(names, ["addressed-model:f32", "one:f32", "three:f32", "two:f32"]);
    assert_eq!(refused.len(), 1);
    assert!(refused[0].0.ends_with("cut.gguf") && refused[0].1.message.contains("cut off"), "{refused:?}");
}

#[test]
fn a_vanished_or_changed_file_shows_as_a_problem() {
    let home = Home::new(NOWHERE);
    let gone = TestModel::chat(&home.path("mine"), "gone", &script());
    let changed = TestModel::chat(&home.path("mine"), "changed", &script());
    home.store.add(&home.path("mine")).unwrap();
    std::fs::remove_file(&gone.path).unwrap();
    let file = std::fs::File::options().write(true).open(&changed.path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let problem = |name: &str| home.store.find(name).unwrap().problem().unwrap_or_default();
    assert!(problem("gone").contains("is gone"), "{}", problem("gone"));
    assert!(problem("changed").contains("was changed"), "{}", problem("changed"));
    home.store.add(&changed.path).unwrap();
    assert_eq!(home.store.find("changed").unwrap().problem(), None);
    assert_eq!(home.store.list().len(), 2);
}

#[test]
fn split_models_are_one_entry_and_a_missing_part_is_named() {
    let home = Home::new(NOWHERE);
    let dir = home.path("split");
    std::fs::create_dir_all(&dir).unwrap();
    let part = |number: u16, name: &str| {
        use testkit::gguf::{Gguf, Value};
        let gguf = if number == 0 { chat_gguf("whole", &script()) } else { Gguf::default() };
        let gguf = gguf
            .set("split.no", Value::U32(number.into()))
            .set("split.count", Value::U32(2))
            .set("split.tensors.count", Value::U32(2));
        let gguf = if number == 0 { gguf } else { gguf.tensor("output.weight", &[32, 8], vec![0.5; 256]) };
        std::fs::write(dir.join(name), gguf.to_bytes()).unwrap();
    };
    part(0, "whole-00001-of-00002.gguf");
    let fault = home.store.add(&dir).unwrap_err();
    assert!(fault.code == Code::ModelInvalid && fault.message.contains("whole-00002-of-00002.gguf"), "{fault}");
    part(1, "whole-00002-of-00002.gguf");
    let entries = home.store.add(&dir).unwrap();
    assert_eq!((entries.len(), entries[0].name.0.as_str()), (1, "whole:f32"));
    assert_eq!(entries[0].parts.len(), 2);
    assert_eq!((entries[0].facts.parameters, entries[0].facts.weights_bytes), (512, 2048));
    let second = home.store.add(&dir.join("whole-00002-of-00002.gguf")).unwrap();
    assert_eq!(second[0].name, entries[0].name, "any part stands for the whole");
    part(0, "other-00001-of-00003.gguf");
    part(1, "other-00002-of-00003.gguf");
    part(1, "other-00003-of-00003.gguf");
    let fault = home.store.add(&dir.join("other-00001-of-00003.gguf")).unwrap_err();
    assert!(fault.message.contains("2 parts, its name of 3"), "{fault}");
}

/// Each refusal: what stands at the path, the code, a word of the sentence; every one has a hint.
#[test]
fn what_can_t_be_used_is_refused_with_a_sentence_and_a_hint() {
    let home = Home::new(NOWHERE);
    let at = |name: &str| home.path(name);
    let whole = chat_gguf("tiny", &script()).to_bytes();
    std::fs::create_dir(at("empty")).unwrap();
    std::fs::create_dir(at("texts")).unwrap();
    std::fs::write(at("texts/a.txt"), "a").unwrap();
    std::fs::write(at("texts/b.md"), "b").unwrap();
    std::fs::create_dir(at("broken")).unwrap();
    std::fs::write(at("broken/a.gguf"), "a").unwrap();
    std::fs::write(at("broken/b.gguf"), "b").unwrap();
    std::fs::write(at("letter.txt"), "Dear reader").unwrap();
    std::fs::write(at("nothing.gguf"), "").unwrap();
    std::fs::write(at("cut.gguf"), &whole[..whole.len() / 2]).unwrap();
    let mut absurd = whole.clone();
    absurd[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(at("absurd.gguf"), absurd).unwrap();
    std::fs::write(
        at("eyes.gguf"),
        chat_gguf("x", &script()).set("general.type", testkit::gguf::Value::text("mmproj")).to_bytes(),
    )
    .unwrap();
    for (name, code, word) in [
        ("not-there.gguf", Code::FileMissing, "does not exist"),
        ("empty", Code::ModelMissing, "is empty"),
        ("texts", Code::ModelMissing, "2 files, but no GGUF"),
        ("broken", Code::ModelInvalid, "none of the 2 model files"),
        ("letter.txt", Code::ModelInvalid, "begins with `Dear`"),
        ("nothing.gguf", Code::ModelInvalid, "it is empty"),
        ("cut.gguf", Code::ModelInvalid, "the file holds"),
        ("absurd.gguf", Code::ModelInvalid, "18446744073709551615 tensors"),
        ("eyes.gguf", Code::ModelUnfit, "picture part"),
    ] {
        let fault = home.store.add(&at(name)).unwrap_err();
        assert_eq!(fault.code, code, "{name}: {fault}");
        assert!(fault.message.contains(word), "{name}: {fault}");
        assert!(!fault.hints.is_empty(), "{name}: {fault}");
    }
    assert!(home.store.list().is_empty());
    let fault = home.store.add(Path::new("/dev/null")).unwrap_err();
    assert!(fault.message.contains("isn't a file"), "{fault}");
}

/// Root may read everything, so the look is taken as another user, by one thread of ours.
#[cfg(target_os = "linux")]
#[test]
fn an_unreadable_file_or_folder_is_said_to_be_one() {
    let home = Home::new(NOWHERE);
    let dir = home.path("mine");
    let model = TestModel::chat(&dir, "locked", &script());
    let closed = dir.join("closed");
    std::fs::create_dir(&closed).unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(home.dir.path(), 0o755);
    mode(&dir, 0o755);
    mode(&model.path, 0o000);
    mode(&closed, 0o000);
    let look = |path: &Path| {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    if rustix::process::geteuid().is_root() {
                        let nobody = rustix::process::Uid::from_raw(65_534);
                        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).expect("root may become nobody");
                    }
                    home.store.add(path).unwrap_err()
                })
                .join()
                .unwrap()
        })
    };
    for path in [&model.path, &closed] {
        let fault = look(path);
        assert_eq!(fault.code, Code::FileUnreadable, "{fault}");
        assert!(fault.message.contains("not allowed") && fault.hints[0].contains("ls -l"), "{fault:?}");
    }
    mode(&closed, 0o755);
}

#[test]
fn a_store_that_can_t_be_written_changes_nothing() {
    let home = Home::new(NOWHERE);
    let one = TestModel::chat(&home.path("mine"), "one", &script());
    // A folder in the place of the file that becomes the new index.
    std::fs::create_dir(home.path("models/index.new")).unwrap();
    let fault = home.store.add(&one.path).unwrap_err();
    assert_eq!(fault.code, Code::FileUnwritable, "{fault}");
    assert!(home.store.list().is_empty(), "memory and disk agree");
    std::fs::remove_dir(home.path("models/index.new")).unwrap();
    home.store.add(&one.path).unwrap();
    assert_eq!(Store::open(home.dir.path()).unwrap().list().len(), 1);
}
