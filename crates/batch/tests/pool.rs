//! Jobs of chance on pools of chance: composing, admitting and stepping back together, as the worker's loop
//! does it, over a cache that checks every token.

use freehold_batch::blend::Part;
use freehold_batch::compose::{Budget, Composer, Work};
use freehold_batch::pool::{Fit, Pool, fit};
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Debug, Clone)]
struct Plan {
    prompt: u32,
    tokens_max: u32,
    /// The step at which it comes.
    arrives: u32,
    /// The step at which it is cancelled, if it still lives.
    cancelled: Option<u32>,
    /// At this step it is held, and some steps later it goes on.
    held: Option<(u32, u32)>,
    /// Whether its state is kept when it steps back.
    kept: bool,
}

fn plan() -> impl Strategy<Value = Plan> {
    let times =
        (0..120_u32, prop::option::weighted(0.2, 0..200_u32), prop::option::weighted(0.3, (0..150_u32, 1..40_u32)));
    (1..400_u32, 0..80_u32, times, any::<bool>()).prop_map(|(prompt, tokens_max, (arrives, cancelled, held), kept)| {
        Plan { prompt, tokens_max, arrives, cancelled, held, kept }
    })
}

struct Job {
    id: usize,
    tokens: Vec<u64>,
    prompt: usize,
    tokens_max: u32,
    past: usize,
    saved: Option<Vec<u64>>,
}

impl Job {
    fn generated(&self) -> u32 {
        u32::try_from(self.tokens.len() - self.prompt).expect("small")
    }

    fn pending(&self) -> u32 {
        u32::try_from(self.tokens.len() - self.past).expect("small")
    }
}

/// What a model would say after these tokens of this job: wrong as soon as one is missing or out of place.
fn next_token(job: usize, cells: &[u64]) -> u64 {
    cells.iter().fold(job as u64 + 1, |hash, token| (hash ^ token).wrapping_mul(0x0100_0000_01b3).rotate_left(7))
}

/// What a job says alone.
fn alone(id: usize, plan: &Plan, tokens_max: u32) -> Vec<u64> {
    let mut tokens: Vec<u64> = (0..plan.prompt).map(u64::from).collect();
    for _ in 0..tokens_max {
        tokens.push(next_token(id, &tokens));
    }
    tokens
}

struct Loop {
    pool: Pool,
    composer: Composer,
    slots: Vec<Option<(u64, Job)>>,
    /// What the cache holds for each slot.
    cells: Vec<Vec<u64>>,
    waiting: VecDeque<Job>,
    held: Vec<Job>,
    admitted: u64,
    done: Vec<Option<Vec<u64>>>,
}

impl Loop {
    fn step_back(&mut self, slot: usize, kept: bool) -> Job {
        let (_, mut job) = self.slots[slot].take().expect("somebody is there");
        let cells = std::mem::take(&mut self.cells[slot]);
        assert_eq!(cells, job.tokens[..job.past], "the cache holds something else");
        job.saved = kept.then_some(cells);
        job.past = 0;
        job
    }

    fn admit(&mut self) {
        while let (Some(slot), Some(next)) = (self.slots.iter().position(Option::is_none), self.waiting.front()) {
            let used =
                self.slots.iter().flatten().map(|(_, job)| u32::try_from(job.tokens.len()).expect("small")).sum();
            if !self.pool.admits(used, next.pending(), next.tokens_max - next.generated()) {
                return;
            }
            let Some(mut job) = self.waiting.pop_front() else { return };
            assert!(self.cells[slot].is_empty(), "a sequence is given twice");
            if let Some(saved) = job.saved.take() {
                job.past = saved.len();
                self.cells[slot] = saved;
            }
            self.admitted += 1;
            self.slots[slot] = Some((self.admitted, job));
        }
    }

    /// One step of the worker's loop; whether anything was computed.
    fn step(&mut self, budget: Budget, plans: &[Plan]) -> bool {
        self.admit();
        let shares = loop {
            let work: Vec<Work> = self
                .slots
                .iter()
                .map(|slot| match slot {
                    None => Work::Idle,
                    Some((_, job)) if job.generated() > 0 && job.pending() == 1 => Work::Decode,
                    Some((_, job)) => Work::Prefill { pending: job.pending() },
                })
                .collect();
            let shares = self.composer.compose(&work, budget);
            let wanted = shares.iter().map(|share| share.tokens).sum();
            let mut oldest: Vec<(u64, usize)> =
                self.slots.iter().enumerate().filter_map(|(slot, held)| Some((held.as_ref()?.0, slot))).collect();
            oldest.sort_unstable();
            let used: Vec<u32> =
                oldest.iter().map(|(_, slot)| u32::try_from(self.cells[*slot].len()).expect("small")).collect();
            let victims = self.pool.evict(&used, wanted);
            if victims.is_empty() {
                break shares;
            }
            for victim in victims {
                let slot = oldest[victim].1;
                let kept = self.slots[slot].as_ref().is_some_and(|(_, job)| plans[job.id].kept);
                let job = self.step_back(slot, kept);
                self.waiting.push_front(job);
            }
        };
        for share in &shares {
            let Some((_, job)) = self.slots[share.sequence].as_mut() else { panic!("a free sequence has a share") };
            let to = job.past + share.tokens as usize;
            self.cells[share.sequence].extend(&job.tokens[job.past..to]);
            job.past = to;
            assert_eq!(self.cells[share.sequence], job.tokens[..to], "a token is missing or out of place");
            if to == job.tokens.len() {
                job.tokens.push(next_token(job.id, &self.cells[share.sequence]));
                if job.generated() == job.tokens_max {
                    let (_, job) = self.slots[share.sequence].take().expect("it is there");
                    self.cells[share.sequence].clear();
                    assert!(self.done[job.id].replace(job.tokens).is_none(), "ended twice");
                }
            }
        }
        let used: usize = self.cells.iter().map(Vec::len).sum();
        assert!(used <= self.pool.cells as usize, "{used} cells of {}", self.pool.cells);
        !shares.is_empty()
    }

    fn take_out(&mut self, id: usize, kept: bool) -> Option<Job> {
        let slot = self.slots.iter().position(|slot| slot.as_ref().is_some_and(|(_, job)| job.id == id));
        if let Some(slot) = slot {
            return Some(self.step_back(slot, kept));
        }
        let place = self.waiting.iter().position(|job| job.id == id)?;
        self.waiting.remove(place)
    }
}

proptest! {
    /// Every job that isn't cancelled says exactly what it says alone, however often it stepped back; no cell
    /// is given twice, and there is always something to do until all are done.
    #[test]
    fn every_job_says_what_it_says_alone(
        plans in prop::collection::vec(plan(), 1..10),
        cells in 64..600_u32,
        slots in 1..6_usize,
        batch_tokens in 8..200_u32,
        beside in 1..60_u32,
    ) {
        let budget = Budget { batch_tokens, prefill_tokens_beside: beside, part: Part::Both };
        let mut worker = Loop {
            pool: Pool { cells },
            composer: Composer::default(),
            slots: (0..slots).map(|_| None).collect(),
            cells: vec![Vec::new(); slots],
            waiting: VecDeque::new(),
            held: Vec::new(),
            admitted: 0,
            done: vec![None; plans.len()],
        };
        let fits = |plan: &Plan| match fit(plan.prompt, plan.tokens_max, cells) {
            Fit::Fits { tokens_max } => Some(tokens_max),
            Fit::Overflow { .. } => None,
        };
        let mut gone = vec![false; plans.len()];
        let mut step = 0;
        loop {
            for (id, plan) in plans.iter().enumerate() {
                if plan.arrives == step {
                    match fits(plan) {
                        None => gone[id] = true,
                        Some(tokens_max) => {
                            let tokens: Vec<u64> = (0..plan.prompt).map(u64::from).collect();
                            let job = Job { id, prompt: tokens.len(), tokens, tokens_max, past: 0, saved: None };
                            worker.waiting.push_back(job);
                        }
                    }
                }
                if plan.cancelled == Some(step) {
                    let known = worker.take_out(id, false).is_some();
                    let held = worker.held.iter().position(|job| job.id == id);
                    if let Some(place) = held {
                        worker.held.remove(place);
                    }
                    gone[id] |= known || held.is_some();
                }
                if let Some((at, steps)) = plan.held {
                    if at == step && let Some(job) = worker.take_out(id, plan.kept) {
                        worker.held.push(job);
                    }
                    if at + steps == step && let Some(place) = worker.held.iter().position(|job| job.id == id) {
                        let job = worker.held.remove(place);
                        worker.waiting.push_back(job);
                    }
                }
            }
            let worked = worker.step(budget, &plans);
            let idle = worker.waiting.is_empty() && worker.slots.iter().all(Option::is_none);
            prop_assert!(worked || idle, "somebody waits and nothing is done");
            step += 1;
            if step > 250 && idle && worker.held.is_empty() {
                break;
            }
            prop_assert!(step < 200_000, "it never ends");
        }
        for (id, plan) in plans.iter().enumerate() {
            match &worker.done[id] {
                Some(tokens) => prop_assert_eq!(tokens, &alone(id, plan, fits(plan).expect("it was taken"))),
                None => prop_assert!(gone[id], "job {} never ends", id),
            }
        }
    }
}
