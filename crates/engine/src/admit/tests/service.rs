//! Who steps back for whom, and that nobody waits for ever: single cases, and apps that ask without end.

use super::*;
use std::collections::BTreeMap;

fn of(ask: u64, app: &str, priority: Priority) -> Entry {
    Entry { priority, ..entry(ask, 0, app) }
}

fn sized(ask: u64, app: &str, prompt_tokens: u64) -> Entry {
    Entry { size: Some(Size { prompt_bytes: prompt_tokens * 3, tokens_max: 10 }), ..entry(ask, 0, app) }
}

fn submit(admission: &mut Admission<()>, now: u64, entry: Entry) -> Vec<Action<()>> {
    let actions = admission.step(now, Event::Submit(entry));
    actions.into_iter().filter(|action| !matches!(action, Action::Waiting { .. })).collect()
}

fn parked(admission: &mut Admission<()>, now: u64, worker: WorkerKey, ask: u64) -> Vec<Action<()>> {
    admission.step(now, Event::Parked { worker, ask: AskId(ask), held: true, tokens: 20, saved: true })
}

fn hold(worker: WorkerKey, ask: u64) -> Action<()> {
    Action::Hold { worker, ask: AskId(ask) }
}

fn resume(worker: WorkerKey, ask: u64) -> Action<()> {
    Action::Resume { worker, ask: AskId(ask) }
}

fn begin(worker: WorkerKey, ask: u64) -> Action<()> {
    Action::Begin { worker, ask: AskId(ask), deadline_left_ms: None }
}

fn end(ask: u64) -> Action<()> {
    Action::End { ask: AskId(ask), ending: Ending::Done(()) }
}

/// A worker with so many slots, all taken by asks from 1 on.
fn full(admission: &mut Admission<()>, slots: u32, app: &str, priority: Priority) -> WorkerKey {
    let worker = started(admission, 0, of(1, app, priority));
    for ask in 2..=u64::from(slots) {
        submit(admission, 0, of(ask, app, priority));
    }
    admission.step(0, Event::Ready { worker, slots, cells: CELLS });
    worker
}

#[test]
fn a_batch_ask_makes_room_at_once_and_goes_on_after() {
    let mut admission = machine();
    let worker = full(&mut admission, 2, "a", Priority::Batch);
    assert_eq!(submit(&mut admission, 5, of(9, "a", Priority::Interactive)), [hold(worker, 1)]);
    // Its slot counts until the worker has said that it is free.
    assert_eq!(submit(&mut admission, 6, of(3, "a", Priority::Batch)), []);
    assert_eq!(parked(&mut admission, 7, worker, 1), [begin(worker, 9)]);
    assert_eq!(admission.load_of(ModelKey(0)), Counts { running: 2, waiting: 1, parked: 1 });
    // Before the batch ask that has not begun.
    assert_eq!(done(&mut admission, 8, worker, 9), [end(9), resume(worker, 1)]);
    assert_eq!(done(&mut admission, 9, worker, 1), [end(1), begin(worker, 3)]);
}

#[test]
fn a_prompt_is_counted_by_the_length_of_earlier_tokens() {
    let mut admission = machine();
    let worker = full(&mut admission, 2, "a", Priority::Interactive);
    done(&mut admission, 1, worker, 2);
    let long = |ask| Entry { size: Some(Size { prompt_bytes: 3_600, tokens_max: 10 }), ..entry(ask, 0, "a") };
    // A third of its bytes is more than the pool has.
    assert_eq!(submit(&mut admission, 2, long(3)), []);
    // It turns out that four and a half bytes are a token here.
    let tokens = |ask, prompt_tokens| Event::Accepted { worker, ask: AskId(ask), prompt_tokens, tokens_max: 10 };
    assert_eq!(admission.step(3, tokens(1, 7)), [begin(worker, 3)]);
    // The worker's own count is taken from then on.
    assert_eq!(admission.step(4, tokens(3, 990)), []);
    assert_eq!(done(&mut admission, 5, worker, 1), [end(1)]);
    assert_eq!(submit(&mut admission, 6, sized(4, "a", 10)), []);
}

#[test]
fn what_was_heard_fades_and_is_never_trusted_wholly() {
    let cells = |heard: Heard, prompt_bytes| heard.cells(Size { prompt_bytes, tokens_max: 10 });
    let mut heard = Heard::default();
    assert_eq!((cells(heard, 0), cells(heard, 300)), (10, 110));
    heard.hear(4_000, 1_000);
    assert_eq!(cells(heard, 4_000), 1_125 + 10, "an eighth more");
    let mut wide = Heard::default();
    wide.hear(4_000, 40);
    assert_eq!(cells(wide, 600), 100 + 10, "a hundred bytes in one token aren't believed of the next text");
    let mut narrow = Heard::default();
    narrow.hear(100, 3_000);
    assert_eq!(cells(narrow, 600), 600 + 10, "no token is shorter than a byte");
    // Another language, and texts beyond what is remembered.
    (0..40).for_each(|_| heard.hear(1 << 20, 1 << 19));
    assert_eq!(cells(heard, 800), 450 + 10);
    heard.hear(u64::MAX, u32::MAX);
    assert!(cells(heard, u64::MAX) > 10);
    heard.hear(0, 5);
    assert_eq!(cells(heard, 0), 10);
}

#[test]
fn batch_asks_have_their_turn_under_any_load() {
    let mut admission = machine();
    let worker = full(&mut admission, 1, "a", Priority::Interactive);
    submit(&mut admission, 0, of(50, "b", Priority::Batch));
    let (mut now, mut last) = (0, 1);
    for ask in 100..120 {
        now += 100;
        submit(&mut admission, now, of(ask, "a", Priority::Interactive));
        let begun = begun(&done(&mut admission, now, worker, last));
        if begun == [50] {
            break;
        }
        last = begun[0];
    }
    assert_eq!(now, BOUNDS.batch_patience_ms);
    // And it keeps its turn for a quantum, then it makes room again.
    assert_eq!(admission.next_wake(), Some(now + BOUNDS.ping_after_ms));
    assert_eq!(submit(&mut admission, now + 10, of(200, "a", Priority::Interactive)), []);
    assert_eq!(admission.step(now + BOUNDS.quantum_ms, Event::Tick), [Action::Ping(worker), hold(worker, 50)]);
}

#[test]
fn an_app_with_more_gives_one_up_after_a_quantum() {
    let mut admission = machine();
    let worker = full(&mut admission, 2, "greedy", Priority::Interactive);
    submit(&mut admission, 0, of(3, "greedy", Priority::Interactive));
    assert_eq!(submit(&mut admission, 1, of(9, "modest", Priority::Interactive)), []);
    assert_eq!(admission.step(60, Event::Tick), [Action::Ping(worker)]);
    assert_eq!(admission.next_wake(), Some(61));
    assert_eq!(admission.step(61, Event::Tick), [hold(worker, 1)]);
    // What becomes free is for the one that it was taken for, whoever's turn it is.
    assert_eq!(parked(&mut admission, 62, worker, 1), [begin(worker, 9)]);
    // They have one each now: that is fair, however long the others wait.
    assert!(!admission.step(130, Event::Tick).iter().any(|action| matches!(action, Action::Hold { .. })));
    // The one that had begun goes on before the one that had not.
    assert_eq!(done(&mut admission, 131, worker, 2), [end(2), resume(worker, 1)]);
}

#[test]
fn apps_take_turns_on_a_single_slot() {
    let mut admission = machine();
    let worker = full(&mut admission, 1, "a", Priority::Interactive);
    submit(&mut admission, 0, of(2, "b", Priority::Interactive));
    let mut order = vec![1];
    for _ in 0..30 {
        let now = admission.next_wake().expect("somebody waits");
        let held = admission.step(now, Event::Seen(vec![worker])).into_iter().find_map(|action| match action {
            Action::Hold { ask, .. } => Some(ask.0),
            _ => None,
        });
        let Some(held) = held else { continue };
        match parked(&mut admission, now + 1, worker, held)[..] {
            [Action::Begin { ask, .. } | Action::Resume { ask, .. }] => order.push(ask.0),
            ref other => panic!("{other:?}"),
        }
    }
    assert!(order.len() >= 4, "{order:?}");
    assert!(order.windows(2).all(|two| two[0] != two[1]), "{order:?}");
}

#[test]
fn who_has_had_turns_keeps_the_next_one_longer_but_not_from_a_newcomer() {
    let mut admission = machine();
    let worker = full(&mut admission, 1, "a", Priority::Interactive);
    submit(&mut admission, 0, of(2, "b", Priority::Interactive));
    let mut held_at = Vec::new();
    while held_at.len() < 8 {
        let now = admission.next_wake().expect("somebody waits");
        admission.step(now, Event::Seen(vec![worker]));
        // The tick may have come with the sign of life: who steps back is found by who may say so.
        for ask in [1, 2] {
            if !parked(&mut admission, now, worker, ask).is_empty() {
                held_at.push(now);
            }
        }
    }
    let turns: Vec<u64> = held_at.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(turns, [300, 600, 600, 1200, 1200, 2400, 2400]);
    let now = held_at[7];
    submit(&mut admission, now, of(3, "c", Priority::Interactive));
    let mut early = Vec::new();
    for at in [now + 100, now + 200, now + 299] {
        early.extend(admission.step(at, Event::Seen(vec![worker])));
    }
    assert!(!early.iter().any(|action| matches!(action, Action::Hold { .. })), "{early:?}");
    let actions = admission.step(now + 300, Event::Tick);
    assert!(actions.iter().any(|action| matches!(action, Action::Hold { .. })), "{actions:?}");
}

#[test]
fn who_lost_its_state_is_left_alone() {
    let mut admission = machine();
    let worker = full(&mut admission, 1, "a", Priority::Batch);
    submit(&mut admission, 0, of(2, "b", Priority::Interactive));
    let lost = Event::Parked { worker, ask: AskId(1), held: true, tokens: 500, saved: false };
    admission.step(1, lost);
    assert_eq!(done(&mut admission, 2, worker, 2)[1..], [resume(worker, 1)]);
    // It would read its prompt for ever.
    assert_eq!(submit(&mut admission, 3, of(3, "b", Priority::Interactive)), []);
    assert!(!admission.step(1000, Event::Tick).contains(&hold(worker, 1)));
}

#[test]
fn a_slow_reader_takes_no_room_and_goes_on_when_it_has_read() {
    let mut admission = machine();
    let worker = full(&mut admission, 1, "a", Priority::Interactive);
    submit(&mut admission, 0, of(2, "a", Priority::Interactive));
    assert_eq!(admission.step(1, Event::Slow(AskId(1))), [hold(worker, 1)]);
    assert_eq!(admission.step(1, Event::Slow(AskId(1))), [], "it was told");
    assert_eq!(parked(&mut admission, 2, worker, 1), [begin(worker, 2)]);
    assert_eq!(admission.step(3, Event::Drained(AskId(1))), []);
    assert_eq!(done(&mut admission, 4, worker, 2), [end(2), resume(worker, 1)]);
    // It reads before the worker has stepped back: then there is nothing to wait for.
    admission.step(5, Event::Slow(AskId(1)));
    assert_eq!(admission.step(6, Event::Drained(AskId(1))), []);
    assert_eq!(parked(&mut admission, 7, worker, 1), [resume(worker, 1)]);
}

#[test]
fn a_reader_that_never_comes_back_loses_the_ask() {
    let mut admission = machine();
    let worker = full(&mut admission, 1, "a", Priority::Interactive);
    admission.step(10, Event::Slow(AskId(1)));
    parked(&mut admission, 11, worker, 1);
    // Nobody is asked meanwhile whether it lives, and nothing else ticks.
    assert_eq!(admission.next_wake(), Some(5010));
    let actions = admission.step(5010, Event::Tick);
    assert_eq!(failed(&actions, Code::Busy), [1]);
    assert!(actions.contains(&Action::Cancel { worker, ask: AskId(1) }), "{actions:?}");
    assert!(format!("{actions:?}").contains("5.0 s"), "{actions:?}");
    assert_eq!(done(&mut admission, 5011, worker, 1), []);
    assert_eq!(admission.load_of(ModelKey(0)), Counts::default());
}

#[test]
fn parked_asks_end_by_their_deadline_and_with_their_worker() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, Entry { deadline_ms: Some(300), ..entry(1, 0, "a") });
    for ask in [2, 3] {
        submit(&mut admission, 0, entry(ask, 0, "a"));
    }
    admission.step(0, Event::Ready { worker, slots: 3, cells: CELLS });
    for ask in [1, 2, 3] {
        admission.step(1, Event::Slow(AskId(ask)));
        parked(&mut admission, 2, worker, ask);
    }
    assert_eq!(admission.next_wake(), Some(300));
    let actions = admission.step(300, Event::Tick);
    assert_eq!(failed(&actions, Code::DeadlineExceeded), [1]);
    assert!(format!("{actions:?}").contains("had to wait"), "{actions:?}");
    // One had been heard of and has said something; the other goes to the next worker, from its beginning.
    let actions = admission.step(301, Event::Gone { worker, fault: death(), unheard: [AskId(3)].into() });
    assert_eq!(failed(&actions, Code::WorkerDied), [2]);
    let next = actions.iter().find_map(|a| if let Action::Start { worker, .. } = a { Some(*worker) } else { None });
    let next = next.expect("a new worker");
    assert_eq!(admission.step(302, Event::Ready { worker: next, slots: 3, cells: CELLS }), [begin(next, 3)]);
}

#[test]
fn no_more_is_begun_than_the_pool_holds() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, sized(1, "a", 600));
    submit(&mut admission, 0, sized(2, "b", 500));
    submit(&mut admission, 0, sized(3, "c", 100));
    // The second waits for the first; the third passes it.
    assert_eq!(
        admission.step(0, Event::Ready { worker, slots: 4, cells: CELLS }),
        [begin(worker, 1), begin(worker, 3)]
    );
    // The worker counts fewer tokens than the bytes suggested.
    let accepted = Event::Accepted { worker, ask: AskId(1), prompt_tokens: 300, tokens_max: 10 };
    assert_eq!(admission.step(1, accepted), [begin(worker, 2)]);
    // One as large as the pool, or larger, has it alone; its worker says when it doesn't fit.
    assert_eq!(submit(&mut admission, 2, sized(4, "a", 90_000)), []);
    for ask in [1, 2] {
        assert_eq!(done(&mut admission, 3, worker, ask), [end(ask)]);
    }
    assert_eq!(done(&mut admission, 3, worker, 3), [end(3), begin(worker, 4)]);
}

#[test]
fn a_large_ask_lets_some_pass_and_not_all() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, sized(1, "a", 500));
    admission.step(0, Event::Ready { worker, slots: 2, cells: CELLS });
    submit(&mut admission, 0, sized(2, "large", 900));
    let mut passed = 0;
    for ask in 10..80 {
        // Within the quantum, so that nobody is asked to step back.
        if submit(&mut admission, 1, sized(ask, "small", 20)) != [begin(worker, ask)] {
            break;
        }
        passed += 1;
        done(&mut admission, 1, worker, ask);
    }
    assert_eq!(passed, super::super::queue::PASSES_MAX);
    assert_eq!(done(&mut admission, 2, worker, 1), [end(1), begin(worker, 2), begin(worker, 42)]);
}

#[test]
fn a_pool_that_runs_dry_takes_no_more() {
    let mut admission = machine();
    let worker = started(&mut admission, 0, sized(1, "a", 50));
    submit(&mut admission, 0, sized(2, "a", 50));
    admission.step(0, Event::Ready { worker, slots: 4, cells: CELLS });
    admission.step(1, Event::Parked { worker, ask: AskId(2), held: false, tokens: 400, saved: true });
    assert_eq!(submit(&mut admission, 2, sized(3, "a", 50)), []);
    assert_eq!(admission.step(3, Event::Resumed { worker, ask: AskId(2) }), [begin(worker, 3)]);
}

// ---- Apps that ask without end ----

#[derive(Debug, Clone)]
struct App {
    batch: bool,
    /// Asks that it has at a time: each is followed by the next.
    at_once: usize,
    prompt_tokens: u64,
    work_ms: u64,
    /// Every so many of its asks, the reader is away for a while.
    slow_every: u64,
}

fn app() -> impl Strategy<Value = App> {
    let prompt = prop_oneof![3 => 5..100_u64, 1 => 100..990_u64];
    (any::<bool>(), 1..4_usize, prompt, 10..400_u64, 2..9_u64).prop_map(
        |(batch, at_once, prompt_tokens, work_ms, slow_every)| App {
            batch,
            at_once,
            prompt_tokens,
            work_ms,
            slow_every,
        },
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waits,
    Works,
    Leaves,
    Parked,
}

struct Job {
    app: usize,
    place: Place,
    since: u64,
    left_ms: u64,
    /// Its reader is back then.
    slow_until: Option<u64>,
}

/// One worker and all apps, in steps of `TICK_MS`.
struct Service {
    admission: Admission<()>,
    now: u64,
    apps: Vec<App>,
    jobs: BTreeMap<AskId, Job>,
    made: u64,
    worker: Option<WorkerKey>,
    slots: usize,
    ended: BTreeMap<usize, u64>,
    longest_ms: BTreeMap<bool, u64>,
}

const TICK_MS: u64 = 10;

impl Service {
    fn submit(&mut self, app: usize) {
        self.made += 1;
        let App { batch, prompt_tokens, work_ms, .. } = self.apps[app];
        let ask = AskId(self.made);
        let entry = Entry {
            priority: if batch { Priority::Batch } else { Priority::Interactive },
            ..sized(ask.0, &format!("app {app}"), prompt_tokens)
        };
        self.jobs.insert(ask, Job { app, place: Place::Waits, since: self.now, left_ms: work_ms, slow_until: None });
        self.step(Event::Submit(entry));
    }

    fn step(&mut self, event: Event<()>) {
        for action in self.admission.step(self.now, event) {
            match action {
                Action::Start { worker, .. } => self.worker = Some(worker),
                Action::Begin { ask, .. } | Action::Resume { ask, .. } => {
                    let job = self.jobs.get_mut(&ask).expect("it lives");
                    assert!(matches!(job.place, Place::Waits | Place::Parked));
                    let batch = self.apps[job.app].batch;
                    let longest = self.longest_ms.entry(batch).or_default();
                    *longest = (*longest).max(self.now - job.since);
                    (job.place, job.since) = (Place::Works, self.now);
                }
                Action::Hold { ask, .. } => self.jobs.get_mut(&ask).expect("it lives").place = Place::Leaves,
                Action::End { ask, ending } => {
                    assert_eq!(ending, Ending::Done(()), "{ask:?}");
                    let job = self.jobs.remove(&ask).expect("it lives");
                    *self.ended.entry(job.app).or_default() += 1;
                }
                Action::Waiting { .. } | Action::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let works = self.jobs.values().filter(|job| matches!(job.place, Place::Works | Place::Leaves));
        assert!(works.count() <= self.slots);
    }

    fn tick(&mut self) {
        self.now += TICK_MS;
        let worker = self.worker.expect("one was started");
        self.step(Event::Seen(vec![worker]));
        for ask in self.jobs.keys().copied().collect::<Vec<_>>() {
            let Some(job) = self.jobs.get_mut(&ask) else { continue };
            if job.slow_until.is_some_and(|at| at <= self.now) {
                job.slow_until = None;
                // Only from here on does it wait for others.
                job.since = self.now;
                self.step(Event::Drained(ask));
                continue;
            }
            match job.place {
                Place::Leaves => {
                    (job.place, job.since) = (Place::Parked, self.now);
                    let left = u32::try_from(self.apps[job.app].prompt_tokens).expect("small");
                    self.step(Event::Parked { worker, ask, held: true, tokens: left, saved: true });
                }
                Place::Works => {
                    job.left_ms = job.left_ms.saturating_sub(TICK_MS);
                    let (app, left_ms) = (job.app, job.left_ms);
                    if left_ms == 0 {
                        self.step(Event::Ended { worker, ask, result: Ok(()) });
                        self.submit(app);
                    } else if ask.0.is_multiple_of(self.apps[app].slow_every)
                        && left_ms < 100
                        && left_ms + TICK_MS >= 100
                    {
                        job.slow_until = Some(self.now + 500);
                        self.step(Event::Slow(ask));
                    }
                }
                Place::Waits | Place::Parked => {}
            }
        }
        self.step(Event::Tick);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever the apps want: every ask begins, and every parked one goes on, within a bound that depends on
    /// how many there are and on nothing else. A batch ask's contains the turns that interactive ones have first.
    #[test]
    fn nobody_waits_for_ever(apps in prop::collection::vec(app(), 1..6), slots in 1..5_u32) {
        let mut service = Service {
            admission: Admission::new(Bounds { queue_max: 100, app_queue_max: 100, ..BOUNDS }),
            now: 0,
            jobs: BTreeMap::new(),
            made: 0,
            worker: None,
            slots: slots as usize,
            ended: BTreeMap::new(),
            longest_ms: BTreeMap::new(),
            apps,
        };
        for app in 0..service.apps.len() {
            for _ in 0..service.apps[app].at_once {
                service.submit(app);
            }
        }
        let worker = service.worker.expect("one was started");
        service.step(Event::Ready { worker, slots, cells: CELLS });
        while service.now < 60_000 {
            service.tick();
        }
        let all = u64::try_from(service.jobs.len()).expect("small");
        let turn_ms = 400 + 5 * BOUNDS.quantum_ms + 3 * TICK_MS;
        let passes = u64::from(super::super::queue::PASSES_MAX) + 1;
        // A batch ask may be worked off in turns of a quantum, with the patience before each.
        let turns = 400_u64.div_ceil(BOUNDS.quantum_ms);
        let most = |batch: bool| match batch {
            true => all * turns * (BOUNDS.batch_patience_ms + turn_ms),
            false => (all + passes) * turn_ms * 2,
        };
        for (batch, longest) in &service.longest_ms {
            prop_assert!(*longest <= most(*batch), "batch {batch}: {longest} ms of {} ms", most(*batch));
        }
        for job in service.jobs.values().filter(|job| job.slow_until.is_none() && matches!(job.place, Place::Waits | Place::Parked)) {
            let (batch, waits) = (service.apps[job.app].batch, service.now - job.since);
            prop_assert!(waits <= most(batch), "batch {batch}: waits for {waits} ms of {} ms", most(batch));
        }
    }
}
