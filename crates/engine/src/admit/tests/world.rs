//! A world of chance around the machine: it plays the workers' and the readers' parts, lets workers die and
//! clocks jump, and checks every action against what it knows.

use super::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone)]
enum Op {
    Submit {
        model: u32,
        app: u8,
        batch: bool,
        ear: bool,
        size: Size,
        deadline_ms: Option<u64>,
    },
    Drop(usize),
    Load(usize, u8),
    Ready(usize, u32),
    FailLoad(usize, bool),
    Accept(usize, u32),
    Obey(usize, bool),
    Press(usize),
    Slow(usize, bool),
    Finish(usize, bool),
    /// The flag: it had said nothing about the asks that it was given.
    Die(usize, bool),
    Reap(usize),
    Unload(u32),
    Pass(u64),
    Wake,
}

fn op() -> impl Strategy<Value = Op> {
    let size = prop_oneof![4 => 1..300_u64, 1 => 1..6000_u64];
    let size = (size, 0..400_u32).prop_map(|(prompt_bytes, tokens_max)| Size { prompt_bytes, tokens_max });
    let deadline_ms = prop::option::weighted(0.2, 1..2000_u64);
    let submit = (0..2_u32, 0..3_u8, any::<bool>(), prop::bool::weighted(0.1), size, deadline_ms);
    let submit = submit.prop_map(|(model, app, batch, ear, size, deadline_ms)| Op::Submit {
        model,
        app,
        batch,
        ear,
        size,
        deadline_ms,
    });
    // A machine that slept, or was stopped.
    let pass = prop_oneof![8 => 0..400_u64, 1 => Just(3_600_000_u64)];
    prop_oneof![
        8 => submit,
        2 => any::<usize>().prop_map(Op::Drop),
        1 => (any::<usize>(), 0..100_u8).prop_map(|(which, percent)| Op::Load(which, percent)),
        4 => (any::<usize>(), 0..4_u32).prop_map(|(which, slots)| Op::Ready(which, slots)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, short)| Op::FailLoad(which, short)),
        3 => (any::<usize>(), 1..900_u32).prop_map(|(which, tokens)| Op::Accept(which, tokens)),
        6 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, saved)| Op::Obey(which, saved)),
        1 => any::<usize>().prop_map(Op::Press),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(which, slow)| Op::Slow(which, slow)),
        6 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, well)| Op::Finish(which, well)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, unheard)| Op::Die(which, unheard)),
        3 => any::<usize>().prop_map(Op::Reap),
        1 => (0..2_u32).prop_map(Op::Unload),
        3 => pass.prop_map(Op::Pass),
        2 => Just(Op::Wake),
    ]
}

#[derive(Default)]
struct Worker {
    model: u32,
    slots: Option<usize>,
    jobs: BTreeMap<AskId, Job>,
    told_to_end: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Works,
    /// It has been told to step back, and has not said that it did.
    Leaves,
    Parked,
}

struct Job {
    need: Need,
    place: Place,
    /// What the machine was told that it takes.
    cells: u32,
    pressed: bool,
    cancelled: bool,
}

impl Job {
    fn takes_slot(&self) -> bool {
        self.need == Need::Slot && self.place != Place::Parked
    }
}

#[derive(Default)]
struct World {
    admission: Option<Admission<()>>,
    now: u64,
    submitted: BTreeMap<AskId, Entry>,
    /// Begun, on a worker that has not died over it in silence.
    begun: BTreeSet<AskId>,
    ended: BTreeSet<AskId>,
    slow: BTreeSet<AskId>,
    workers: BTreeMap<WorkerKey, Worker>,
}

fn with_headroom(tokens: u32, tokens_max: u32) -> u32 {
    tokens + if tokens_max == 0 { 256 } else { tokens_max.min(256) }
}

impl World {
    fn new() -> Self {
        Self { admission: Some(machine()), ..Self::default() }
    }

    /// As the machine counts before it is told.
    fn estimate(&self, entry: &Entry) -> u32 {
        let heard = self.admission.as_ref().expect("made with it").models[&entry.model].heard;
        entry.size.map_or(0, |size| heard.cells(size))
    }

    fn machine(&mut self) -> &mut Admission<()> {
        self.admission.as_mut().expect("made with it")
    }

    fn step(&mut self, event: Event<()>) -> Vec<Action<()>> {
        let now = self.now;
        let actions = self.machine().step(now, event);
        for action in &actions {
            self.check(action);
        }
        if let Some(at) = self.machine().next_wake() {
            assert!(at > now, "would spin: wake at {at}, now {now}");
        }
        actions
    }

    fn check(&mut self, action: &Action<()>) {
        match action {
            Action::Start { model, worker } => {
                let alive = self.workers.values().filter(|other| other.model == model.0 && !other.told_to_end);
                assert_eq!(alive.count(), 0, "two workers for one model");
                let new = Worker { model: model.0, ..Worker::default() };
                assert!(self.workers.insert(*worker, new).is_none(), "worker {worker:?} used twice");
            }
            Action::Begin { worker, ask, deadline_left_ms } => {
                let entry = self.submitted[ask].clone();
                assert!(!self.ended.contains(ask), "{ask:?} begun after its end");
                assert!(self.begun.insert(*ask), "{ask:?} begun twice");
                assert_ne!(*deadline_left_ms, Some(0));
                let (need, cells) = (entry.need, self.estimate(&entry));
                let job = Job { need, place: Place::Works, cells, pressed: false, cancelled: false };
                let worker = self.workers.get_mut(worker).expect("a worker that lives");
                assert_eq!(worker.model, entry.model.0);
                worker.jobs.insert(*ask, job);
                worker.check_room(*ask);
            }
            Action::Resume { worker, ask } => {
                assert!(!self.ended.contains(ask) && !self.slow.contains(ask), "{ask:?} has nobody to go on for");
                let worker = self.workers.get_mut(worker).expect("a worker that lives");
                let job = worker.jobs.get_mut(ask).expect("a job that it has");
                assert_eq!(job.place, Place::Parked, "resumed without having been parked");
                job.place = Place::Works;
                worker.check_room(*ask);
            }
            Action::Hold { worker, ask } => {
                let job = self.workers.get_mut(worker).and_then(|worker| worker.jobs.get_mut(ask));
                let job = job.expect("a job that it has");
                assert_eq!(job.place, Place::Works, "told twice to step back");
                assert!(!job.cancelled && self.submitted[ask].size.is_some());
                job.place = Place::Leaves;
            }
            Action::Cancel { worker, ask } => {
                let job = self.workers.get_mut(worker).and_then(|worker| worker.jobs.get_mut(ask));
                let job = job.expect("cancels what doesn't run");
                job.cancelled = true;
            }
            Action::Ping(worker) => {
                let jobs = &self.workers[worker].jobs;
                assert!(jobs.values().any(|job| job.place != Place::Parked || job.cancelled), "asks an idle worker");
            }
            Action::Stop(worker) | Action::Kill(worker) => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.told_to_end = true;
                }
            }
            // Of models whose memory isn't known, and that are never idle for long enough.
            Action::LeaveDraft(_) | Action::Resize { .. } | Action::Rest(_) => panic!("{action:?} without a reason"),
            Action::Waiting { ask, .. } => assert!(!self.ended.contains(ask) && !self.begun.contains(ask)),
            Action::End { ask, .. } => {
                assert!(self.submitted.contains_key(ask));
                assert!(self.ended.insert(*ask), "{ask:?} ended twice");
            }
        }
    }

    fn pick(&self, which: usize, wanted: impl Fn(&Worker) -> bool) -> Option<WorkerKey> {
        let fit: Vec<WorkerKey> = self.workers.iter().filter(|(_, w)| wanted(w)).map(|(key, _)| *key).collect();
        (!fit.is_empty()).then(|| fit[which % fit.len()])
    }

    /// One of the jobs of workers that serve.
    fn pick_job(&self, which: usize, wanted: impl Fn(&Job) -> bool) -> Option<(WorkerKey, AskId)> {
        let serving = self.workers.iter().filter(|(_, worker)| worker.slots.is_some() && !worker.told_to_end);
        let jobs = serving.flat_map(|(key, worker)| worker.jobs.iter().map(|(ask, job)| (*key, *ask, job)));
        let fit: Vec<(WorkerKey, AskId)> =
            jobs.filter(|(_, _, job)| wanted(job)).map(|(key, ask, _)| (key, ask)).collect();
        (!fit.is_empty()).then(|| fit[which % fit.len()])
    }

    fn job(&mut self, worker: WorkerKey, ask: AskId) -> &mut Job {
        self.workers.get_mut(&worker).and_then(|worker| worker.jobs.get_mut(&ask)).expect("picked")
    }

    fn gone(&mut self, key: WorkerKey, unheard: bool) {
        let worker = self.workers.remove(&key).expect("it lives");
        let unheard: BTreeSet<AskId> = if unheard { worker.jobs.keys().copied().collect() } else { BTreeSet::new() };
        for ask in &unheard {
            self.begun.remove(ask);
            // Nothing was ever written to its reader.
            self.slow.remove(ask);
        }
        let silent = !unheard.is_empty();
        let actions = self.step(Event::Gone { worker: key, fault: death(), unheard });
        let lost: BTreeSet<u64> = failed(&actions, Code::WorkerDied).into_iter().collect();
        for ask in lost {
            let entry = &self.submitted[&AskId(ask)];
            let waited_for_load = worker.slots.is_none() && entry.model.0 == worker.model;
            assert!(worker.jobs.contains_key(&AskId(ask)) || waited_for_load, "{ask} was another worker's");
        }
        if !worker.told_to_end && !silent {
            assert!(worker.jobs.keys().all(|ask| self.ended.contains(ask)), "an ask of a dead worker goes on");
        }
    }

    fn drop_one(&mut self, which: usize) {
        let live: Vec<AskId> = self.submitted.keys().filter(|ask| !self.ended.contains(ask)).copied().collect();
        if live.is_empty() {
            return;
        }
        let ask = live[which % live.len()];
        let runs = self.workers.values().any(|w| !w.told_to_end && w.jobs.contains_key(&ask));
        let actions = self.step(Event::Dropped(ask));
        assert!(self.ended.contains(&ask));
        let cancelled = actions.iter().any(|a| matches!(a, Action::Cancel { ask: of, .. } if *of == ask));
        assert_eq!(cancelled, runs, "a running ask is cancelled within the step, another isn't");
    }

    fn obey(&mut self, worker: WorkerKey, ask: AskId, saved: bool) {
        let tokens_max = self.submitted[&ask].size.expect("only those are held").tokens_max;
        let live = !self.ended.contains(&ask);
        let tokens = 40;
        let job = self.job(worker, ask);
        job.cells = with_headroom(tokens, tokens_max);
        // A worker that is told to end a job owes that end, parked or not.
        if live {
            job.place = Place::Parked;
            job.pressed = false;
        }
        self.step(Event::Parked { worker, ask, held: true, tokens, saved });
    }

    fn finish(&mut self, worker: WorkerKey, ask: AskId, well: bool) {
        self.workers.get_mut(&worker).expect("picked").jobs.remove(&ask);
        self.slow.remove(&ask);
        let result = if well { Ok(()) } else { Err(Fault::new(Code::ContextOverflow, "too long")) };
        self.step(Event::Ended { worker, ask, result });
        assert!(self.ended.contains(&ask));
    }

    fn set_slow(&mut self, ask: AskId, slow: bool) {
        if slow {
            self.slow.insert(ask);
            self.step(Event::Slow(ask));
        } else if self.slow.remove(&ask) {
            self.step(Event::Drained(ask));
        }
    }

    fn play(&mut self, op: Op) {
        let loading = |worker: &Worker| worker.slots.is_none() && !worker.told_to_end;
        match op {
            Op::Submit { model, app, batch, ear, size, deadline_ms } => {
                let ask = AskId(self.submitted.len() as u64);
                let entry = Entry {
                    priority: if batch { Priority::Batch } else { Priority::Interactive },
                    need: if ear { Need::Ear } else { Need::Slot },
                    size: (!ear).then_some(size),
                    deadline_ms,
                    ..entry(ask.0, model, ["a", "b", "c"][usize::from(app)])
                };
                self.submitted.insert(ask, entry.clone());
                self.step(Event::Submit(entry));
            }
            Op::Drop(which) => self.drop_one(which),
            Op::Load(which, percent) => {
                if let Some(worker) = self.pick(which, loading) {
                    self.step(Event::Loading { worker, percent });
                }
            }
            Op::Ready(which, slots) => {
                if let Some(worker) = self.pick(which, loading) {
                    self.workers.get_mut(&worker).expect("picked").slots = Some(slots as usize);
                    self.step(Event::Ready { worker, slots, cells: CELLS });
                }
            }
            Op::FailLoad(which, short) => {
                if let Some(worker) = self.pick(which, loading) {
                    let code = if short { Code::MemoryShort } else { Code::ModelLoadFailed };
                    self.step(Event::LoadFailed { worker, fault: Fault::new(code, "no") });
                }
            }
            Op::Accept(which, prompt_tokens) => {
                if let Some((worker, ask)) = self.pick_job(which, |job| job.takes_slot()) {
                    let tokens_max = self.submitted[&ask].size.map_or(0, |size| size.tokens_max);
                    self.job(worker, ask).cells = with_headroom(prompt_tokens, tokens_max);
                    self.step(Event::Accepted { worker, ask, prompt_tokens, tokens_max });
                }
            }
            Op::Obey(which, saved) => {
                if let Some((worker, ask)) = self.pick_job(which, |job| job.place == Place::Leaves) {
                    self.obey(worker, ask, saved);
                }
            }
            Op::Press(which) => {
                let works = |job: &Job| job.need == Need::Slot && job.place == Place::Works;
                if let Some((worker, ask)) = self.pick_job(which, works) {
                    let job = self.job(worker, ask);
                    job.pressed = !job.pressed;
                    let pressed = job.pressed;
                    if pressed {
                        let tokens_max = self.submitted[&ask].size.map_or(0, |size| size.tokens_max);
                        self.job(worker, ask).cells = with_headroom(60, tokens_max);
                        self.step(Event::Parked { worker, ask, held: false, tokens: 60, saved: true });
                    } else {
                        self.step(Event::Resumed { worker, ask });
                    }
                }
            }
            Op::Slow(which, slow) => {
                if let Some((_, ask)) = self.pick_job(which, |job| job.need == Need::Slot)
                    && !self.ended.contains(&ask)
                {
                    self.set_slow(ask, slow);
                }
            }
            Op::Finish(which, well) => {
                let may = |job: &Job| job.place != Place::Parked || job.cancelled;
                if let Some((worker, ask)) = self.pick_job(which, may) {
                    self.finish(worker, ask, well);
                }
            }
            Op::Die(which, unheard) => {
                if let Some(worker) = self.pick(which, |_| true) {
                    self.gone(worker, unheard);
                }
            }
            Op::Reap(which) => {
                if let Some(worker) = self.pick(which, |worker| worker.told_to_end) {
                    self.gone(worker, false);
                }
            }
            Op::Unload(model) => {
                self.step(Event::Unload(ModelKey(model)));
            }
            Op::Pass(ms) => {
                self.now += ms;
                self.step(Event::Tick);
            }
            Op::Wake => self.wake(),
        }
    }

    fn wake(&mut self) {
        if let Some(at) = self.machine().next_wake() {
            self.now = self.now.max(at);
            self.step(Event::Tick);
        }
    }

    /// From here on everybody does what is theirs: workers load, obey and finish, and readers read.
    fn work_all_off(&mut self, seed: usize) {
        for round in 0..2_000 {
            for ask in self.slow.clone() {
                self.set_slow(ask, false);
            }
            while let Some(worker) = self.pick(0, |worker| worker.told_to_end) {
                self.gone(worker, false);
            }
            if let Some(worker) = self.pick(0, |worker| worker.slots.is_none()) {
                self.workers.get_mut(&worker).expect("picked").slots = Some(2);
                self.step(Event::Ready { worker, slots: 2, cells: CELLS });
            }
            while let Some((worker, ask)) = self.pick_job(seed + round, |job| job.place == Place::Leaves) {
                if self.ended.contains(&ask) {
                    self.finish(worker, ask, true);
                } else {
                    self.obey(worker, ask, true);
                }
            }
            let may = |job: &Job| job.place == Place::Works || job.cancelled;
            if let Some((worker, ask)) = self.pick_job(seed + round, may) {
                self.finish(worker, ask, true);
            }
            self.now += 5;
            self.step(Event::Tick);
            if self.ended.len() == self.submitted.len() {
                return;
            }
        }
        let left: Vec<_> = self.submitted.keys().filter(|ask| !self.ended.contains(ask)).collect();
        panic!("{left:?} never end");
    }
}

impl Worker {
    /// After one was given room: no slot is given twice, and no cell that isn't there.
    fn check_room(&self, newcomer: AskId) {
        let taking = || self.jobs.values().filter(|job| job.takes_slot());
        assert!(taking().count() <= self.slots.expect("a worker that is ready").max(1), "more asks than slots");
        if self.jobs[&newcomer].need == Need::Slot && taking().count() > 1 {
            let cells: u32 = taking().map(|job| job.cells).sum();
            assert!(cells <= CELLS, "{cells} cells are wanted");
            assert!(
                !taking().any(|job| job.pressed && job.place == Place::Works),
                "more work for a pool that has run dry"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_ask_is_lost_whatever_happens(ops in prop::collection::vec(op(), 0..160)) {
        let mut world = World::new();
        for op in ops {
            world.play(op);
        }
        world.step(Event::Shutdown);
        let all: BTreeSet<AskId> = world.submitted.keys().copied().collect();
        prop_assert_eq!(&world.ended, &all);
        while let Some(worker) = world.pick(0, |_| true) {
            world.gone(worker, false);
        }
        prop_assert!(world.machine().is_still());
        prop_assert_eq!(world.machine().next_wake(), None);
    }

    /// Whatever has happened before: parked asks go on or end, and when all is done nothing ticks but the
    /// timer that unloads an idle model.
    #[test]
    fn every_ask_ends_while_workers_work(ops in prop::collection::vec(op(), 0..160), seed in any::<u16>()) {
        let mut world = World::new();
        for op in ops {
            world.play(op);
        }
        world.work_all_off(usize::from(seed));
        let counts = [0, 1].map(|model| world.machine().load_of(ModelKey(model)));
        for counts in counts {
            prop_assert_eq!((counts.waiting, counts.parked), (0, 0));
        }
        for _ in 0..8 {
            world.wake();
            while let Some(worker) = world.pick(0, |worker| worker.told_to_end) {
                world.gone(worker, false);
            }
        }
        prop_assert_eq!(world.machine().next_wake(), None);
    }
}
