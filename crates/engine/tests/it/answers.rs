//! Streaming, several at once, cancelling, deadlines, bounds.

use crate::bench::{Bench, DEFAULT, Said, ask, next, read_text, read_until};
use base::answer::Progress;
use base::{AppId, Code, Delta, Finish, Limits};
use engine::{Attempt, ModelSource};
use testkit::{Gate, Script, Step};

fn text(words: &str) -> Step {
    Step::Text(words.into())
}

#[test]
fn an_answer_streams_in_order_and_ends_with_usage_and_done() {
    let bench = Bench::new();
    let script = Script::default()
        .loading(vec![Step::Percent(40)])
        .on("hello", vec![Step::Prefill(5, 10), text("Ja"), text("wohl"), text(", ü"), text("ber all.")]);
    let model = bench.chat("talker", &script);
    let said = bench.say(&model, "hello you");
    said.is_well("Jawohl, über all.");
    assert_eq!(said.finish, Some(Finish::EndOfTurn));
    let usage = said.usage.expect("checked");
    assert_eq!((usage.model.as_str(), usage.context_tokens, usage.completion_tokens), ("talker", 2048, 4));
    assert!(usage.prompt_tokens > 0 && usage.load_us > 0, "{usage:?}");
    assert!(!said.progress.is_empty());
    // The second ask finds the model loaded.
    let usage = bench.say(&model, "hello again").usage.expect("a good end");
    assert_eq!(usage.load_us, 0);
}

#[test]
fn several_asks_run_at_once_on_one_worker() {
    let bench = Bench::new();
    let gates = [Gate::new(bench.home.path(), "a"), Gate::new(bench.home.path(), "b")];
    let wait = |gate: &Gate, name: &str| vec![text(name), Step::Wait(gate.path()), text("!")];
    let script =
        Script::default().on("first", wait(&gates[0], "1")).on("second", wait(&gates[1], "2")).logged(&bench.log());
    let model = bench.chat("many", &script);
    let mut answers = [bench.submit(&model, "first"), bench.submit(&model, "second")];
    read_text(&mut answers[0], "1");
    read_text(&mut answers[1], "2");
    // Both are in the middle; the later one ends first.
    gates[1].release(1);
    Said::all(&mut answers[1]).is_well("!");
    gates[0].release(1);
    Said::all(&mut answers[0]).is_well("!");
    assert_eq!(bench.frames().iter().filter(|line| line.starts_with("load")).count(), 1);
}

#[test]
fn the_worker_gets_the_rendered_prompt() {
    let bench = Bench::new();
    let model = bench.chat("templated", &Script::default().logged(&bench.log()));
    bench.say(&model, "who?").is_well(DEFAULT);
    let begin = bench.until_frame("begin");
    let expected =
        "<|im_start|>system\\nBe brief.<|im_end|>\\n<|im_start|>user\\nwho?<|im_end|>\\n<|im_start|>assistant\\n";
    assert!(begin.contains(expected), "{begin}");
}

#[test]
fn a_failing_template_fails_its_own_ask_only() {
    let bench = Bench::new();
    let refuser = "{% for m in messages %}{% if m.content == 'bad' %}{{ raise_exception('not that') }}{% endif %}\
                   {{ m.content }}{% endfor %}";
    let model = with_template(&bench, "refuser", refuser);
    let said = bench.say(&model, "bad");
    assert_eq!(said.fault().code, Code::TemplateFailed);
    assert!(said.fault().message.contains("not that"), "{said:?}");
    bench.say(&model, "good").is_well(DEFAULT);
}

fn with_template(bench: &Bench, name: &str, template: &str) -> ModelSource {
    let mut model = bench.chat(name, &Script::default());
    let mut facts = (*model.facts).clone();
    facts.chat_template = Some(template.into());
    model.facts = facts.into();
    model
}

/// A text doubled forty times has a million times a million letters; no step of that is a long one.
#[test]
fn a_template_that_takes_all_memory_costs_its_own_ask() {
    let bench = Bench::new();
    let greedy = "{% for m in messages %}{{ m.content }}{% if m.content == 'grow' %}{% set ns = namespace(x='a' * 1000000) %}\
                  {% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{% endif %}{% endfor %}";
    let model = with_template(&bench, "greedy", greedy);
    bench.say(&model, "hello").is_well(DEFAULT);
    let said = bench.say(&model, "grow");
    assert_eq!(said.fault().code, Code::TemplateFailed);
    assert!(said.fault().message.contains("1.0 GiB of memory") && !said.fault().hints.is_empty(), "{said:?}");
    bench.say(&model, "hello").is_well(DEFAULT);
}

#[test]
fn a_dropped_answer_is_cancelled_while_queued() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let script = Script::default().slots(1).on("holds", vec![text("x"), Step::Wait(gate.path())]).logged(&bench.log());
    let model = bench.chat("single", &script);
    let mut first = bench.submit(&model, "holds the slot");
    read_text(&mut first, "x");
    let mut queued = bench.submit(&model, "never begins");
    assert_eq!(next(&mut queued), Some(Ok(Delta::Progress(Progress::Queued))));
    drop(queued);
    gate.release(1);
    Said::all(&mut first).is_well("");
    bench.say(&model, "comes after").is_well(DEFAULT);
    let frames = bench.frames();
    assert!(frames.iter().all(|line| !line.contains("never begins") && !line.starts_with("cancel")), "{frames:?}");
}

#[test]
fn a_dropped_answer_is_cancelled_while_loading() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let script = Script::default().loading(vec![Step::Percent(10), Step::Wait(gate.path())]).logged(&bench.log());
    let model = bench.chat("slow", &script);
    let mut answer = bench.submit(&model, "never begins");
    read_until(&mut answer, |delta| matches!(delta, Delta::Progress(Progress::Loading { percent: 10, .. })));
    drop(answer);
    gate.release(1);
    bench.say(&model, "comes after").is_well(DEFAULT);
    assert!(bench.frames().iter().all(|line| !line.contains("never begins")), "{:?}", bench.frames());
}

/// One slot: that the next ask is answered shows that the slot came back.
#[track_caller]
fn check_cancel(before: Vec<Step>, reached: impl Fn(&Delta) -> bool) {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let mut steps = before;
    steps.extend([Step::Wait(gate.path()), text("too late")]);
    let script = Script::default().slots(1).on("goes on", steps).logged(&bench.log());
    let model = bench.chat("single", &script);
    let mut answer = bench.submit(&model, "goes on");
    read_until(&mut answer, reached);
    let id = answer.id();
    drop(answer);
    bench.until_frame(&format!("cancel {}", id.0));
    bench.say(&model, "comes after").is_well(DEFAULT);
}

#[test]
fn a_dropped_answer_is_cancelled_in_the_middle_of_its_prefill() {
    check_cancel(vec![Step::Prefill(512, 6000)], |delta| {
        matches!(delta, Delta::Progress(Progress::Prefill { done: 512, total: 6000 }))
    });
}

#[test]
fn a_dropped_answer_is_cancelled_while_it_is_generated() {
    check_cancel(vec![text("a"), text("b")], |delta| matches!(delta, Delta::Text(_)));
}

#[test]
fn a_deadline_covers_the_answer_and_the_worker_knows_what_is_left() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let script = Script::default().on("dawdles", vec![text("x"), Step::Wait(gate.path())]).logged(&bench.log());
    let model = bench.chat("late", &script);
    bench.say(&model, "loads").is_well(DEFAULT);
    let mut ask = ask("dawdles");
    ask.limits = Limits { deadline_ms: Some(300), tokens_max: None };
    let mut answer = bench.engine.submit(model.clone(), ask);
    let id = answer.id();
    let said = Said::all(&mut answer);
    assert_eq!((said.text.as_str(), said.fault().code), ("x", Code::DeadlineExceeded));
    assert!(said.fault().message.contains("300 ms"), "{said:?}");
    let begin = bench.until_frame(&format!("begin {}", id.0));
    let left = begin.split("deadline=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(left.is_some_and(|left| (1..=300).contains(&left)), "{begin}");
    bench.until_frame(&format!("cancel {}", id.0));
}

#[test]
fn a_deadline_covers_the_load() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let model = bench.chat("slow", &Script::default().loading(vec![Step::Wait(gate.path())]));
    let mut ask = ask("anything");
    ask.limits = Limits { deadline_ms: Some(200), tokens_max: None };
    let said = Said::all(&mut bench.engine.submit(model, ask));
    assert_eq!(said.fault().code, Code::DeadlineExceeded);
    assert!(said.fault().message.contains("the model was loading"), "{said:?}");
}

#[test]
fn a_prompt_that_does_not_fit_is_a_fault_with_both_numbers() {
    let bench = Bench::new();
    let model = bench.chat("small", &Script::default().on("long", vec![Step::Overflow(9000, 2048)]));
    let said = bench.say(&model, "long");
    assert_eq!(said.fault().code, Code::ContextOverflow);
    assert!(said.fault().message.contains("9000") && said.fault().message.contains("2048"), "{said:?}");
    assert_eq!(said.text, "");
    bench.say(&model, "short").is_well(DEFAULT);
}

#[test]
fn a_full_queue_says_so_and_apps_are_told_apart() {
    let bench = Bench::with(|_, tuning| tuning.app_queue_max = 2);
    let gate = Gate::new(bench.home.path(), "g");
    let script = Script::default().slots(1).on("holds", vec![text("x"), Step::Wait(gate.path())]);
    let model = bench.chat("single", &script);
    let mut first = bench.submit(&model, "holds");
    read_text(&mut first, "x");
    let mut waiting = [bench.submit(&model, "a"), bench.submit(&model, "b")];
    let said = bench.say(&model, "c");
    assert_eq!(said.fault().code, Code::Busy);
    assert!(said.fault().message.contains("2 asks"), "{said:?}");
    let mut other = ask("d");
    other.app = AppId("other".into());
    let mut other = bench.engine.submit(model, other);
    gate.release(1);
    for answer in &mut waiting {
        Said::all(answer).is_well(DEFAULT);
    }
    Said::all(&mut other).is_well(DEFAULT);
}

#[test]
fn an_ask_that_the_worker_refuses_has_its_words() {
    let bench = Bench::new();
    let model = bench.chat("m", &Script::default().on("fail", vec![Step::Fail("tensor went missing".into())]));
    let said = bench.say(&model, "fail");
    assert_eq!((said.fault().code, said.fault().cause.as_deref()), (Code::Internal, Some("tensor went missing")));
    bench.say(&model, "works").is_well(DEFAULT);
}

#[test]
fn probes_come_even_when_every_slot_is_taken() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let model = bench.chat("m", &Script::default().slots(1).on("holds", vec![text("x"), Step::Wait(gate.path())]));
    let mut first = bench.submit(&model, "holds");
    read_text(&mut first, "x");
    assert_eq!(bench.engine.probe(model, Attempt::Fork).expect("an answer"), 0);
    gate.release(1);
    Said::all(&mut first).is_well("");
}

#[test]
fn options_are_judged_and_nothing_is_said() {
    let bench = Bench::new();
    let model = bench.chat("judge", &Script::default().on("fail", vec![Step::Fail("no".into())]).logged(&bench.log()));
    let score = |prompt: &str, whole| {
        let messages = vec![base::Message::new(base::Role::User, prompt)];
        let options = vec!["yes".into(), "not at all".into()];
        let score = base::Score::new(AppId("test".into()), String::new(), messages, options).expect("valid");
        bench.engine.score_blocking(model.clone(), base::Score { whole, ..score })
    };
    let scores = score("is it?", true).expect("a score");
    let tokens: Vec<u32> = scores.options.iter().map(|likelihood| likelihood.tokens).collect();
    assert_eq!(tokens, [2, 4]);
    assert!((scores.options[0].log - 0.25_f64.ln()).abs() < 1e-9, "{scores:?}");
    assert_eq!(scores.usage.model, "judge");
    let bare = score("is it?", false).expect("a score");
    assert_eq!(bare.options[1].tokens, 3);
    assert!(bench.until_frame("begin").contains("options=[\"yes\", \"not at all\"]"));
    assert_eq!(score("fail", true).expect_err("the script says so").code, Code::Internal);
}
