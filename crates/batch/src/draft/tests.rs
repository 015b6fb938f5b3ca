//! What is guessed, when it is worth it, and what a wrong guess may cost.

use super::*;
use proptest::prelude::*;

/// Each text is cut off after its last token, and the next ones are guessed.
fn guess(text: &[Token]) -> Option<(Vec<Token>, u32)> {
    let guess = Drafts::default().guess(text)?;
    let Source::Text { alike } = guess.source else { panic!("{guess:?} isn't from the text") };
    Some((guess.ahead().to_vec(), alike))
}

#[test]
fn what_followed_the_same_words_before_is_guessed() {
    assert_eq!(guess(&[]), None);
    assert_eq!(guess(&[1, 2, 3]), None);
    assert_eq!(guess(&[1, 2, 3, 1, 2, 3]), Some((vec![1, 2, 3], 3)));
    assert_eq!(guess(&[1, 2, 3, 4, 5, 9, 1, 2, 3]), Some((vec![4, 5, 9, 1, 2, 3], 3)));
    assert_eq!(guess(&[1, 2, 3, 4, 9, 2, 3]), None, "two are too few");
    // The longest common past wins, else the latest place.
    assert_eq!(guess(&[7, 1, 2, 3, 50, 8, 1, 2, 3, 60, 7, 1, 2, 3]).unwrap(), (vec![50, 8, 1, 2, 3, 60, 7], 4));
    assert_eq!(guess(&[7, 1, 2, 3, 50, 8, 1, 2, 3, 60, 9, 1, 2, 3]).unwrap().0[0], 60);
    // A text that says one thing over and over.
    assert_eq!(guess(&[5; 9]).unwrap().0, vec![5]);
}

/// A model whose steps take 10 ms, and so much more for each further token.
fn drafter(more_us: u64) -> Drafter {
    let mut drafter = Drafter::default();
    for tokens in 1..=u64::from(1 + TOKENS_MAX) {
        drafter.observe(u32::try_from(tokens).unwrap(), tokens > 1, 10_000 + (tokens - 1) * more_us);
    }
    drafter
}

const ALONE: Step = Step { tokens: 1, brings: 1.0, prompt_token_us: Some(2000.0) };

fn alike(alike: u32) -> Guess {
    Guess::new(Source::Text { alike }, &[0; TOKENS_MAX as usize]).unwrap()
}

/// What is drafted after as many guesses with a share that was right.
fn after(drafter: &mut Drafter, guesses: u32, right: impl Fn(u32) -> u32) -> u32 {
    let mut drafts = Drafts::default();
    for place in 0..guesses {
        drafter.learn(&mut drafts, alike(5), TOKENS_MAX, right(place));
    }
    drafter.length(&drafts, alike(5), ALONE, TOKENS_MAX, 100).0
}

#[test]
fn drafts_are_as_long_as_they_are_right_and_as_steps_are_cheap() {
    assert_eq!(after(&mut drafter(500), 20, |_| TOKENS_MAX), TOKENS_MAX);
    assert_eq!(after(&mut drafter(500), 20, |_| 0), 0);
    let some = after(&mut drafter(2000), 20, |place| place % 4);
    assert!((1..TOKENS_MAX).contains(&some), "{some}");
    // A token more costs as much as a step: nothing is won even if all are right.
    assert_eq!(after(&mut drafter(10_000), 20, |_| TOKENS_MAX), 0);
    assert_eq!(Drafter::default().length(&Drafts::default(), alike(20), ALONE, 7, 0), (0, 1.0), "nothing is known");
}

#[test]
fn no_more_is_drafted_than_there_is_room_for() {
    let (mut drafter, mut drafts) = (drafter(100), Drafts::default());
    for _ in 0..20 {
        drafter.learn(&mut drafts, alike(5), 7, 7);
    }
    for most in 0..=TOKENS_MAX {
        assert_eq!(drafter.length(&drafts, alike(5), ALONE, most, 10).0, most);
    }
    let short = Guess { tokens: 2, ..alike(5) };
    assert_eq!(drafter.length(&drafts, short, ALONE, 7, 10).0, 2);
}

#[test]
fn tokens_that_are_certain_are_always_drafted() {
    let forced = Guess::new(Source::Forced, &[1, 2, 3]).unwrap();
    assert_eq!((forced.ahead(), Guess::new(Source::Forced, &[])), (&[1, 2, 3][..], None));
    let (mut drafter, mut drafts) = (drafter(500), Drafts::default());
    let length = |drafter: &Drafter, drafts: &Drafts, guess: Guess| drafter.length(drafts, guess, ALONE, 7, 100).0;
    let before = length(&drafter, &drafts, alike(5));
    // Nothing is learnt of them, and no bad luck with others counts for them.
    for _ in 0..20 {
        drafter.learn(&mut drafts, forced, 3, 0);
    }
    assert_eq!((length(&drafter, &drafts, forced), length(&drafter, &drafts, alike(5))), (3, before));
    for _ in 0..20 {
        drafter.learn(&mut drafts, alike(5), 7, 0);
    }
    assert_eq!((length(&drafter, &drafts, forced), length(&drafter, &drafts, alike(5))), (3, 0));
    // Nor what others have lost, or what a step costs.
    drafts.settle(1e9, 10_000.0, 0);
    assert_eq!((length(&drafter, &drafts, forced), length(&Drafter::default(), &drafts, forced)), (3, 3));
    assert_eq!(drafter.length(&drafts, forced, ALONE, 2, 100), (2, 3.0));
}

#[test]
fn who_has_lost_time_drafts_no_more_until_it_is_forgotten() {
    let (mut drafter, mut drafts) = (drafter(1000), Drafts::default());
    for _ in 0..20 {
        drafter.learn(&mut drafts, alike(5), 7, 7);
    }
    let length = |drafts: &Drafts, generated| drafter.length(drafts, alike(5), ALONE, 7, generated).0;
    assert!(length(&drafts, 1) > 0);
    drafts.settle(17_000.0, 10_000.0, 0);
    assert!(length(&drafts, 1) > 0, "one wrong guess is allowed");
    drafts.settle(17_000.0, 10_000.0, 0);
    assert_eq!(length(&drafts, 1), 0);
    assert!(length(&drafts, 200) > 0, "a long answer can bear it");
    drafts.settle(17_000.0, 10_000.0, 7);
    assert!(length(&drafts, 1) > 0, "what was won counts too");
}

#[test]
fn what_a_step_costs_is_measured_or_lies_between_its_neighbours() {
    let mut drafter = Drafter::default();
    assert_eq!(drafter.cost_us(1, Some(100.0)), None);
    drafter.observe(1, false, 1000);
    assert_eq!((drafter.cost_us(1, None), drafter.cost_us(3, None)), (Some(1000.0), None));
    assert_eq!(drafter.cost_us(3, Some(100.0)), Some(1250.0));
    drafter.observe(5, true, 2000);
    assert_eq!(drafter.cost_us(3, Some(100.0)), Some(1500.0));
    for _ in 0..50 {
        drafter.observe(1, false, 2000);
    }
    assert!((drafter.cost_us(1, None).unwrap() - 2000.0).abs() < 1.0);
    drafter.observe(1_000_000, true, 1);
    assert_eq!(drafter.cost_us(1_000_000, Some(1.0)), None);
}

#[test]
fn the_way_back_to_small_steps_is_paid_by_who_left_them() {
    let (mut drafter, mut drafts) = (drafter(2000), Drafts::default());
    for _ in 0..6 {
        drafter.learn(&mut drafts, alike(5), 7, 1);
    }
    let length = |drafter: &Drafter| drafter.length(&drafts, alike(5), ALONE, TOKENS_MAX, 100).0;
    drafter.observe(1, false, 10_000);
    drafter.observe(1, false, 10_000);
    assert_eq!((length(&drafter), drafter.owed_us()), (1, 0.0));
    for _ in 0..20 {
        drafter.observe(3, true, 14_000);
        drafter.observe(1, false, 15_000);
        drafter.observe(1, false, 10_000);
    }
    assert!((drafter.cost_us(1, None).unwrap() - 10_000.0).abs() < 1.0, "the usual step is as it was");
    assert_eq!(length(&drafter), 0, "one token more isn't worth half a step");
    drafter.observe(2, true, 12_000);
    assert!((drafter.owed_us() - 5000.0).abs() < 100.0);
    assert_eq!(length(&drafter), 1, "who has left them already may as well go on");
    drafter.observe(2, true, 12_000);
    assert_eq!(drafter.owed_us(), 0.0, "once");
}

#[test]
fn a_busy_moment_does_not_count_for_ever() {
    let mut drafter = drafter(500);
    let mut drafts = Drafts::default();
    for _ in 0..20 {
        drafter.learn(&mut drafts, alike(5), 7, 7);
    }
    let length = |drafter: &Drafter| drafter.length(&drafts, alike(5), ALONE, TOKENS_MAX, 100).0;
    for _ in 0..20 {
        (2..=1 + TOKENS_MAX).for_each(|tokens| drafter.observe(tokens, true, 90_000));
    }
    assert_eq!(length(&drafter), 0);
    let mut plain = 0;
    while length(&drafter) == 0 && plain < 50_000 {
        drafter.observe(1, false, 10_000);
        plain += 1;
    }
    assert!((100..20_000).contains(&plain), "after {plain} steps");
    (0..50_000).for_each(|_| drafter.observe(1, false, 10_000));
    assert!(drafter.cost_us(8, None).unwrap() >= 10_000.0, "no step is cheaper than a smaller one");
}

/// A machine whose steps cost what they cost, a smaller one after a larger one `back_us` more, and answers of which some
/// repeat themselves: how much time the drafts take of what going without takes.
fn time_share(tokens: u32, more_us: u64, back_us: u64, right: impl Fn(u32) -> bool) -> f64 {
    let (mut drafter, mut drafts) = (drafter(more_us), Drafts::default());
    let (mut done, mut took, mut last) = (0, 0, 0);
    while done < tokens {
        let (length, _) = drafter.length(&drafts, alike(8), ALONE, TOKENS_MAX, done);
        let good = (0..length).take_while(|place| right(done + place)).count();
        let good = u32::try_from(good).unwrap();
        let back = if length < last { back_us } else { 0 };
        let step = 10_000 + u64::from(length) * more_us + back;
        last = length;
        took += step;
        drafter.observe(1 + length, length > 0, step);
        if length > 0 {
            drafts.settle(step as f64 + drafter.owed_us(), 10_000.0, good);
        }
        if length > 0 {
            drafter.learn(&mut drafts, alike(8), length, good);
        } else {
            drafter.watch(&mut drafts, alike(8), right(done), 1, None);
        }
        done += 1 + good;
    }
    took as f64 / (10_000.0 * f64::from(tokens))
}

#[test]
fn a_text_that_repeats_gets_faster() {
    assert!(time_share(200, 2000, 0, |_| true) < 0.5);
    assert!(time_share(200, 2000, 0, |place| place % 10 > 0) < 0.8);
    assert!(time_share(200, 2000, 2000, |place| place % 10 > 0) < 0.85);
}

#[test]
fn an_unlucky_beginning_is_made_good_by_what_was_watched() {
    // Its first guesses are all wrong, and then it copies.
    assert!(time_share(100, 1000, 0, |place| place > 20) < 0.5);
    let (drafter, mut drafts) = (drafter(1000), Drafts::default());
    drafts.settle(17_000.0, 10_000.0, 0);
    drafts.settle(17_000.0, 10_000.0, 0);
    let length = |drafts: &Drafts| drafter.length(drafts, alike(8), ALONE, 7, 1).0;
    let mut again = super::Drafter { ..Drafter::default() };
    assert_eq!(length(&drafts), 0);
    (1..=8).for_each(|tokens| again.observe(tokens, tokens > 1, 9_000 + u64::from(tokens) * 1000));
    again.watch(&mut drafts, alike(8), true, 1, None);
    assert!(length(&drafts) > 0, "it would have paid");
    (0..9).for_each(|_| again.watch(&mut drafts, alike(8), false, 1, None));
    assert_eq!(length(&drafts), 0, "it would have cost again");
}

/// The same with a smaller model that takes `ask_us` for a token, and has a prompt to read first.
fn time_share_of_model(tokens: u32, more_us: u64, ask_us: f64, right: impl Fn(u32) -> bool) -> f64 {
    let (mut drafter, mut drafts) = (drafter(more_us), Drafts::default());
    let (mut done, mut took, mut held) = (0, 0.0, 0);
    let read_us = ask_us / 10.0;
    while done < tokens {
        drafter.ask_model(&mut drafts);
        let text = 300 + done;
        let can_read = (drafter.purse_us(&drafts, ALONE, done) / read_us) as u32;
        let read = match view(text, held, 1, 4096, can_read) {
            View::On => 1,
            View::Anew(tokens) => tokens,
            View::Not => 0,
        };
        let at_once_us = f64::from(read.saturating_sub(1)) * read_us;
        let offer = Offer { source: Source::Model, tokens: TOKENS_MAX, at_once_us, token_us: ask_us };
        let most = if read > 0 { TOKENS_MAX } else { 0 };
        let (length, _) = drafter.length(&drafts, offer, ALONE, most, done);
        let good = u32::try_from((0..length).take_while(|place| right(done + place)).count()).unwrap();
        let step = 10_000 + u64::from(length) * more_us;
        took += step as f64;
        if length > 0 {
            let asked = at_once_us + f64::from(length) * ask_us;
            took += asked;
            drafts.pay(asked);
            drafts.settle(step as f64, 10_000.0, good);
            let guess = Guess::new(Source::Model, &[0; 7]).unwrap();
            drafter.learn(&mut drafts, guess, length, good);
            held = if read > 1 { read } else { held } + 1 + good;
        }
        done += 1 + good;
    }
    took / (10_000.0 * f64::from(tokens))
}

#[test]
fn a_smaller_model_that_guesses_well_makes_answers_faster_and_a_dear_one_is_not_asked() {
    assert!(time_share_of_model(300, 800, 1000.0, |place| place % 5 > 0) < 0.8);
    let dear = time_share_of_model(300, 800, 10_000.0, |_| true);
    assert!((dear - 1.0).abs() < 1e-9, "{dear}");
}

#[test]
fn a_smaller_model_that_has_failed_is_tried_again_some_answers_later() {
    let (mut drafter, offer) =
        (drafter(800), Offer { source: Source::Model, tokens: TOKENS_MAX, at_once_us: 0.0, token_us: 1000.0 });
    let guess = Guess::new(Source::Model, &[0; 7]).unwrap();
    let mut drafts = Drafts::default();
    drafter.ask_model(&mut drafts);
    for _ in 0..50 {
        drafter.learn(&mut drafts, guess, 3, 0);
    }
    let tried = |drafter: &mut Drafter| {
        let mut drafts = Drafts::default();
        drafter.ask_model(&mut drafts);
        drafter.length(&drafts, offer, ALONE, TOKENS_MAX, 0).0 > 0
    };
    let untried = (0..100).take_while(|_| !tried(&mut drafter)).count();
    assert!((3..30).contains(&untried), "after {untried} answers");
}

#[test]
fn a_smaller_model_sees_as_much_of_a_text_as_the_answer_can_bear() {
    // Nothing read yet: what is affordable, all of a short text, nothing when that is too little.
    assert_eq!(view(1000, 0, 1000, 4096, 40), View::Anew(40));
    assert_eq!(view(1000, 0, 1000, 4096, 5000), View::Anew(1000));
    assert_eq!(view(10, 0, 10, 4096, 5000), View::Anew(10));
    assert_eq!(view(1000, 0, 1000, 4096, 15), View::Not);
    assert_eq!(view(0, 0, 0, 4096, 100), View::Not);
    // It goes on, and sees more when its guesses have paid for that.
    assert_eq!(view(1000, 100, 3, 4096, 100), View::On);
    assert_eq!(view(1000, 100, 3, 4096, 900), View::Anew(450));
    assert_eq!(view(1000, 997, 3, 4096, 9000), View::On);
    // It has fallen too far behind, or is full.
    assert_eq!(view(1000, 100, 300, 4096, 50), View::Anew(50));
    assert_eq!(view(9000, 4090, 3, 4096, 9000), View::Anew(2048));
    assert_eq!(view(9000, 4090, 3, 4096, 1), View::Not);
}

proptest! {
    #[test]
    fn a_smaller_model_that_guesses_badly_hardly_makes_answers_slower(
        more_us in 100_u64..6000,
        ask_us in 100.0..6000.0,
        rights in prop::collection::vec(any::<u8>(), 600),
        share in 0_u8..=255,
    ) {
        let slower = time_share_of_model(600, more_us, ask_us, |place| rights[place as usize % rights.len()] < share);
        prop_assert!(slower < 1.02, "{slower}");
    }

    #[test]
    fn a_text_that_does_not_repeat_hardly_gets_slower(
        more_us in 500_u64..12_000,
        back_us in 0_u64..4000,
        rights in prop::collection::vec(any::<u8>(), 600),
        share in 0_u8..=255,
    ) {
        let slower = time_share(600, more_us, back_us, |place| rights[place as usize % rights.len()] < share);
        prop_assert!(slower < 1.02, "{slower}");
    }

    #[test]
    fn a_guess_stands_in_the_text_behind_the_same_words(
        text in prop::collection::vec(0_i32..6, 0..200),
        cuts in prop::collection::vec(0_usize..200, 0..10),
    ) {
        // Told bit by bit or at once, the guess is the same.
        let mut drafts = Drafts::default();
        let mut cuts = cuts;
        cuts.sort_unstable();
        for cut in cuts.into_iter().filter(|cut| *cut < text.len()) {
            drafts.guess(&text[..cut]);
        }
        let guess = drafts.guess(&text);
        prop_assert_eq!(guess, Drafts::default().guess(&text));
        let place = drafts.places.find(&text);
        prop_assert_eq!(guess.is_some(), place.is_some());
        if let (Some(guess), Some(Place { from, alike })) = (guess, place) {
            prop_assert_eq!(guess.ahead(), &text[from..][..guess.ahead().len()]);
            prop_assert_eq!(guess.ahead().len(), (text.len() - from).min(TOKENS_MAX as usize));
            prop_assert_eq!(guess.source, Source::Text { alike });
            let alike = alike as usize;
            prop_assert!(alike >= ALIKE_MIN);
            prop_assert_eq!(&text[from - alike..from], &text[text.len() - alike..]);
        }
    }
}
