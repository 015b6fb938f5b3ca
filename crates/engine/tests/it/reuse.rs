//! Whose kept sequences an ask may go on from, and what its answer says of them.

use crate::bench::{Bench, DEFAULT, Said, ask_of};
use base::Priority;
use base::answer::{Differs, Reuse};
use testkit::{Script, Step};

fn scopes(bench: &Bench) -> Vec<u64> {
    let begins = bench.frames().into_iter().filter(|line| line.starts_with("begin "));
    let scope = |line: String| line.split("scope=").nth(1)?.split(' ').next()?.parse().ok();
    begins.filter_map(scope).collect()
}

fn ask_all(bench: &Bench, apps: &[&str]) {
    let model = bench.chat("m", &Script::default().logged(&bench.log()));
    for app in apps {
        let ask = ask_of(app, Priority::Interactive, "hello");
        Said::all(&mut bench.engine.submit(model.clone(), ask)).is_well(DEFAULT);
    }
}

#[test]
fn every_app_has_a_scope_of_its_own() {
    let bench = Bench::new();
    ask_all(&bench, &["notes", "mail", "notes", "Notes"]);
    let scopes = scopes(&bench);
    let [notes, mail, again, other] = scopes[..] else { panic!("{scopes:?}") };
    assert_eq!(notes, again);
    assert!(notes != mail && notes != other && mail != other && scopes.iter().all(|scope| *scope != 0), "{scopes:?}");
}

#[test]
fn without_the_cache_nothing_is_kept() {
    let bench = Bench::with(|config, _| config.prefix_cache = false);
    ask_all(&bench, &["notes", "mail"]);
    assert_eq!(scopes(&bench), [0, 0]);
}

#[test]
fn an_answer_says_what_of_its_prompt_was_there() {
    let bench = Bench::new();
    let differs = Some(("Monday".to_owned(), "Tuesday".to_owned()));
    let script = Script::default().on("again", vec![Step::Reused(7, 5, differs), Step::Text("yes".into())]);
    let model = bench.chat("m", &script);
    let usage = bench.say(&model, "again").usage.expect("it is said");
    let differs = Differs { at: 12, kept: "Monday".into(), asked: "Tuesday".into() };
    assert_eq!(usage.cached_tokens, 12);
    assert_eq!(usage.reuse, Reuse { live_tokens: 7, memory_tokens: 5, differs: Some(differs) });
    assert_eq!(bench.say(&model, "new").usage.expect("it is said").reuse, Reuse::default());
}
