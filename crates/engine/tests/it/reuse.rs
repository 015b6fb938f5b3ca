//! Whose kept sequences an ask may go on from, and what its answer says of them.

use crate::bench::{Bench, DEFAULT, Said, ask_of, read_text};
use base::answer::{Differs, Reuse};
use base::{AppId, Bytes, Code, Priority};
use engine::PromptsForgotten;
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
    assert_eq!(usage.reuse, Reuse { live_tokens: 7, memory_tokens: 5, disk_tokens: 0, differs: Some(differs) });
    assert_eq!(bench.say(&model, "new").usage.expect("it is said").reuse, Reuse::default());
}

#[test]
fn workers_are_told_to_let_go_of_what_they_keep_and_say_how_much_it_was() {
    let bench = Bench::new();
    assert_eq!(bench.engine.forget_prompts(None, None), Ok(PromptsForgotten::default()));
    ask_all(&bench, &["notes", "mail"]);
    let all = bench.engine.forget_prompts(None, None).expect("it is said");
    assert_eq!((all.states, all.states_bytes, all.left), (1, Bytes(1000), 0));
    bench.until_frame("forget 0");
    let mail = scopes(&bench)[1];
    bench.engine.forget_prompts(Some(&AppId("mail".into())), None).expect("it is said");
    bench.until_frame(&format!("forget {mail}"));
    // Of a model that isn't there nothing is kept.
    let none = bench.engine.forget_prompts(None, Some("other")).expect("it is said");
    assert_eq!(none, PromptsForgotten::default());
}

#[test]
fn a_worker_that_hangs_and_is_ended_has_let_go_too() {
    let bench = Bench::with(|_, tuning| (tuning.ping_after_ms, tuning.hang_ms) = (50, 100));
    let model = bench.chat("m", &Script::default().on("hangs", vec![Step::Text("x".into()), Step::Hang]));
    let mut answer = bench.submit(&model, "hangs");
    read_text(&mut answer, "x");
    assert_eq!(bench.engine.forget_prompts(None, None), Ok(PromptsForgotten::default()));
    assert_eq!(Said::all(&mut answer).fault().code, Code::WorkerDied);
}
