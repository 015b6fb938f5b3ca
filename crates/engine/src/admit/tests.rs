use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

mod service;
mod world;

const BOUNDS: Bounds = Bounds {
    queue_max: 12,
    app_queue_max: 8,
    load_timeout_ms: 1000,
    idle_rest_ms: 0,
    idle_unload_ms: 500,
    ping_after_ms: 50,
    hang_ms: 200,
    stop_ms: 100,
    quantum_ms: 60,
    batch_patience_ms: 900,
    unread_ms: 5000,
};

/// Of the pool of every worker here.
const CELLS: u32 = 1000;

fn entry(ask: u64, model: u32, app: &str) -> Entry {
    Entry {
        ask: AskId(ask),
        model: ModelKey(model),
        app: AppId(app.to_owned()),
        priority: Priority::Interactive,
        need: Need::Slot,
        size: Some(Size { prompt_bytes: 30, tokens_max: 10 }),
        deadline_ms: None,
    }
}

fn machine() -> Admission<()> {
    Admission::new(BOUNDS)
}

/// Submits one ask and answers the worker that was started for it.
fn started(admission: &mut Admission<()>, now: u64, entry: Entry) -> WorkerKey {
    let actions = admission.step(now, Event::Submit(entry));
    let start = actions.iter().find_map(|action| match action {
        Action::Start { worker, .. } => Some(*worker),
        _ => None,
    });
    start.unwrap_or_else(|| panic!("nothing started: {actions:?}"))
}

fn begun(actions: &[Action<()>]) -> Vec<u64> {
    let of = |action: &Action<()>| match action {
        Action::Begin { ask, .. } => Some(ask.0),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

/// Asks that ended with a fault of this code.
fn failed(actions: &[Action<()>], code: Code) -> Vec<u64> {
    let of = |action: &Action<()>| match action {
        Action::End { ask, ending: Ending::Fault(fault) } if fault.code == code => Some(ask.0),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

fn done(admission: &mut Admission<()>, now: u64, worker: WorkerKey, ask: u64) -> Vec<Action<()>> {
    admission.step(now, Event::Ended { worker, ask: AskId(ask), result: Ok(()) })
}

fn death() -> Fault {
    Fault::new(Code::WorkerDied, "the worker ended by SIGKILL")
}

#[test]
fn interactive_first_then_apps_in_turn_then_first_come() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, entry(1, 0, "a"));
    for (ask, app, priority) in [
        (2, "a", Priority::Batch),
        (3, "a", Priority::Interactive),
        (4, "a", Priority::Interactive),
        (5, "b", Priority::Interactive),
        (6, "c", Priority::Batch),
        (7, "b", Priority::Interactive),
    ] {
        admission.step(0, Event::Submit(Entry { priority, ..entry(ask, 0, app) }));
    }
    let mut order = begun(&admission.step(0, Event::Ready { worker, slots: 1, cells: CELLS }));
    while let Some(last) = order.last().copied() {
        let next = begun(&done(&mut admission, 1, worker, last));
        if next.is_empty() {
            break;
        }
        order.extend(next);
    }
    assert_eq!(order, [1, 5, 3, 7, 4, 2, 6]);
}

#[test]
fn a_full_queue_says_how_full_it_is() {
    let mut admission = machine();
    for ask in 0..8 {
        admission.step(0, Event::Submit(entry(ask, 0, "greedy")));
    }
    let actions = admission.step(0, Event::Submit(entry(8, 0, "greedy")));
    assert_eq!(failed(&actions, Code::Busy), [8]);
    assert!(format!("{actions:?}").contains("8 asks are waiting for this app"), "{actions:?}");
    for ask in 10..14 {
        assert_eq!(failed(&admission.step(0, Event::Submit(entry(ask, 0, "other"))), Code::Busy), [0_u64; 0]);
    }
    let actions = admission.step(0, Event::Submit(entry(14, 1, "third")));
    assert_eq!(failed(&actions, Code::Busy), [14]);
    assert!(format!("{actions:?}").contains("12 asks are waiting already"), "{actions:?}");
}

#[test]
fn an_ask_that_a_dead_worker_never_heard_gets_one_more() {
    let mut admission = machine();
    let mut worker = started(&mut admission, 0, entry(1, 0, "a"));
    admission.step(0, Event::Submit(entry(2, 0, "a")));
    admission.step(0, Event::Ready { worker, slots: 2, cells: CELLS });
    // The first had begun; the second meets a worker that is dead already.
    let actions = admission.step(1, Event::Gone { worker, fault: death(), unheard: [AskId(2)].into() });
    assert_eq!(failed(&actions, Code::WorkerDied), [1]);
    let next = |actions: &[Action<()>]| {
        actions.iter().find_map(|action| if let Action::Start { worker, .. } = action { Some(*worker) } else { None })
    };
    worker = next(&actions).expect("a new worker");
    let actions = admission.step(2, Event::Ready { worker, slots: 2, cells: CELLS });
    assert!(matches!(actions[..], [Action::Begin { ask: AskId(2), .. }]), "{actions:?}");
    // The next one dies of it in silence, too: that is enough.
    let actions = admission.step(3, Event::Gone { worker, fault: death(), unheard: [AskId(2)].into() });
    assert_eq!((failed(&actions, Code::WorkerDied), next(&actions)), (vec![2], None));
}

#[test]
fn a_dead_worker_fails_what_ran_on_it_and_nothing_else() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, entry(1, 0, "a"));
    let other = started(&mut admission, 0, entry(9, 1, "a"));
    admission.step(0, Event::Submit(entry(2, 0, "a")));
    admission.step(0, Event::Submit(entry(3, 0, "a")));
    admission.step(0, Event::Ready { worker, slots: 2, cells: CELLS });
    admission.step(0, Event::Ready { worker: other, slots: 2, cells: CELLS });
    let actions = admission.step(1, Event::Gone { worker, fault: death(), unheard: BTreeSet::new() });
    assert_eq!(failed(&actions, Code::WorkerDied), [1, 2]);
    // The third waited: a new worker is started for it.
    let Some(Action::Start { worker: next, .. }) =
        actions.iter().find(|action| matches!(action, Action::Start { model: ModelKey(0), .. }))
    else {
        panic!("no new worker: {actions:?}")
    };
    let next = *next;
    assert_ne!(next, worker);
    // What the dead one still had to say counts no more.
    assert_eq!(done(&mut admission, 2, worker, 1), []);
    assert_eq!(begun(&admission.step(2, Event::Ready { worker: next, slots: 2, cells: CELLS })), [3]);
    let ended = done(&mut admission, 3, next, 3);
    assert_eq!(ended, [Action::End { ask: AskId(3), ending: Ending::Done(()) }]);
}

#[test]
fn idle_models_make_room_the_longest_unused_first() {
    let mut admission = machine();
    let mut loaded = Vec::new();
    for (at, model) in [(0, 0), (10, 1), (20, 2)] {
        let worker = started(&mut admission, at, entry(u64::from(model), model, "a"));
        admission.step(at, Event::Ready { worker, slots: 1, cells: CELLS });
        loaded.push(worker);
    }
    // The first is used again after the second; the third stays busy.
    done(&mut admission, 30, loaded[1], 1);
    done(&mut admission, 40, loaded[0], 0);
    let short = || Fault::new(Code::MemoryShort, "it takes more than there is");
    let mut worker = started(&mut admission, 50, entry(9, 3, "a"));
    for victim in [loaded[1], loaded[0]] {
        let actions = admission.step(50, Event::LoadFailed { worker, fault: short() });
        assert_eq!(actions, [Action::Kill(worker), Action::Stop(victim)]);
        // Nothing is started before the room is there.
        assert_eq!(admission.step(51, Event::Gone { worker, fault: death(), unheard: BTreeSet::new() }), []);
        let actions = admission.step(52, Event::Gone { worker: victim, fault: death(), unheard: BTreeSet::new() });
        let [Action::Start { model: ModelKey(3), worker: next }] = actions[..] else { panic!("{actions:?}") };
        worker = next;
    }
    // Nobody is idle any more.
    let actions = admission.step(60, Event::LoadFailed { worker, fault: short() });
    assert_eq!(failed(&actions, Code::MemoryShort), [9]);
    assert_eq!(done(&mut admission, 61, loaded[2], 2), [Action::End { ask: AskId(2), ending: Ending::Done(()) }]);
}

#[test]
fn a_death_while_loading_fails_those_who_wait() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, entry(1, 0, "a"));
    admission.step(0, Event::Submit(entry(2, 0, "b")));
    let actions = admission.step(5, Event::Gone { worker, fault: death(), unheard: BTreeSet::new() });
    assert_eq!(failed(&actions, Code::WorkerDied), [1, 2]);
    assert!(admission.is_still());
    assert_eq!(admission.next_wake(), None);
}

#[test]
fn a_dropped_answer_is_cancelled_in_the_same_step_and_keeps_its_slot_until_the_worker_agrees() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, entry(1, 0, "a"));
    admission.step(0, Event::Submit(entry(2, 0, "a")));
    admission.step(0, Event::Submit(entry(3, 0, "a")));
    admission.step(0, Event::Ready { worker, slots: 1, cells: CELLS });
    let actions = admission.step(1, Event::Dropped(AskId(1)));
    assert_eq!(
        actions,
        [Action::Cancel { worker, ask: AskId(1) }, Action::End { ask: AskId(1), ending: Ending::Dropped }]
    );
    // One that waits costs the worker nothing.
    let actions = admission.step(1, Event::Dropped(AskId(2)));
    assert_eq!(actions, [Action::End { ask: AskId(2), ending: Ending::Dropped }]);
    assert_eq!(begun(&done(&mut admission, 2, worker, 1)), [3]);
}

#[test]
fn deadlines_count_waiting_and_loading_and_the_worker_gets_what_is_left() {
    let mut admission = machine();
    let deadline = |ask, deadline_ms| Entry { deadline_ms: Some(deadline_ms), ..entry(ask, 0, "a") };
    let worker = started(&mut admission, 0, deadline(1, 300));
    admission.step(0, Event::Submit(deadline(2, 100)));
    assert_eq!(admission.next_wake(), Some(100));
    assert_eq!(failed(&admission.step(100, Event::Tick), Code::DeadlineExceeded), [2]);
    let actions = admission.step(120, Event::Ready { worker, slots: 4, cells: CELLS });
    assert_eq!(actions, [Action::Begin { worker, ask: AskId(1), deadline_left_ms: Some(180) }]);
    let actions = admission.step(300, Event::Tick);
    assert!(actions.contains(&Action::Cancel { worker, ask: AskId(1) }), "{actions:?}");
    assert_eq!(failed(&actions, Code::DeadlineExceeded), [1]);
    assert!(format!("{actions:?}").contains("300 ms"), "{actions:?}");
}

#[test]
fn a_silent_worker_is_asked_then_ended_and_only_with_work_outstanding() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, entry(1, 0, "a"));
    admission.step(0, Event::Ready { worker, slots: 1, cells: CELLS });
    assert_eq!(admission.next_wake(), Some(50));
    assert_eq!(admission.step(50, Event::Tick), [Action::Ping(worker)]);
    // It answers: the clock starts anew.
    admission.step(60, Event::Seen(vec![worker]));
    assert_eq!(admission.next_wake(), Some(110));
    assert_eq!(admission.step(110, Event::Tick), [Action::Ping(worker)]);
    admission.step(111, Event::Submit(entry(2, 0, "a")));
    assert_eq!(admission.next_wake(), Some(310));
    let actions = admission.step(310, Event::Tick);
    assert!(actions.contains(&Action::Kill(worker)), "{actions:?}");
    assert_eq!(failed(&actions, Code::WorkerDied), [1]);
    // The one that waited gets a new worker, once the old one is gone.
    let actions = admission.step(311, Event::Gone { worker, fault: death(), unheard: BTreeSet::new() });
    assert!(matches!(actions[..], [Action::Start { .. }]), "{actions:?}");
}

#[test]
fn nothing_ticks_when_nothing_runs_but_the_idle_timer_once() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, entry(1, 0, "a"));
    admission.step(0, Event::Ready { worker, slots: 1, cells: CELLS });
    done(&mut admission, 10, worker, 1);
    assert_eq!(admission.next_wake(), Some(510));
    assert_eq!(admission.step(510, Event::Tick), [Action::Stop(worker)]);
    assert_eq!(admission.next_wake(), Some(610));
    // It doesn't end when asked.
    assert_eq!(admission.step(610, Event::Tick), [Action::Kill(worker)]);
    admission.step(611, Event::Gone { worker, fault: death(), unheard: BTreeSet::new() });
    assert_eq!(admission.next_wake(), None);
}

#[test]
fn an_ask_that_comes_while_the_worker_leaves_gets_the_next_worker() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, entry(1, 0, "a"));
    admission.step(0, Event::Ready { worker, slots: 1, cells: CELLS });
    admission.step(1, Event::Unload(ModelKey(0)));
    let actions = done(&mut admission, 2, worker, 1);
    assert_eq!(actions[1..], [Action::Stop(worker)]);
    assert_eq!(begun(&admission.step(3, Event::Submit(entry(2, 0, "a")))), [0_u64; 0]);
    let actions = admission.step(4, Event::Gone { worker, fault: death(), unheard: BTreeSet::new() });
    assert!(matches!(actions[..], [Action::Start { .. }]), "{actions:?}");
}

#[test]
fn a_load_that_takes_too_long_fails_with_the_limit() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, entry(1, 0, "a"));
    let actions = admission.step(400, Event::Loading { worker, percent: 30 });
    assert_eq!(actions, [Action::Waiting { ask: AskId(1), percent: Some(30) }]);
    let actions = admission.step(1000, Event::Tick);
    assert_eq!(failed(&actions, Code::ModelLoadFailed), [1]);
    assert!(actions.contains(&Action::Kill(worker)), "{actions:?}");
    assert!(format!("{actions:?}").contains("1.0 s"), "{actions:?}");
}

#[test]
fn counts_pass_by_full_slots() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, entry(1, 0, "a"));
    admission.step(0, Event::Ready { worker, slots: 1, cells: CELLS });
    admission.step(0, Event::Submit(entry(2, 0, "a")));
    let actions = admission.step(0, Event::Submit(Entry { need: Need::Ear, size: None, ..entry(3, 0, "a") }));
    assert_eq!(begun(&actions), [3]);
}

#[test]
fn shutdown_ends_everything_and_takes_nothing_more() {
    let mut admission = machine();
    let ready = started(&mut admission, 0, entry(1, 0, "a"));
    let loading = started(&mut admission, 0, entry(2, 1, "a"));
    admission.step(0, Event::Ready { worker: ready, slots: 1, cells: CELLS });
    admission.step(0, Event::Submit(entry(3, 0, "a")));
    let actions = admission.step(1, Event::Shutdown);
    assert_eq!(failed(&actions, Code::Cancelled), [1, 2, 3]);
    assert!(actions.contains(&Action::Stop(ready)) && actions.contains(&Action::Kill(loading)), "{actions:?}");
    assert_eq!(failed(&admission.step(2, Event::Submit(entry(4, 0, "a"))), Code::Cancelled), [4]);
    for worker in [ready, loading] {
        assert!(!admission.is_still());
        admission.step(3, Event::Gone { worker, fault: death(), unheard: BTreeSet::new() });
    }
    assert!(admission.is_still());
    assert_eq!(admission.next_wake(), None);
}

proptest! {
    /// While an app waits, no other app of the same class begins twice.
    #[test]
    fn every_app_gets_its_turn(asks in prop::collection::vec((0..4_usize, any::<bool>()), 1..8)) {
        let mut admission = machine();
        let apps = ["a", "b", "c", "d"];
        let worker = started(&mut admission, 0, entry(999, 0, "first"));
        for (ask, (app, batch)) in asks.iter().enumerate() {
            let priority = if *batch { Priority::Batch } else { Priority::Interactive };
            admission.step(0, Event::Submit(Entry { priority, ..entry(ask as u64, 0, apps[*app]) }));
        }
        let mut begun_now = begun(&admission.step(0, Event::Ready { worker, slots: 1, cells: CELLS }));
        let mut order = Vec::new();
        while let Some(ask) = begun_now.first().copied() {
            if ask != 999 {
                order.push(usize::try_from(ask).expect("small"));
            }
            begun_now = begun(&done(&mut admission, 1, worker, ask));
        }
        prop_assert_eq!(order.len(), asks.len());
        let batch_from = order.iter().position(|ask| asks[*ask].1).unwrap_or(order.len());
        prop_assert!(order[batch_from..].iter().all(|ask| asks[*ask].1), "batch before interactive: {:?}", order);
        for class in [&order[..batch_from], &order[batch_from..]] {
            for (place, ask) in class.iter().enumerate() {
                let again = class[place + 1..].iter().position(|later| asks[*later].0 == asks[*ask].0);
                let Some(again) = again.map(|at| place + 1 + at) else { continue };
                prop_assert!(class[again] > *ask, "not first come first served: {:?}", class);
                let served: BTreeSet<usize> = class[place + 1..again].iter().map(|at| asks[*at].0).collect();
                let waiting: BTreeSet<usize> = class[again..].iter().map(|at| asks[*at].0).collect();
                let passed_over = waiting.iter().filter(|app| **app != asks[*ask].0).all(|app| served.contains(app));
                prop_assert!(passed_over, "an app was passed over: {:?}", class);
            }
        }
    }
}
