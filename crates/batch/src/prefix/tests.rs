use super::*;
use proptest::prelude::*;

fn owner(scope: u64) -> Owner {
    Owner::new(scope, &[]).expect("not 0")
}

fn run(from: i32, length: i32) -> Vec<Token> {
    (from..from + length).collect()
}

fn shelf(reach: Reach, kept: &[(u64, Vec<Token>)]) -> Shelf<usize> {
    let mut shelf = Shelf::new(reach);
    for (place, (scope, tokens)) in kept.iter().enumerate() {
        shelf.insert(owner(*scope), tokens.clone(), 1024, place);
    }
    shelf
}

fn found(shelf: &Shelf<usize>, scope: u64, prompt: &[Token]) -> Option<(usize, u32)> {
    shelf
        .find(&owner(scope), prompt, |_| false)
        .map(|found| (shelf.get(found.key).expect("it is there").state, found.tokens))
}

#[test]
fn the_longest_common_front_is_found_and_the_last_token_left() {
    let other = [run(0, 50), run(500, 50)].concat();
    let shelf = shelf(Reach::Any, &[(1, other), (1, [run(0, 40), run(700, 5)].concat()), (2, run(0, 90))]);
    assert_eq!(found(&shelf, 1, &run(0, 100)), Some((0, 50)));
    assert_eq!(found(&shelf, 1, &run(0, 30)), Some((1, 29)), "the one with less beyond it");
    assert_eq!(found(&shelf, 2, &run(0, 90)), Some((2, 89)), "its last token is computed for its scores");
    assert_eq!(found(&shelf, 3, &run(0, 90)), None, "another's");
    assert_eq!(found(&shelf, 1, &run(7, 90)), None);
    assert_eq!(found(&shelf, 1, &run(0, 10)), None, "too little");
    assert_eq!(found(&shelf, 1, &[]), None);
}

#[test]
fn an_exact_end_is_all_or_nothing() {
    let shelf = shelf(Reach::ExactEnd, &[(1, run(0, 40)), (1, run(0, 60)), (1, run(0, 80))]);
    assert_eq!(found(&shelf, 1, &run(0, 70)), Some((1, 60)));
    assert_eq!(found(&shelf, 1, &run(0, 60)), Some((0, 40)), "the last token is left");
    let [front, back] = [run(0, 30), run(900, 90)];
    assert_eq!(found(&shelf, 1, &[front, back].concat()), None);
}

#[test]
fn other_adapters_or_scales_are_another_owner() {
    let plain = Owner::new(1, &[]).unwrap();
    let mut shelf = Shelf::new(Reach::Any);
    shelf.insert(plain.clone(), run(0, 40), 1, ());
    for adapters in [&[(0, 1.0)][..], &[(0, 0.5)], &[(1, 1.0)]] {
        assert!(shelf.find(&Owner::new(1, adapters).unwrap(), &run(0, 40), |_| false).is_none(), "{adapters:?}");
    }
    assert!(shelf.find(&plain, &run(0, 40), |_| false).is_some());
    assert!(Owner::new(0, &[]).is_none(), "nobody's is never kept");
}

#[test]
fn what_a_longer_one_holds_too_is_superfluous() {
    let mut shelf = shelf(Reach::Any, &[(1, run(0, 40)), (2, run(0, 40))]);
    assert!(!shelf.wants(&owner(1), &run(0, 30)), "there already");
    assert!(!shelf.wants(&owner(1), &run(0, 40)));
    assert!(!shelf.wants(&owner(1), &run(900, 3)), "too little");
    assert!(shelf.wants(&owner(1), &run(0, 60)));
    let out = shelf.insert(owner(1), run(0, 60), 1024, 9);
    assert_eq!(out.iter().map(|entry| entry.state).collect::<Vec<_>>(), [0]);
    assert_eq!(shelf.entries().len(), 2);
    let mut exact = self::shelf(Reach::ExactEnd, &[(1, run(0, 40))]);
    assert!(exact.wants(&owner(1), &run(0, 30)), "a state of its own");
    assert!(exact.insert(owner(1), run(0, 60), 1024, 9).is_empty());
}

#[test]
fn the_first_difference_is_told() {
    let changed = [run(0, 50), run(500, 50)].concat();
    let shelf = shelf(Reach::ExactEnd, &[(1, changed), (1, run(0, 20)), (2, run(0, 90))]);
    let told = shelf.differs(&owner(1), &run(0, 100)).map(|found| (shelf.get(found.key).unwrap().state, found.tokens));
    assert_eq!(told, Some((0, 50)));
    assert_eq!(shelf.differs(&owner(2), &run(0, 100)), None, "its end is no difference");
    assert_eq!(shelf.differs(&owner(3), &run(0, 100)), None);
}

#[test]
fn what_saves_little_for_its_bytes_goes_first_unless_it_is_used() {
    let mut shelf = Shelf::new(Reach::ExactEnd);
    shelf.insert(owner(1), run(0, 1000), 1 << 20, "long");
    shelf.insert(owner(1), run(0, 20), 1 << 20, "short");
    shelf.insert(owner(1), run(5, 1000), 1 << 21, "wide");
    let named = |shelf: &Shelf<&'static str>, name: &str| shelf.least(|entry| entry.state == name).unwrap();
    let first = |shelf: &Shelf<&'static str>| shelf.least(|_| true).map(|key| shelf.get(key).unwrap().state);
    assert_eq!(first(&shelf), Some("short"));
    shelf.evict(named(&shelf, "short"));
    assert_eq!(first(&shelf), Some("wide"));
    let rank = |name| shelf.get(named(&shelf, name)).unwrap().rank();
    assert!(rank("wide") < rank("long"));
    let rank_of_new = |bytes| shelf.rank_of_new(&owner(1), &run(9, 1000), bytes);
    assert!(rank_of_new(1 << 21) < rank_of_new(1 << 20));
    // Used again and again it stands above what nobody wants, however dear that is.
    for _ in 0..3 {
        shelf.touch(named(&shelf, "wide"));
        shelf.insert(owner(2), run(0, 900), 1 << 20, "passing");
        shelf.evict(named(&shelf, "passing"));
    }
    assert_eq!(first(&shelf), Some("long"));
    assert_eq!(shelf.least(|entry| entry.state == "short"), None);
}

#[test]
fn the_end_of_a_document_outlives_the_questions_behind_it() {
    let text: Vec<Token> = (0..1020).collect();
    // A state of a hybrid: so much for each token, and so much for all of them.
    let bytes = |tokens: usize| (tokens as u64) * 1000 + 100_000;
    for is_used in [false, true] {
        let mut shelf: Shelf<&str> = Shelf::new(Reach::ExactEnd);
        let keep = |shelf: &mut Shelf<&'static str>, tokens: usize, name| {
            shelf.insert(owner(1), text[..tokens].to_vec(), bytes(tokens), name);
        };
        keep(&mut shelf, 1000, "document");
        keep(&mut shelf, 1010, "question");
        if is_used {
            let found = shelf.find(&owner(1), &[&text[..1000], &[-1; 9]].concat(), |_| true).unwrap();
            shelf.touch(found.key);
        }
        keep(&mut shelf, 1020, "answer");
        let little = |tokens| shelf.adds_little(&owner(1), &text[..tokens]);
        assert_eq!([1000, 1010, 1020].map(little), [false, true, true]);
        let mut gone = Vec::new();
        while let Some(key) = shelf.least(|_| true) {
            gone.push(shelf.evict(key).unwrap().state);
        }
        assert_eq!(gone.last(), Some(&"document"), "{gone:?}");
    }
}

#[test]
fn who_is_left_of_a_way_is_worth_all_of_it() {
    let mut shelf: Shelf<&str> = Shelf::new(Reach::ExactEnd);
    shelf.insert(owner(1), run(0, 1000), 1 << 20, "document");
    shelf.insert(owner(1), run(0, 1010), 1 << 20, "question");
    shelf.insert(owner(2), run(0, 500), 1 << 20, "other");
    let first = |shelf: &Shelf<&'static str>| shelf.get(shelf.least(|_| true).unwrap()).unwrap().state;
    assert_eq!(first(&shelf), "question");
    shelf.take(|entry| entry.state == "document");
    assert_eq!(first(&shelf), "other");
    // In whatever order they come.
    shelf.insert(owner(1), run(0, 1000), 1 << 20, "document");
    assert_eq!(first(&shelf), "question");
}

#[test]
fn what_is_used_more_often_stays_longer() {
    let mut shelf: Shelf<&str> = Shelf::new(Reach::Any);
    for (scope, name) in [(1, "often"), (2, "once"), (3, "never")] {
        shelf.insert(owner(scope), run(0, 100), 1 << 20, name);
    }
    let key = |shelf: &Shelf<&'static str>, name: &str| shelf.least(|entry| entry.state == name).unwrap();
    for name in ["often", "often", "once"] {
        shelf.touch(key(&shelf, name));
    }
    let mut gone = Vec::new();
    while let Some(key) = shelf.least(|_| true) {
        gone.push(shelf.evict(key).unwrap().state);
    }
    assert_eq!(gone, ["never", "once", "often"]);
}

#[test]
fn shared_fronts_are_counted_once() {
    let (one, two) = (owner(1), owner(2));
    let (a, b, c) = (run(0, 100), [run(0, 60), run(900, 10)].concat(), run(0, 100));
    let running: [(&Owner, &[Token]); 1] = [(&one, &a[..80])];
    let kept: [(&Owner, &[Token]); 3] = [(&one, &a), (&one, &b), (&two, &c)];
    assert_eq!(cells(&running, &kept), 20 + 10 + 100);
    assert_eq!(cells(&[], &kept), 100 + 10 + 100);
    assert_eq!(cells(&running, &[]), 0);
}

#[test]
fn a_prompt_shares_the_longest_front_that_runs_with_its_own_owner_only() {
    let (one, two) = (owner(1), owner(2));
    let prompt: Vec<Token> = (0..100).collect();
    let (short, long, other): (Vec<Token>, Vec<Token>, Vec<Token>) =
        ((0..20).collect(), (0..60).chain(500..600).collect(), (0..100).collect());
    let running: [(&Owner, &[Token]); 3] = [(&one, &short), (&one, &long), (&two, &other)];
    assert_eq!(shared(&running, &one, &prompt), Some((1, 60)));
    assert_eq!(shared(&running, &two, &prompt), Some((2, 99)), "the last token must be computed for its scores");
    assert_eq!(shared(&running, &one, &prompt[..16]), None, "too few");
    assert_eq!(shared(&running, &owner(3), &prompt), None);
    assert_eq!(shared(&[], &one, &prompt), None);
}

#[test]
fn small_models_bear_no_bystanders_and_large_ones_many() {
    let starter = Bystanders::of(98 << 20, 30, 9);
    assert!(starter.saved_max == 0 && (300..1000).contains(&starter.unsaved_max), "{starter:?}");
    let large = Bystanders::of(5 << 30, 32, 32);
    assert!((500..2000).contains(&large.saved_max) && large.unsaved_max > 5000, "{large:?}");
    assert_eq!(Bystanders::of(0, 0, 0), Bystanders { saved_max: 0, unsaved_max: 0 });
    assert_eq!(Bystanders::of(u64::MAX, 1, 1), Bystanders { saved_max: u32::MAX, unsaved_max: u32::MAX });
}

#[test]
fn a_short_front_of_a_long_state_is_not_worth_the_copy() {
    assert!(pays(16, 16) && pays(16, 1000) && pays(100, 6400));
    assert!(!pays(16, 6000) && !pays(0, 64) && pays(u32::MAX, u32::MAX));
}

#[test]
fn checkpoints_lie_at_the_last_turn_and_before_a_long_end() {
    assert_eq!(checkpoints(6000, &[5900, 5980], 0), [5900, 5980], "what a question is about, and the question");
    assert_eq!(checkpoints(6000, &[20, 40, 5980], 0), [40, 5808, 5980]);
    assert_eq!(checkpoints(6000, &[], 0), [5808]);
    assert_eq!(checkpoints(6000, &[5980], 5900), [5980], "what is read already stands");
    assert_eq!(checkpoints(6000, &[5980], 5970), [0; 0], "too near");
    assert_eq!(checkpoints(6000, &[5990], 5900), [0; 0], "no step of its own for ten tokens behind ninety");
    assert_eq!(checkpoints(6000, &[5990], 5700), [5990]);
    assert_eq!(checkpoints(6000, &[5800, 5990], 0), [5800, 5990], "little comes after the first");
    assert_eq!(checkpoints(6000, &[5600, 5800], 0), [5600, 5800], "too near each other");
    assert_eq!(checkpoints(100, &[], 0), [0; 0]);
    assert_eq!(checkpoints(100, &[8, 80], 0), [80]);
    assert_eq!(checkpoints(100, &[8, 90], 0), [0; 0]);
    assert_eq!(checkpoints(100, &[100], 0), [0; 0], "its very end is no place to go on from");
}

/// Few tokens and short runs, so that fronts are often shared.
fn tokens() -> impl Strategy<Value = Vec<Token>> {
    let run = (0_i32..3, 1_usize..40).prop_map(|(token, times)| vec![token; times]);
    prop::collection::vec(run, 0..5).prop_map(|runs| runs.concat())
}

fn reach() -> impl Strategy<Value = Reach> {
    prop_oneof![Just(Reach::Any), Just(Reach::ExactEnd)]
}

#[test]
fn who_ended_is_borne_by_answers_for_some_steps_and_by_prompts_for_none() {
    let mut stay = Stay::default();
    assert!((0..100).all(|_| !stay.is_over(true)), "nobody has ended");
    stay.begin();
    assert!((0..32).all(|_| !stay.is_over(false)) && stay.is_over(false));
    stay.begin();
    assert!(stay.is_over(false), "another one doesn't begin it anew");
    stay.end();
    assert!(!stay.is_over(false) && !stay.is_over(true));
    stay.begin();
    assert!(stay.is_over(true));
}

proptest! {
    #[test]
    fn nothing_is_found_that_is_not_the_owner_s_very_tokens(
        kept in prop::collection::vec((1_u64..4, tokens()), 0..100),
        scope in 1_u64..4,
        prompt in tokens(),
        reach in reach(),
    ) {
        let mut shelf = Shelf::new(reach);
        for (scope, tokens) in kept {
            if shelf.wants(&owner(scope), &tokens) {
                shelf.insert(owner(scope), tokens, 1, ());
            }
            prop_assert!(shelf.entries().len() <= ENTRIES_MAX);
        }
        let of_owner = shelf.entries().iter().filter(|entry| entry.owner.scope() == scope);
        let fronts = of_owner.filter_map(|entry| {
            let front = common(&entry.tokens, &prompt[..prompt.len().saturating_sub(1)]);
            let whole = front as usize == entry.tokens.len();
            (front >= LEAST_TOKENS && (reach == Reach::Any || whole)).then_some(front)
        });
        let found = shelf.find(&owner(scope), &prompt, |_| false);
        prop_assert_eq!(found.map(|found| found.tokens), fronts.max());
        if let Some(found) = found {
            let (entry, length) = (shelf.get(found.key).expect("it is there"), found.tokens as usize);
            prop_assert_eq!(entry.owner.scope(), scope);
            prop_assert!(length < prompt.len());
            prop_assert_eq!(&entry.tokens[..length], &prompt[..length]);
            prop_assert!(reach == Reach::Any || length == entry.tokens.len());
        }
        if let Some(told) = shelf.differs(&owner(scope), &prompt) {
            let (entry, at) = (shelf.get(told.key).expect("it is there"), told.tokens as usize);
            prop_assert_eq!(entry.owner.scope(), scope);
            prop_assert_eq!(&entry.tokens[..at], &prompt[..at]);
            prop_assert_ne!(entry.tokens[at], prompt[at]);
        }
    }

    #[test]
    fn making_room_ends_and_takes_the_lowest(
        kept in prop::collection::vec((1_u64..3, tokens(), 1_u64..1_000_000), 1..40),
        uses in prop::collection::vec(0_usize..40, 0..20),
    ) {
        let mut shelf = Shelf::new(Reach::ExactEnd);
        for (place, (scope, tokens, bytes)) in kept.iter().enumerate() {
            prop_assert!(shelf.insert(owner(*scope), tokens.clone(), *bytes, place).is_empty());
        }
        let keys: Vec<Key> = shelf.entries().iter().map(|entry| entry.key).collect();
        for place in uses {
            keys.get(place).into_iter().for_each(|key| shelf.touch(*key));
        }
        let mut left = kept.len();
        while let Some(key) = shelf.least(|_| true) {
            let lowest = shelf.entries().iter().map(|entry| entry.rank).fold(f64::INFINITY, f64::min);
            let gone = shelf.evict(key).expect("it is there");
            prop_assert!(gone.rank <= lowest);
            left -= 1;
            prop_assert_eq!(shelf.entries().len(), left);
        }
        prop_assert_eq!(left, 0);
    }

    #[test]
    fn cells_are_between_the_longest_and_all(kept in prop::collection::vec((1_u64..3, tokens()), 0..8)) {
        let owners: Vec<Owner> = kept.iter().map(|(scope, _)| owner(*scope)).collect();
        let list: Vec<(&Owner, &[Token])> =
            owners.iter().zip(&kept).map(|(owner, (_, tokens))| (owner, tokens.as_slice())).collect();
        let all: usize = kept.iter().map(|(_, tokens)| tokens.len()).sum();
        let longest = kept.iter().map(|(_, tokens)| tokens.len()).max().unwrap_or(0);
        let counted = cells(&[], &list) as usize;
        prop_assert!(counted <= all && counted >= longest);
    }
}
