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
        drafter.observe(u32::try_from(tokens).unwrap(), 10_000 + (tokens - 1) * more_us);
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
fn the_luck_of_forced_tokens_and_of_the_text_are_each_their_own() {
    let forced = Guess::new(Source::Forced, &[1, 2, 3]).unwrap();
    assert_eq!((forced.ahead(), Guess::new(Source::Forced, &[])), (&[1, 2, 3][..], None));
    let (mut drafter, mut drafts) = (drafter(500), Drafts::default());
    let length = |drafter: &Drafter, drafts: &Drafts, guess| drafter.length(drafts, guess, ALONE, 7, 100).0;
    let before = length(&drafter, &drafts, alike(5));
    for _ in 0..20 {
        drafter.learn(&mut drafts, forced, 3, 0);
    }
    assert_eq!((length(&drafter, &drafts, forced), length(&drafter, &drafts, alike(5))), (0, before));
    // Nor does a text that repeats itself make the other kind better.
    for _ in 0..20 {
        drafter.learn(&mut drafts, alike(5), 7, 7);
    }
    assert_eq!((length(&drafter, &drafts, forced), length(&drafter, &drafts, alike(5))), (0, TOKENS_MAX));
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
    drafter.observe(1, 1000);
    assert_eq!((drafter.cost_us(1, None), drafter.cost_us(3, None)), (Some(1000.0), None));
    assert_eq!(drafter.cost_us(3, Some(100.0)), Some(1250.0));
    drafter.observe(5, 2000);
    assert_eq!(drafter.cost_us(3, Some(100.0)), Some(1500.0));
    for _ in 0..50 {
        drafter.observe(1, 2000);
    }
    assert!((drafter.cost_us(1, None).unwrap() - 2000.0).abs() < 1.0);
    drafter.observe(1_000_000, 1);
    assert_eq!(drafter.cost_us(1_000_000, Some(1.0)), None);
}

/// A machine whose steps cost what they cost, and answers of which some repeat themselves: how much time the drafts
/// take of what going without takes.
fn time_share(tokens: u32, more_us: u64, right: impl Fn(u32) -> bool) -> f64 {
    let (mut drafter, mut drafts) = (drafter(more_us), Drafts::default());
    let (mut done, mut took) = (0, 0);
    while done < tokens {
        let (length, _) = drafter.length(&drafts, alike(8), ALONE, TOKENS_MAX, done);
        let good = (0..length).take_while(|place| right(done + place)).count();
        let good = u32::try_from(good).unwrap();
        let step = 10_000 + u64::from(length) * more_us;
        took += step;
        drafter.observe(1 + length, step);
        if length > 0 {
            drafts.settle(step as f64, 10_000.0, good);
        }
        let watched = u32::from(right(done));
        drafter.learn(&mut drafts, alike(8), length.max(1), if length > 0 { good } else { watched });
        done += 1 + good;
    }
    took as f64 / (10_000.0 * f64::from(tokens))
}

#[test]
fn a_text_that_repeats_gets_faster() {
    assert!(time_share(200, 2000, |_| true) < 0.5);
    assert!(time_share(200, 2000, |place| place % 10 > 0) < 0.8);
}

proptest! {
    #[test]
    fn a_text_that_does_not_repeat_hardly_gets_slower(
        more_us in 500_u64..12_000,
        rights in prop::collection::vec(any::<u8>(), 600),
        share in 0_u8..=255,
    ) {
        let slower = time_share(600, more_us, |place| rights[place as usize % rights.len()] < share);
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
