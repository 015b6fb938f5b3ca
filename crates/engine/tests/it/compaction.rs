//! Conversations that outgrow the window: what goes, what stays, and that it is said.

use crate::bench::{Bench, DEFAULT, Said, ask};
use base::{Ask, Code, Limits, Message, Overflow, Role};
use testkit::{Script, Step};

const TURNS: usize = 12;

/// A system text and turns of ten words each, with a word that tells each from the others.
fn conversation() -> Ask {
    let mut messages = vec![Message::new(Role::System, "steady rules for all")];
    for turn in 0..TURNS {
        messages.push(Message::new(Role::User, format!("question{turn} a b c d")));
        messages.push(Message::new(Role::Assistant, format!("answer{turn} a b c d")));
    }
    messages.push(Message::new(Role::User, "the last question"));
    Ask { messages, overflow: Overflow::Compact, ..ask("") }
}

fn prompts(bench: &Bench) -> Vec<String> {
    bench.frames().into_iter().filter(|line| line.starts_with("begin")).collect()
}

#[test]
fn the_oldest_turns_go_and_the_answer_says_which() {
    let bench = Bench::new();
    let script = Script::default().windowed(80).logged(&bench.log());
    let model = bench.chat("small", &script);
    let said = Said::all(&mut bench.engine.submit(model.clone(), conversation()));
    said.is_well(DEFAULT);
    let compaction = said.compacted.expect("something went");
    assert_eq!(compaction.messages, 2 * compaction.turns);
    let [whole, kept] = prompts(&bench).try_into().expect("two prompts were sent");
    let gone = compaction.turns as usize;
    for turn in 0..TURNS {
        assert_eq!(kept.contains(&format!("question{turn} ")), turn >= gone, "{kept}");
        assert_eq!(kept.contains(&format!("answer{turn} ")), turn >= gone, "{kept}");
    }
    assert!(kept.contains("steady rules for all") && kept.contains("the last question"), "{kept}");
    // A quarter of the window is left for the answer, and one turn more would not have left it.
    let tokens = said.usage.expect("a good end").prompt_tokens;
    let each = 11;
    assert!(tokens + 20 <= 80 && tokens + each + 20 > 80, "{tokens}");
    assert_eq!(compaction.tokens, u32::try_from(gone).expect("few") * compaction.tokens / compaction.turns);
    assert!(whole.len() > kept.len());
    // The next one, which fits, is left alone.
    let said = Said::all(&mut bench.engine.submit(model, Ask { overflow: Overflow::Compact, ..ask("short") }));
    said.is_well(DEFAULT);
    assert_eq!(said.compacted, None);
}

#[test]
fn nothing_goes_unless_the_caller_wants_it() {
    let bench = Bench::new();
    let model = bench.chat("small", &Script::default().windowed(80).logged(&bench.log()));
    let said = Said::all(&mut bench.engine.submit(model, Ask { overflow: Overflow::Error, ..conversation() }));
    assert_eq!((said.fault().code, said.compacted), (Code::ContextOverflow, None));
    let shortage = said.fault().shortage.expect("both numbers");
    assert!(shortage.requested > 80 && shortage.available == 80, "{shortage:?}");
    assert_eq!(prompts(&bench).len(), 1);
}

#[test]
fn what_must_stay_and_does_not_fit_is_a_fault_with_both_numbers() {
    let bench = Bench::new();
    let model = bench.chat("small", &Script::default().windowed(80).logged(&bench.log()));
    let mut long = conversation();
    long.messages.push(Message::new(Role::User, "word ".repeat(100)));
    let said = Said::all(&mut bench.engine.submit(model.clone(), long));
    let fault = said.fault();
    assert_eq!((fault.code, said.compacted), (Code::ContextOverflow, None));
    let shortage = fault.shortage.expect("both numbers");
    assert!(shortage.requested > 100 && shortage.requested < 130 && shortage.available == 80, "{fault:?}");
    let (requested, available) = (shortage.requested.to_string(), shortage.available.to_string());
    assert!(fault.message.contains(&requested) && fault.message.contains(&available), "{fault}");
    assert_eq!(prompts(&bench).len(), 1, "nothing was begun that can't be finished");
    // One turn alone: as without the wish.
    let alone = Ask { overflow: Overflow::Compact, ..ask(&"word ".repeat(100)) };
    let said = Said::all(&mut bench.engine.submit(model, alone));
    assert!(said.fault().message.starts_with("the prompt takes"), "{said:?}");
}

#[test]
fn a_window_that_shrank_meanwhile_is_fitted_again_and_not_for_ever() {
    let bench = Bench::new();
    // Says of what fits its own window that it doesn't fit a smaller one, however short it is.
    let script = Script::default().windowed(80).on("the last question", vec![Step::Overflow(70, 60)]);
    let model = bench.chat("fickle", &script.logged(&bench.log()));
    let said = Said::all(&mut bench.engine.submit(model, conversation()));
    assert_eq!(said.fault().code, Code::ContextOverflow);
    assert_eq!(prompts(&bench).len(), 3);
}

#[test]
fn a_deadline_covers_all_of_it() {
    let bench = Bench::new();
    let model = bench.chat("small", &Script::default().windowed(80).logged(&bench.log()));
    let mut late = conversation();
    late.limits = Limits { deadline_ms: Some(60_000), tokens_max: Some(5) };
    let said = Said::all(&mut bench.engine.submit(model, late));
    said.is_well(DEFAULT);
    // What is left of the deadline goes with the second prompt.
    let left =
        prompts(&bench)[1].split("deadline=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<u64>().ok());
    assert!(left.is_some_and(|left| (1..=60_000).contains(&left)), "{:?}", prompts(&bench));
}
