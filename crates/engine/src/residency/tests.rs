use super::*;
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn cost(weights: u64) -> Cost {
    Cost { weights: weights * MIB, compute: 10 * MIB, per_token: 4096, ..Cost::default() }
}

/// A model of so many MiB, of which a tenth is given back at rest.
fn holding(key: u32, mib: u64) -> Holding<u32> {
    Holding {
        key,
        bytes: mib * MIB,
        resting_bytes: mib * MIB / 10 * 9,
        busy: false,
        pinned: false,
        coming: 0,
        reload_ms: mib,
        heat: 1.0,
    }
}

fn ask(key: u32, mib: u64, budget: u64, holdings: &[Holding<u32>]) -> Verdict<u32> {
    decide(Some(budget * MIB), holdings, &Request { key, cost: cost(mib), least: 256, wanted: 2560 })
}

#[test]
fn what_fits_is_granted_as_large_as_it_fits_and_nobody_goes() {
    assert_eq!(ask(1, 100, 1000, &[holding(2, 500)]), Verdict::Grant { tokens: 2560 });
    // 111 MiB are the least that it can do with, and 115 are there: 4 MiB and a bit for 1280 tokens.
    assert_eq!(ask(1, 100, 615, &[holding(2, 500)]), Verdict::Grant { tokens: 1280 });
    let unknown = Request { key: 1, cost: cost(100), least: 256, wanted: 999 };
    assert_eq!(decide(None, &[holding(2, 500)], &unknown), Verdict::Grant { tokens: 999 });
}

#[test]
fn rest_comes_before_an_end_and_an_end_only_when_it_helps() {
    let others = [holding(2, 500), holding(3, 400)];
    assert_eq!(ask(1, 100, 980, &others), Verdict::Room { rest: vec![2], end: vec![] });
    assert_eq!(ask(1, 100, 921, &others), Verdict::Room { rest: vec![2, 3], end: vec![] });
    assert_eq!(ask(1, 300, 980, &others), Verdict::Room { rest: vec![], end: vec![2] });
    let Verdict::Short { needed, available, .. } = ask(1, 2000, 980, &others) else { panic!("it can't fit") };
    assert_eq!((needed, available), (Bytes(2011 * MIB), Bytes(980 * MIB)));
    // Another program has taken what was there: more than what is asked for has to go.
    assert_eq!(ask(1, 100, 520, &others), Verdict::Room { rest: vec![], end: vec![2] });
}

#[test]
fn the_one_that_is_missed_least_goes() {
    let old = Holding { heat: 0.1, ..holding(2, 400) };
    let dear = Holding { reload_ms: 60_000, ..holding(3, 400) };
    assert_eq!(ask(1, 300, 810, &[dear, old]), Verdict::Room { rest: vec![], end: vec![2] });
    assert_eq!(
        ask(1, 300, 810, &[dear, Holding { pinned: true, ..old }]),
        Verdict::Room { rest: vec![], end: vec![3] }
    );
    // A small embedder costs as much to load as a part of a large model, and frees little: it stays.
    let embedder = Holding { reload_ms: 200, ..holding(4, 50) };
    assert_eq!(ask(1, 300, 860, &[embedder, dear, old]), Verdict::Room { rest: vec![], end: vec![2] });
}

#[test]
fn what_is_on_its_way_is_waited_for() {
    let leaving = Holding { busy: true, coming: 500 * MIB, ..holding(2, 500) };
    assert_eq!(ask(1, 300, 700, &[leaving]), Verdict::Wait);
}

#[test]
fn use_is_forgotten_by_halves() {
    let mut used = Use::default();
    used.note(0);
    used.note(600_000);
    assert!((used.heat(600_000) - 1.5).abs() < 1e-9);
    assert!((used.heat(1_200_000) - 0.75).abs() < 1e-9);
}

#[test]
fn a_window_is_what_is_left_when_everybody_has_made_room() {
    let request = Request { key: 1, cost: cost(100), least: 0, wanted: 100_000 };
    let idle = [holding(2, 500)];
    assert_eq!(window(Some(1110 * MIB), &idle, &request), 100_000);
    // 110 MiB without a token; 5 MiB are left for 1280.
    assert_eq!(window(Some(115 * MIB), &idle, &request), 1280);
    let busy = [Holding { busy: true, ..idle[0] }];
    assert_eq!(window(Some(615 * MIB), &busy, &request), 1280);
    assert_eq!(window(Some(100 * MIB), &busy, &request), 0);
    assert_eq!(window(None, &busy, &request), 100_000);
}

fn any_holding(key: u32) -> impl Strategy<Value = Holding<u32>> {
    (0..4000_u64, 0..100_u64, any::<[bool; 3]>(), 0..100_000_u64, 0.0..20.0_f64).prop_map(
        move |(mib, share, [busy, pinned, leaving], reload_ms, heat)| Holding {
            key,
            bytes: mib * MIB,
            resting_bytes: mib * MIB / 100 * share,
            busy: busy || leaving,
            coming: if leaving { mib * MIB } else { 0 },
            pinned,
            reload_ms,
            heat,
        },
    )
}

proptest! {
    #[test]
    fn the_budget_is_kept_and_nobody_goes_in_vain(
        others in prop::collection::vec(any::<u32>(), 0..6).prop_flat_map(|keys| {
            (1_u32..).zip(keys).map(|(key, _)| any_holding(key)).collect::<Vec<_>>()
        }),
        budget in 0..12_000_u64,
        weights in 0..5000_u64,
        least in 0..40_000_u32,
        more in 0..40_000_u32,
        window_blocks in 0..40_u32,
    ) {
        let window_cells = window_blocks * BLOCK_TOKENS;
        let cost = Cost { windowed_per_token: 8192, window_cells, states: MIB, ..cost(weights) };
        let request = Request { key: 0, cost, least, wanted: least + more };
        let budget = budget * MIB;
        let held: u64 = others.iter().map(|row| row.bytes).sum();
        let needed = request.cost.of(least);
        match decide(Some(budget), &others, &request) {
            Verdict::Grant { tokens } => {
                prop_assert!(tokens >= least && tokens <= least + more);
                prop_assert!(held + request.cost.of(tokens) <= budget.max(held));
            }
            Verdict::Room { rest, end } => {
                prop_assert!(!(rest.is_empty() && end.is_empty()));
                let by = |key: &u32| others.iter().find(|row| row.key == *key).expect("one of them");
                prop_assert!(rest.iter().chain(&end).all(|key| !by(key).busy), "somebody at work");
                prop_assert!(end.iter().all(|key| !by(key).pinned), "a pinned one");
                let freed: u64 = rest.iter().map(|key| by(key).bytes - by(key).resting_bytes).sum::<u64>()
                    + end.iter().map(|key| by(key).bytes).sum::<u64>();
                let coming: u64 = others.iter().map(|row| row.coming).sum();
                prop_assert!(held - freed - coming + needed <= budget, "it doesn't help");
                for spared in &end {
                    prop_assert!(held + by(spared).bytes - freed - coming + needed > budget, "{spared} went in vain");
                }
            }
            Verdict::Wait => {
                let coming: u64 = others.iter().map(|row| row.coming).sum();
                prop_assert!(held - coming + needed <= budget);
            }
            Verdict::Short { available, .. } => prop_assert!(available < Bytes(needed)),
        }
    }
}
