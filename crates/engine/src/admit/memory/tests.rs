use super::*;
use crate::admit::{Bounds, Ending, Entry, Event, Need};
use crate::residency::Cost;
use base::{AppId, AskId, Code, Priority};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const MIB: u64 = 1 << 20;

const BOUNDS: Bounds = Bounds {
    queue_max: 64,
    app_queue_max: 64,
    load_timeout_ms: 10_000,
    idle_rest_ms: 100,
    idle_unload_ms: 1000,
    ping_after_ms: 50,
    hang_ms: 200,
    stop_ms: 100,
    quantum_ms: 20,
    batch_patience_ms: 1000,
    unread_ms: 10_000,
};

fn entry(ask: u64, model: u32) -> Entry {
    Entry {
        ask: AskId(ask),
        model: ModelKey(model),
        app: AppId("a".into()),
        priority: Priority::Interactive,
        need: Need::Slot,
        size: None,
        deadline_ms: None,
    }
}

/// A model of so many MiB, and one MiB for 256 tokens.
fn needs(mib: u64, pinned: bool) -> Needs {
    let cost = Cost { weights: mib * MIB, compute: 10 * MIB, per_token: 4096, ..Cost::default() };
    let plan = Plan {
        first_tokens: 2560,
        least_tokens: 256,
        limit_tokens: 25_600,
        sequences_max: 2,
        batch_tokens: 512,
        adapter_bytes: 0,
        draft: DraftCost::default(),
        cost,
    };
    Needs { name: "m".into(), plan, pinned }
}

fn machine(budget_mib: u64, models: &[Needs]) -> Admission<()> {
    let mut admission = Admission::new(BOUNDS);
    admission.set_budget(Some(budget_mib * MIB));
    for (key, needs) in (0..).zip(models) {
        admission.step(0, Event::Know(ModelKey(key), needs.clone()));
    }
    admission
}

fn start_of(actions: &[Action<()>]) -> Option<WorkerKey> {
    actions.iter().find_map(|action| match action {
        Action::Start { worker, .. } => Some(*worker),
        _ => None,
    })
}

/// Asks the model and makes its worker ready; the ask runs then.
fn serve(admission: &mut Admission<()>, now: u64, ask: u64, model: u32) -> WorkerKey {
    let worker = start_of(&admission.step(now, Event::Submit(entry(ask, model)))).expect("there is room");
    admission.step(now, Event::Ready { worker, slots: 2, cells: 1 << 20 });
    worker
}

fn done(admission: &mut Admission<()>, now: u64, worker: WorkerKey, ask: u64) -> Vec<Action<()>> {
    admission.step(now, Event::Ended { worker, ask: AskId(ask), result: Ok(()) })
}

fn gone(admission: &mut Admission<()>, now: u64, worker: WorkerKey) -> Vec<Action<()>> {
    let fault = Fault::new(Code::WorkerDied, "gone");
    admission.step(now, Event::Gone { worker, fault, unheard: BTreeSet::new() })
}

fn resized(admission: &mut Admission<()>, now: u64, worker: WorkerKey, tokens: u32, resting: bool) -> Vec<Action<()>> {
    admission.step(now, Event::Resized { worker, tokens, resting, fault: None })
}

fn short(actions: &[Action<()>]) -> Vec<u64> {
    let of = |action: &Action<()>| match action {
        Action::End { ask, ending: Ending::Fault(fault) } if fault.code == Code::MemoryShort => Some(ask.0),
        _ => None,
    };
    actions.iter().filter_map(of).collect()
}

#[test]
fn two_loads_at_once_are_not_granted_the_same_bytes() {
    let mut admission = machine(600, &[needs(400, false), needs(400, false)]);
    let first = start_of(&admission.step(0, Event::Submit(entry(1, 0)))).expect("there is room for one");
    let actions = admission.step(0, Event::Submit(entry(2, 1)));
    assert_eq!(start_of(&actions), None, "{actions:?}");
    // The first serves its ask before it goes; the second waits, and isn't refused.
    admission.step(1, Event::Ready { worker: first, slots: 2, cells: 1 << 20 });
    let actions = done(&mut admission, 2, first, 1);
    assert!(actions.contains(&Action::Stop(first)), "{actions:?}");
    assert!(start_of(&gone(&mut admission, 3, first)).is_some());
}

#[test]
fn models_that_do_not_fit_together_take_turns_and_nobody_starves() {
    let mut admission = machine(600, &[needs(400, false), needs(400, false)]);
    let first = serve(&mut admission, 0, 1, 0);
    admission.step(1, Event::Submit(entry(2, 1)));
    // The first model is asked again and again: what comes after the second one's ask waits for it.
    let actions = admission.step(2, Event::Submit(entry(3, 0)));
    assert!(!actions.iter().any(|action| matches!(action, Action::Begin { .. })), "{actions:?}");
    let actions = done(&mut admission, 3, first, 1);
    assert!(actions.contains(&Action::Stop(first)), "{actions:?}");
    let second = start_of(&gone(&mut admission, 4, first)).expect("its turn");
    let actions = admission.step(5, Event::Ready { worker: second, slots: 2, cells: 1 << 20 });
    assert!(matches!(actions[..], [Action::Begin { ask: AskId(2), .. }]), "{actions:?}");
    let actions = done(&mut admission, 6, second, 2);
    assert!(actions.contains(&Action::Stop(second)), "{actions:?}");
    let third = start_of(&gone(&mut admission, 7, second)).expect("and back");
    let actions = admission.step(8, Event::Ready { worker: third, slots: 2, cells: 1 << 20 });
    assert!(matches!(actions[..], [Action::Begin { ask: AskId(3), .. }]), "{actions:?}");
}

#[test]
fn what_can_never_fit_is_refused_and_nobody_goes_for_it() {
    let mut admission = machine(600, &[needs(400, false), needs(1000, false), needs(300, false)]);
    let worker = serve(&mut admission, 0, 1, 0);
    done(&mut admission, 1, worker, 1);
    let actions = admission.step(2, Event::Submit(entry(2, 1)));
    assert_eq!((short(&actions), actions.len()), (vec![2], 1), "{actions:?}");
    // A pinned one keeps its memory, and the other is told so.
    admission.step(3, Event::Pin(ModelKey(0), true));
    let actions = admission.step(4, Event::Submit(entry(3, 2)));
    assert_eq!((short(&actions), actions.len()), (vec![3], 1), "{actions:?}");
    admission.step(5, Event::Pin(ModelKey(0), false));
    let actions = admission.step(6, Event::Submit(entry(4, 2)));
    assert!(actions.contains(&Action::Stop(worker)) && short(&actions).is_empty(), "{actions:?}");
}

#[test]
fn an_idle_model_rests_then_goes_and_a_pinned_one_only_rests() {
    for pinned in [false, true] {
        let mut admission = machine(1000, &[needs(400, pinned)]);
        let worker = serve(&mut admission, 0, 1, 0);
        done(&mut admission, 10, worker, 1);
        assert_eq!(admission.next_wake(), Some(110));
        assert_eq!(admission.step(110, Event::Tick), [Action::Rest(worker)]);
        assert_eq!(resized(&mut admission, 111, worker, 2560, true), []);
        // Nothing ticks between the two.
        assert_eq!(admission.next_wake(), if pinned { None } else { Some(1010) });
        let actions = admission.step(1010, Event::Tick);
        assert_eq!(actions, if pinned { vec![] } else { vec![Action::Stop(worker)] });
    }
}

#[test]
fn a_model_at_rest_wakes_before_it_is_given_an_ask() {
    let mut admission = machine(1000, &[needs(400, false)]);
    let worker = serve(&mut admission, 0, 1, 0);
    done(&mut admission, 10, worker, 1);
    admission.step(110, Event::Tick);
    resized(&mut admission, 111, worker, 2560, true);
    let actions = admission.step(200, Event::Submit(entry(2, 0)));
    assert!(actions.contains(&Action::Resize { worker, context_tokens: 2560 }), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Begin { .. })), "{actions:?}");
    let actions = resized(&mut admission, 201, worker, 2560, false);
    assert!(matches!(actions[..], [Action::Begin { ask: AskId(2), .. }]), "{actions:?}");
    // One that can't wake fails its asks and stays.
    done(&mut admission, 202, worker, 2);
    admission.step(310, Event::Tick);
    resized(&mut admission, 311, worker, 2560, true);
    admission.step(312, Event::Submit(entry(3, 0)));
    let fault = Some(Fault::new(Code::MemoryShort, "no"));
    let actions = admission.step(313, Event::Resized { worker, tokens: 2560, resting: true, fault });
    assert_eq!((short(&actions), actions.len()), (vec![3], 1), "{actions:?}");
}

#[test]
fn a_worker_that_hangs_while_it_wakes_is_found() {
    let mut admission = machine(1000, &[needs(400, false)]);
    let worker = serve(&mut admission, 0, 1, 0);
    done(&mut admission, 10, worker, 1);
    admission.step(110, Event::Tick);
    resized(&mut admission, 111, worker, 2560, true);
    admission.step(200, Event::Submit(entry(2, 0)));
    assert_eq!(admission.step(250, Event::Tick), [Action::Ping(worker)]);
    assert_eq!(admission.step(450, Event::Tick), [Action::Kill(worker)]);
    assert!(start_of(&gone(&mut admission, 451, worker)).is_some(), "the ask gets another worker");
}

#[test]
fn growth_is_granted_with_room_for_what_is_carried_over_or_refused_with_what_there_is() {
    let mut admission = machine(590, &[needs(400, false), needs(60, false)]);
    let worker = serve(&mut admission, 0, 1, 0);
    let actions = admission.step(1, Event::Wants { worker, least: 5120, wanted: 20_480 });
    // 130 MiB beside weights and room to compute; 10 of them are the old pool's.
    assert_eq!(actions, [Action::Resize { worker, context_tokens: 20_480 }]);
    resized(&mut admission, 2, worker, 20_480, false);
    // Now another has come, and is busy: what is left is not enough.
    done(&mut admission, 3, worker, 1);
    let small = serve(&mut admission, 4, 2, 1);
    assert_eq!(
        admission.step(5, Event::Submit(entry(3, 0)))[..],
        [Action::Begin { worker, ask: AskId(3), deadline_left_ms: None }]
    );
    let actions = admission.step(6, Event::Wants { worker, least: 25_600, wanted: 25_600 });
    assert_eq!(actions, [Action::Resize { worker, context_tokens: 20_480 }], "what it has, for {small:?} is busy");
}

#[test]
fn growth_lets_idle_models_go() {
    let mut admission = machine(600, &[needs(400, false), needs(100, false)]);
    let idle = serve(&mut admission, 0, 1, 1);
    done(&mut admission, 1, idle, 1);
    let worker = serve(&mut admission, 2, 2, 0);
    let actions = admission.step(3, Event::Wants { worker, least: 25_600, wanted: 25_600 });
    assert_eq!(actions, [Action::Stop(idle)]);
    assert_eq!(gone(&mut admission, 4, idle), [Action::Resize { worker, context_tokens: 25_600 }]);
}

#[derive(Debug, Clone)]
enum Op {
    Submit(u32),
    Ready(usize),
    Finish(usize),
    Answer(usize, bool),
    Wants(usize, u32),
    Die(usize),
    Reap(usize),
    Pass(u64),
    Pin(u32, bool),
    Budget(u64),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..4_u32).prop_map(Op::Submit),
        5 => any::<usize>().prop_map(Op::Ready),
        6 => any::<usize>().prop_map(Op::Finish),
        5 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, well)| Op::Answer(which, well)),
        2 => (any::<usize>(), 1..30_000_u32).prop_map(|(which, least)| Op::Wants(which, least)),
        1 => any::<usize>().prop_map(Op::Die),
        4 => any::<usize>().prop_map(Op::Reap),
        4 => (1..300_u64).prop_map(Op::Pass),
        1 => (0..4_u32, any::<bool>()).prop_map(|(model, pinned)| Op::Pin(model, pinned)),
        1 => (300..2000_u64).prop_map(Op::Budget),
    ]
}

#[derive(Debug, Default)]
struct Worker {
    model: u32,
    ready: bool,
    ending: bool,
    killed_at: Option<u64>,
    tokens: u32,
    draft: DraftCost,
    resting: bool,
    /// Told and not answered: the pool, or rest.
    told: Option<Option<u32>>,
    jobs: BTreeSet<AskId>,
}

struct World {
    admission: Admission<()>,
    budget: u64,
    now: u64,
    models: Vec<Needs>,
    submitted: u64,
    ended: BTreeSet<AskId>,
    workers: BTreeMap<WorkerKey, Worker>,
}

impl World {
    fn step(&mut self, event: Event<()>) {
        for action in self.admission.step(self.now, event) {
            self.check(action);
        }
        if let Some(at) = self.admission.next_wake() {
            assert!(at > self.now, "would spin: wake at {at}, now {}", self.now);
        }
    }

    /// What all workers that live may take, at their own word and at the machine's.
    fn held(&self) -> u64 {
        let of = |worker: &Worker| {
            let cost = self.models[worker.model as usize].plan.cost;
            match (worker.resting, worker.told) {
                (true, Some(Some(tokens))) => cost.of(tokens) + worker.draft.all(),
                (true, _) => cost.resting() + worker.draft.weights,
                (false, told) => cost.of(told.flatten().unwrap_or(0).max(worker.tokens)) + worker.draft.all(),
            }
        };
        // One that the system can't end isn't waited for.
        let given_up = |worker: &&Worker| worker.killed_at.is_some_and(|at| at + BOUNDS.stop_ms <= self.now);
        self.workers.values().filter(|worker| !given_up(worker)).map(of).sum()
    }

    fn check(&mut self, action: Action<()>) {
        match action {
            Action::Start { model, worker } => {
                let before = self.held();
                let (tokens, draft) = (self.admission.granted(model), self.admission.draft(model));
                self.workers.insert(worker, Worker { model: model.0, tokens, draft, ..Worker::default() });
                let after = self.held();
                assert!(after <= self.budget.max(before), "{after} of {} after a start", self.budget);
            }
            Action::Begin { worker, ask, .. } => {
                let worker = self.workers.get_mut(&worker).expect("it lives");
                assert!(!worker.resting && worker.told != Some(None), "given to one at rest");
                worker.jobs.insert(ask);
            }
            Action::Resize { worker: key, context_tokens } => {
                let before = self.held();
                let worker = self.workers.get_mut(&key).expect("it lives");
                assert!(worker.ready && !worker.ending && worker.told.is_none(), "{worker:?}");
                worker.told = Some(Some(context_tokens));
                let after = self.held();
                assert!(after <= self.budget.max(before), "{after} of {} after a grant", self.budget);
            }
            Action::LeaveDraft(key) => {
                let worker = self.workers.get_mut(&key).expect("it lives");
                assert!(worker.ready && !worker.ending && worker.draft.all() > 0, "{worker:?}");
                worker.draft = DraftCost::default();
            }
            Action::Rest(key) => {
                let worker = self.workers.get_mut(&key).expect("it lives");
                assert!(worker.jobs.is_empty() && worker.told.is_none() && !worker.resting, "{worker:?}");
                worker.told = Some(None);
            }
            Action::Stop(key) => {
                let worker = self.workers.get_mut(&key).expect("it lives");
                assert!(worker.jobs.is_empty(), "busy and let go");
                let pinned = &self.models[worker.model as usize].pinned;
                assert!(!pinned, "pinned and let go");
                worker.ending = true;
            }
            Action::Kill(key) => {
                if let Some(worker) = self.workers.get_mut(&key) {
                    worker.ending = true;
                    worker.killed_at = Some(self.now);
                }
            }
            Action::End { ask, .. } => assert!(self.ended.insert(ask), "ended twice"),
            Action::Cancel { .. }
            | Action::Ping(_)
            | Action::Waiting { .. }
            | Action::Hold { .. }
            | Action::Resume { .. } => {}
        }
    }

    fn pick(&self, which: usize, wanted: impl Fn(&Worker) -> bool) -> Option<WorkerKey> {
        let fit: Vec<WorkerKey> = self.workers.iter().filter(|(_, w)| wanted(w)).map(|(key, _)| *key).collect();
        (!fit.is_empty()).then(|| fit[which % fit.len()])
    }

    fn bury(&mut self, key: WorkerKey) {
        self.workers.remove(&key);
        let fault = Fault::new(Code::WorkerDied, "gone");
        self.step(Event::Gone { worker: key, fault, unheard: BTreeSet::new() });
    }

    fn play(&mut self, op: Op) {
        let serving = |worker: &Worker| worker.ready && !worker.ending;
        match op {
            Op::Submit(model) => {
                self.submitted += 1;
                self.step(Event::Submit(entry(self.submitted, model)));
            }
            Op::Ready(which) => {
                if let Some(worker) = self.pick(which, |worker| !worker.ready && !worker.ending) {
                    self.workers.get_mut(&worker).expect("picked").ready = true;
                    self.step(Event::Ready { worker, slots: 2, cells: 1 << 20 });
                }
            }
            Op::Finish(which) => {
                if let Some(worker) = self.pick(which, |worker| serving(worker) && !worker.jobs.is_empty()) {
                    let ask = self.workers.get_mut(&worker).expect("picked").jobs.pop_first().expect("one");
                    self.step(Event::Ended { worker, ask, result: Ok(()) });
                }
            }
            Op::Answer(which, well) => self.answer(which, well),
            Op::Wants(which, least) => {
                let asks = |worker: &Worker| serving(worker) && !worker.jobs.is_empty() && worker.told.is_none();
                if let Some(worker) = self.pick(which, asks) {
                    self.step(Event::Wants { worker, least, wanted: least * 2 });
                }
            }
            Op::Die(which) => {
                if let Some(worker) = self.pick(which, |_| true) {
                    self.bury(worker);
                }
            }
            Op::Reap(which) => {
                if let Some(worker) = self.pick(which, |worker| worker.ending) {
                    self.bury(worker);
                }
            }
            Op::Pass(ms) => {
                self.now += ms;
                self.step(Event::Tick);
            }
            Op::Pin(model, pinned) => {
                self.models[model as usize].pinned = pinned;
                self.step(Event::Pin(ModelKey(model), pinned));
            }
            Op::Budget(mib) => {
                self.budget = mib * MIB;
                self.admission.set_budget(Some(self.budget));
                self.step(Event::Tick);
            }
        }
    }

    fn answer(&mut self, which: usize, well: bool) {
        let Some(key) = self.pick(which, |worker| worker.ready && !worker.ending && worker.told.is_some()) else {
            return;
        };
        let worker = self.workers.get_mut(&key).expect("picked");
        let mut fault = None;
        match worker.told.take().expect("picked") {
            None => worker.resting = well,
            Some(tokens) if well => (worker.tokens, worker.resting) = (tokens, false),
            Some(_) => fault = Some(Fault::new(Code::MemoryShort, "no")),
        }
        let (tokens, resting) = (worker.tokens, worker.resting);
        self.step(Event::Resized { worker: key, tokens, resting, fault });
    }

    fn new() -> Self {
        let models = vec![needs(100, false), needs_with_draft(300), needs(500, false), needs_with_draft(700)];
        Self {
            admission: machine(1000, &models),
            budget: 1000 * MIB,
            now: 0,
            models,
            submitted: 0,
            ended: BTreeSet::new(),
            workers: BTreeMap::new(),
        }
    }

    /// Lets everybody do what they are told until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let before = (self.workers.len(), self.ended.len());
            for op in [Op::Ready(0), Op::Answer(0, true), Op::Finish(0), Op::Reap(0)] {
                self.play(op);
            }
            let idle = self.workers.values().all(|w| w.ready && !w.ending && w.told.is_none() && w.jobs.is_empty());
            if idle && before == (self.workers.len(), self.ended.len()) {
                return;
            }
        }
        panic!("it never comes to rest");
    }
}

/// Two that rest and are asked, with room for one of them: each was told to rest again as soon as it had woken.
#[test]
fn who_woke_for_somebody_serves_him_before_it_gives_way() {
    let mut world = World::new();
    let first = [Op::Submit(0), Op::Ready(0), Op::Finish(0), Op::Submit(3), Op::Submit(3), Op::Pass(100), Op::Ready(0)];
    let room = [Op::Budget(1171), Op::Submit(1), Op::Answer(0, true), Op::Submit(3), Op::Budget(837), Op::Submit(0)];
    for op in first.into_iter().chain(room).chain([Op::Die(2), Op::Pass(200)]) {
        world.play(op);
    }
    world.settle();
    assert_eq!(world.ended.len() as u64, world.submitted, "{:?}", world.workers);
}

/// One that would take a draft model of 40 MiB, a quarter of it for its cache.
fn needs_with_draft(mib: u64) -> Needs {
    let mut needs = needs(mib, false);
    needs.plan.draft = DraftCost { weights: 30 * MIB, room: 10 * MIB };
    needs
}

#[test]
fn a_draft_model_has_what_is_left_and_makes_nobody_go() {
    let held = |admission: &Admission<()>| admission.holdings(9).iter().map(|row| row.bytes / MIB).sum::<u64>();
    // The model takes 100 + 10 + 10 MiB, and a quarter of what is left for states, up to 10.
    for (budget, drafts, all) in [(300, true, 170), (199, false, 130), (130, false, 122)] {
        let mut admission = machine(budget, &[needs_with_draft(100)]);
        serve(&mut admission, 0, 1, 0);
        assert_eq!((admission.draft(ModelKey(0)).all() > 0, held(&admission)), (drafts, all), "{budget}");
        // A worker that does without holds no more for it.
        admission.give_up_draft(ModelKey(0));
        assert_eq!(held(&admission), if drafts { all - 40 } else { all });
    }
    // Another model is idle and stays, though the draft model would find room in its place.
    let mut admission = machine(260, &[needs(100, false), needs_with_draft(100)]);
    let first = serve(&mut admission, 0, 1, 0);
    done(&mut admission, 1, first, 1);
    serve(&mut admission, 2, 2, 1);
    assert_eq!(admission.draft(ModelKey(1)).all(), 0);
    assert_eq!(admission.holdings(9).len(), 2);
}

#[test]
fn a_draft_model_rests_with_its_model() {
    let mut admission = machine(1000, &[needs_with_draft(100)]);
    let worker = serve(&mut admission, 0, 1, 0);
    done(&mut admission, 1, worker, 1);
    admission.step(200, Event::Tick);
    resized(&mut admission, 201, worker, 2560, true);
    assert_eq!(admission.holdings(202)[0].bytes, (100 + 30) * MIB + residency::RESTING_BYTES);
}

#[test]
fn a_draft_model_is_left_when_its_model_wakes_or_grows_and_nobody_goes_for_it() {
    const PLACES: [usize; 2] = [0, 1];
    // 100 + 10 + 10 MiB and 40 for the draft model beside one of 60 + 10 + 10, which stays as it is.
    let crowded = |budget: u64| {
        let mut admission = machine(1000, &[needs_with_draft(100), needs(60, false)]);
        let worker = serve(&mut admission, 0, 1, 0);
        assert_eq!(admission.draft(ModelKey(0)).all(), 40 * MIB);
        let other = serve(&mut admission, 1, 2, 1);
        done(&mut admission, 2, other, 2);
        for place in PLACES {
            let model = admission.models.get_mut(&ModelKey(u32::try_from(place).unwrap())).expect("known");
            model.share.park_bytes = 0;
        }
        (budget * MIB, admission, worker)
    };
    let resize = |worker, context_tokens| Action::Resize { worker, context_tokens };
    // Grows by as much again: its pool of 10 MiB is carried over to one of 20. All but the draft model takes 220 MiB.
    for (budget, leaves) in [(260, false), (259, true), (220, true)] {
        let (budget, mut admission, worker) = crowded(budget);
        admission.set_budget(Some(budget));
        let actions = admission.step(3, Event::Wants { worker, least: 5120, wanted: 5120 });
        let leave = leaves.then_some(Action::LeaveDraft(worker));
        assert_eq!(actions, leave.into_iter().chain([resize(worker, 5120)]).collect::<Vec<_>>(), "{budget}");
        assert_eq!(admission.draft(ModelKey(0)).all(), if leaves { 0 } else { 40 * MIB });
    }
    // One byte less than the model itself needs, and the idle one goes.
    let (budget, mut admission, worker) = crowded(220);
    admission.set_budget(Some(budget - 1));
    let actions = admission.step(3, Event::Wants { worker, least: 5120, wanted: 5120 });
    assert!(matches!(actions[..], [Action::Rest(_) | Action::Stop(_)]), "{actions:?}");
    // It rests and wakes: all but the draft model takes 200 MiB.
    for (budget, leaves) in [(240, false), (239, true), (200, true)] {
        let (budget, mut admission, worker) = crowded(budget);
        done(&mut admission, 3, worker, 1);
        admission.step(103, Event::Tick);
        resized(&mut admission, 104, worker, 2560, true);
        admission.set_budget(Some(budget));
        let actions = admission.step(105, Event::Submit(entry(3, 0)));
        let leave = leaves.then_some(Action::LeaveDraft(worker));
        let told: Vec<_> = actions.into_iter().filter(|action| !matches!(action, Action::Waiting { .. })).collect();
        assert_eq!(told, leave.into_iter().chain([resize(worker, 2560)]).collect::<Vec<_>>(), "{budget}");
        assert_eq!(admission.draft(ModelKey(0)).all(), if leaves { 0 } else { 40 * MIB });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn memory_is_never_promised_twice_and_every_ask_ends(ops in prop::collection::vec(op(), 0..150)) {
        let mut world = World::new();
        for op in ops {
            world.play(op);
        }
        for model in 0..4 {
            world.play(Op::Pin(model, false));
        }
        world.settle();
        prop_assert_eq!(world.ended.len() as u64, world.submitted, "an ask waits for ever");
    }
}
