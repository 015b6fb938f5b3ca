use super::*;
use proptest::prelude::*;

fn message(role: Role, content: &str) -> Message {
    Message::new(role, content)
}

fn conversation() -> Vec<Message> {
    [
        (Role::System, "be brief"),
        (Role::User, "one"),
        (Role::Assistant, "1"),
        (Role::System, "now in French"),
        (Role::User, "two"),
        (Role::User, "and a half"),
        (Role::Assistant, "2.5"),
        (Role::Tool, "looked up"),
        (Role::User, "three"),
    ]
    .map(|(role, content)| message(role, content))
    .to_vec()
}

fn said(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| message.content.as_str()).collect()
}

#[test]
fn whole_turns_go_and_system_text_stays() {
    let all = conversation();
    assert_eq!(without(&all, 0), all);
    let later = ["be brief", "now in French", "two", "and a half", "2.5", "looked up", "three"];
    assert_eq!(said(&without(&all, 1)), later);
    assert_eq!(said(&without(&all, 2)), ["be brief", "now in French", "three"]);
    // The last turn isn't to be had for any number.
    assert_eq!(without(&all, 9), without(&all, 2));
    let only = [message(Role::System, "a"), message(Role::User, "b"), message(Role::User, "c")];
    assert_eq!(without(&only, 3), only);
    assert_eq!(without(&[], 1), []);
}

#[test]
fn a_greeting_before_the_first_question_is_a_turn() {
    let all = [message(Role::Assistant, "hello"), message(Role::User, "a"), message(Role::Assistant, "b")];
    assert_eq!(said(&without(&all, 1)), ["a", "b"]);
}

/// Every message of 10 tokens: what a search does, and how often it counts.
fn search(messages: &[Message], available: u32, answer: Option<u32>) -> (Step, u32) {
    let tokens = |messages: &[Message]| 10 * u32::try_from(messages.len()).unwrap();
    solve(messages, available, answer, &tokens)
}

fn solve(messages: &[Message], available: u32, answer: Option<u32>, tokens: &dyn Fn(&[Message]) -> u32) -> (Step, u32) {
    let mut search = Search::new(messages, tokens(messages), available, answer);
    let mut counts = 0;
    loop {
        match search.step() {
            Step::Count(turns) => {
                counts += 1;
                search.learn(turns, tokens(&without(messages, turns)));
            }
            step => return (step, counts),
        }
    }
}

#[test]
fn as_few_as_will_do_and_never_what_must_stay() {
    let all = conversation();
    let left_out = |turns, messages, tokens| Step::Take(turns as usize, Compaction { turns, messages, tokens });
    assert_eq!(search(&all, 80, Some(1)).0, left_out(1, 2, 20));
    assert_eq!(search(&all, 70, Some(1)).0, left_out(2, 6, 60));
    // An answer of up to ten tokens should have its place.
    assert_eq!(search(&all, 80, Some(10)).0, left_out(1, 2, 20));
    assert_eq!(search(&all, 79, Some(10)).0, left_out(2, 6, 60));
    // Without a word on its length it gets a quarter, and less where nothing more can go.
    assert_eq!(search(&all, 88, None).0, left_out(2, 6, 60));
    assert_eq!(search(&all, 94, None).0, left_out(1, 2, 20));
    assert_eq!(search(&all, 31, None).0, left_out(2, 6, 60));
    assert_eq!(search(&all, 30, None).0, Step::Never { requested: 31 });
    assert_eq!(search(&all[8..], 5, None), (Step::Never { requested: 11 }, 0));
    assert_eq!(search(&[message(Role::Assistant, "x")], 5, None), (Step::Never { requested: 11 }, 0));
}

#[test]
fn long_conversations_take_few_counts() {
    let mut all = Vec::new();
    for turn in 0..5_000 {
        all.push(message(Role::User, &"word ".repeat(1 + turn * 7 % 90)));
        all.push(message(Role::Assistant, &"answer ".repeat(1 + turn * 13 % 200)));
    }
    let words = |messages: &[Message]| {
        let words = messages.iter().map(|message| 4 + message.content.split(' ').count());
        u32::try_from(words.sum::<usize>()).unwrap()
    };
    let (step, counts) = solve(&all, 8192, Some(500), &words);
    assert!(matches!(step, Step::Take(turns, _) if turns > 4_000), "{step:?}");
    assert!(counts <= 6, "{counts} counts");
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![1 => Just(Role::System), 4 => Just(Role::User), 4 => Just(Role::Assistant), 1 => Just(Role::Tool)]
}

fn messages() -> impl Strategy<Value = Vec<Message>> {
    prop::collection::vec((role(), 0_usize..400), 0..40).prop_map(|list| {
        // The number in front tells every message from every other.
        let text =
            |(place, (role, length)): (usize, (Role, usize))| message(role, &format!("{place} {}", "x".repeat(length)));
        list.into_iter().enumerate().map(text).collect()
    })
}

proptest! {
    #[test]
    fn what_stays_is_all_but_the_oldest_turns(all in messages(), count in 0_usize..50) {
        let kept = without(&all, count);
        // Nothing is changed and nothing changes its place.
        let mut rest = all.iter();
        prop_assert!(kept.iter().all(|message| rest.any(|other| other == message)));
        let system = |list: &[Message]| list.iter().filter(|m| m.role == Role::System).cloned().collect::<Vec<_>>();
        prop_assert_eq!(system(&kept), system(&all));
        // From the last question on all is there.
        if let Some(last) = all.iter().rposition(|message| message.role == Role::User) {
            prop_assert!(kept.ends_with(&all[last..]));
        } else {
            prop_assert_eq!(&kept, &all);
        }
        // What is spoken begins with a question again, unless nothing went.
        let spoken = |list: &[Message]| list.iter().find(|m| m.role != Role::System).map(|m| m.role);
        if kept.len() < all.len() {
            prop_assert_eq!(spoken(&kept), Some(Role::User));
        }
        // One turn more is never less that goes.
        prop_assert!(without(&all, count + 1).len() <= kept.len());
    }

    #[test]
    fn the_search_finds_the_fewest_turns_that_will_do(
        all in messages(),
        weights in prop::collection::vec(1_u32..200, 40),
        available in 1_u32..3000,
        answer in prop::option::of(1_u32..2000),
    ) {
        // As unlike the bytes as can be.
        let weight = |m: &Message| {
            let place = m.content.split(' ').next().and_then(|place| place.parse::<usize>().ok());
            weights[place.unwrap()]
        };
        let tokens = |list: &[Message]| list.iter().map(weight).sum::<u32>();
        prop_assume!(tokens(&all) >= available);
        let (step, counts) = solve(&all, available, answer, &tokens);
        prop_assert!(counts <= 3 * (all.len() + 2).ilog2() + 3, "{} counts for {}", counts, all.len());
        let most = (available / ANSWER_SHARE).max(1);
        let room = answer.map_or(most, |answer| answer.min(most));
        let fits = |count: usize, room: u32| tokens(&without(&all, count)) + room <= available;
        let last = turns(&all).len().saturating_sub(1);
        match step {
            Step::Count(_) => prop_assert!(false, "no end"),
            Step::Take(count, said) => {
                prop_assert!(count > 0 && fits(count, 1));
                prop_assert!(fits(count, room) || count == last);
                prop_assert!(!fits(count - 1, room));
                let kept = without(&all, count);
                prop_assert_eq!(said.messages as usize, all.len() - kept.len());
                prop_assert_eq!(said.tokens, tokens(&all) - tokens(&kept));
                prop_assert_eq!(said.turns as usize, count);
            }
            Step::Never { requested } => {
                prop_assert!((0..=last).all(|count| !fits(count, 1)));
                prop_assert_eq!(requested, tokens(&without(&all, last)) + 1);
            }
        }
    }
}
