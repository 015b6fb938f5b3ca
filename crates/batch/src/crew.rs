//! How many threads compute a step, learned from how much of the processors they really had.
//!
//! Threads of one product wait for each other after every operation, thousands of times a second, and they
//! wait spinning. On a machine with processors to spare, each of them has as much processor time as the step
//! takes. Where a neighbour wants a processor too, some of that time is missing, and the thread that is
//! missing holds up all others: two threads on one free processor are many times slower than one. So the
//! missing time of the last steps says how many threads too many compute, after one long step or a few
//! short ones, whatever the steps hold. Whether a processor is free again is seen from outside: by what
//! the machine leaves idle ([`Crew::note_free`]), or, where it doesn't say, by trying.

/// Steps are looked back upon over about this time.
const LOOK_BACK_US: f64 = 50_000.0;
/// Less than this says nothing: one turn of the scheduler takes some milliseconds.
const LEAST_US: f64 = 20_000.0;
/// The same while all compute and no trial is on. Who reads an answer, and the daemon that sends it, take a
/// processor for some ten milliseconds now and then; a neighbour worth giving way to stays for longer.
const LOOK_BACK_CALM_US: f64 = 150_000.0;
const LEAST_CALM_US: f64 = 60_000.0;
/// So many processors' worth of time may be missing while answers are made: half a one, since a neighbour that never rests takes
/// two thirds from two threads on two processors, while at 0.3 the odds and ends of a virtual machine cost 4 % of the speed.
const MISSING_ANSWER_MAX: f64 = 0.5;
/// The same for prompts: threads share their work in pieces there, and half a processor is still of use.
const MISSING_PROMPT_MAX: f64 = 0.6;
/// A processor counts as free when so much of it is. With what may be missing this leaves a gap, so that the
/// number of threads doesn't swing between two.
const FREE_MIN: f64 = 0.8;
/// How long a larger crew is on trial.
const TRIAL_US: f64 = 150_000.0;
/// Until a larger crew is tried again; doubled each time in vain.
const RETURN_US_MIN: f64 = 100_000.0;
const RETURN_US_MAX: f64 = 3_200_000.0;
/// And not before so many times what the trial in vain took, because one step of it can be very slow.
const RETURN_COST_FACTOR: f64 = 12.0;
/// The same after a neighbour was seen, where it will be seen when it goes.
const RETURN_SEEN_FACTOR: f64 = 4.0;
/// A group's quota is paid out in periods of this length: a shorter look sees all or nothing.
const PERIODS_US: f64 = 200_000.0;
/// How long a step may take that only reads prompts: their progress is reported in between, and who comes meanwhile
/// waits. Every step has to bring all weights near once: 0.2 s of each for eight billion on two cores.
const STEP_CALM_US: u32 = 6_000_000;
/// The same while some neighbours are there: what is learned of their end comes early.
const STEP_WARY_US: u32 = 150_000;
/// The same while nobody knows whether there are any: with them it may take several times as long. A small step is read slower,
/// so it is only made where a look can't tell.
const STEP_FIRST_US: u32 = 40_000;

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reads: many tokens at once, bound by arithmetic. All that the quota pays is of use.
    Prompt,
    /// One token for each answer: over in milliseconds, and held up by any thread that isn't there.
    Answer,
}

/// What the machine grants at most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Threads that compute an answer.
    pub threads: u32,
    /// Threads that read a prompt; more than `threads` where the quota is no whole number.
    pub prompt_threads: u32,
    /// What a control group pays for, in processors.
    pub quota: Option<f64>,
    /// Whether somebody will say how much is free.
    pub sees_free: bool,
}

/// What a step took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub phase: Phase,
    pub threads: u32,
    pub wall_us: u64,
    /// Processor time of all threads that computed, together.
    pub cpu_us: u64,
}

/// What is seen of the machine before the first step after a pause: processors that are free for us.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Glance {
    /// Since the last look or at this moment, whichever is more.
    pub free: f64,
    /// At this moment.
    pub now: f64,
}

/// Chooses the number of threads.
#[derive(Debug, Clone)]
pub struct Crew {
    bounds: Bounds,
    prompt: Side,
    answer: Side,
    seen: Seen,
    /// Threads of the steps that were seen.
    threads_seen: u32,
    /// Nobody wanted a processor when we woke, and no step was made since.
    alone: bool,
}

/// What was learned for one phase.
#[derive(Debug, Clone)]
struct Side {
    most: u32,
    missing_max: f64,
    /// Threads that stay out because their processors are taken.
    held_back: u32,
    trial: Option<Trial>,
    until_return_us: f64,
    return_us: f64,
}

/// Sums over the last steps, in which the older ones fade.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    wall_us: f64,
    missing_us: f64,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    held_back_before: u32,
    wall_us: f64,
}

impl Crew {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            prompt: Side::new(bounds.prompt_threads, MISSING_PROMPT_MAX),
            answer: Side::new(bounds.threads, MISSING_ANSWER_MAX),
            seen: Seen::default(),
            threads_seen: 0,
            alone: false,
        }
    }

    /// Threads for the next step.
    pub fn threads(&self, phase: Phase) -> u32 {
        match phase {
            Phase::Prompt => self.prompt.threads(),
            Phase::Answer => self.answer.threads(),
        }
    }

    /// Whether it is of use to know what the machine leaves idle.
    pub fn is_reduced(&self) -> bool {
        self.prompt.held_back > 0 || self.answer.held_back > 0
    }

    /// How long a step may take that only reads prompts.
    pub fn step_alone_us(&self) -> u32 {
        let Side { held_back, trial, missing_max, .. } = &self.prompt;
        if self.seen.wall_us < LEAST_US && !self.alone {
            STEP_FIRST_US
        } else if *held_back > 0 || trial.is_some() || self.seen.missing() >= *missing_max {
            STEP_WARY_US
        } else {
            STEP_CALM_US
        }
    }

    /// Nothing was computed for a while: neighbours may have come. A first step with too many threads would be
    /// very slow.
    pub fn wake(&mut self, seen: Option<Glance>) {
        self.seen = Seen::default();
        for side in [&mut self.prompt, &mut self.answer] {
            side.trial = None;
            seen.into_iter().for_each(|Glance { free, .. }| side.expect(free));
        }
        self.alone = seen.is_some_and(|Glance { now, .. }| now >= f64::from(self.prompt.most) - (1.0 - FREE_MIN));
    }

    /// Takes note of a step.
    pub fn observe(&mut self, step: Step) {
        #[expect(clippy::cast_precision_loss, reason = "microseconds of one step are far below 2^53")]
        let (wall_us, cpu_us) = (step.wall_us as f64, step.cpu_us as f64);
        self.alone = false;
        if std::mem::replace(&mut self.threads_seen, step.threads) != step.threads {
            self.seen = Seen::default();
        }
        let threads = f64::from(step.threads.max(1));
        // What the quota doesn't pay for isn't missing.
        let due = self.bounds.quota.map_or(threads, |quota| threads.min(quota)) * wall_us;
        let over_quota = self.bounds.quota.is_some_and(|quota| threads > quota);
        let side = match step.phase {
            Phase::Prompt => &mut self.prompt,
            Phase::Answer => &mut self.answer,
        };
        let (look_back_us, least_us) = match step.phase {
            _ if over_quota => (PERIODS_US, PERIODS_US),
            Phase::Answer if side.is_calm() => (LOOK_BACK_CALM_US, LEAST_CALM_US),
            Phase::Answer | Phase::Prompt => (LOOK_BACK_US, LEAST_US),
        };
        self.seen.add(wall_us, due - cpu_us, look_back_us);
        side.until_return_us -= wall_us;
        let missing = if self.seen.wall_us >= least_us { self.seen.missing() } else { 0.0 };
        let changed = if missing >= side.missing_max {
            // What came once in such a moment may come again, and cost as much. Who can't look must try besides.
            let patience = if self.bounds.sees_free { RETURN_SEEN_FACTOR } else { RETURN_COST_FACTOR };
            let changed = side.hold_back(missing, wall_us);
            if changed {
                side.until_return_us = side.return_us.max(patience * wall_us);
            }
            changed
        } else {
            side.go_on(wall_us, least_us);
            !self.bounds.sees_free && side.try_more(1)
        };
        if changed {
            self.seen = Seen::default();
        }
    }

    /// Takes note of how many processors are idle or ours.
    pub fn note_free(&mut self, processors: f64) {
        for side in [&mut self.prompt, &mut self.answer] {
            let more = (processors - f64::from(side.threads()) + (1.0 - FREE_MIN)).floor();
            if more >= 1.0 {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
                side.try_more(more as u32);
            }
        }
    }
}

impl Side {
    fn new(threads: u32, missing_max: f64) -> Self {
        let most = threads.max(1);
        Self { most, missing_max, held_back: 0, trial: None, until_return_us: 0.0, return_us: RETURN_US_MIN }
    }

    fn threads(&self) -> u32 {
        self.most.saturating_sub(self.held_back).max(1)
    }

    /// All compute, and not for trial.
    fn is_calm(&self) -> bool {
        self.held_back == 0 && self.trial.is_none()
    }

    /// So many processors seem to be free.
    fn expect(&mut self, free: f64) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a float saturates")]
        let threads = (free + 1.0 - FREE_MIN).max(1.0) as u32;
        let held_back = self.most.saturating_sub(threads);
        if held_back > self.held_back {
            self.held_back = held_back;
            // A look from outside that shows more is believed at once.
            self.until_return_us = 0.0;
        }
    }

    /// `false`: nothing changes.
    fn try_more(&mut self, more: u32) -> bool {
        if self.until_return_us > 0.0 || self.held_back == 0 || self.trial.is_some() {
            return false;
        }
        self.trial = Some(Trial { held_back_before: self.held_back, wall_us: 0.0 });
        self.held_back = self.held_back.saturating_sub(more);
        true
    }

    /// A step in which not much was missing.
    fn go_on(&mut self, wall_us: f64, least_us: f64) {
        let Some(trial) = &mut self.trial else { return };
        trial.wall_us += wall_us;
        if trial.wall_us >= TRIAL_US.max(least_us) {
            self.trial = None;
            self.return_us = (self.return_us / 2.0).max(RETURN_US_MIN);
        }
    }

    /// `false`: nothing changes.
    fn hold_back(&mut self, missing: f64, wall_us: f64) -> bool {
        if let Some(trial) = self.trial.take() {
            self.held_back = trial.held_back_before;
            let cost_us = RETURN_COST_FACTOR * (trial.wall_us + wall_us);
            self.return_us = (self.return_us * 2.0).min(RETURN_US_MAX).max(cost_us);
        } else if self.held_back + 1 < self.most {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
            let more = (missing.round() as u32).max(1);
            self.held_back = self.held_back.saturating_add(more).min(self.most - 1);
        } else {
            return false;
        }
        true
    }
}

impl Seen {
    fn add(&mut self, wall_us: f64, missing_us: f64, look_back_us: f64) {
        let fade = (-wall_us / look_back_us).exp();
        self.wall_us = self.wall_us * fade + wall_us;
        self.missing_us = self.missing_us * fade + missing_us;
    }

    /// Processors that were missing.
    fn missing(&self) -> f64 {
        if self.wall_us > 0.0 { self.missing_us / self.wall_us } else { 0.0 }
    }
}

#[cfg(test)]
mod tests;
