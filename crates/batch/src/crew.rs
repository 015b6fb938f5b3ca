//! How many threads compute a step, learned from how long steps take.
//!
//! Threads of one product wait for each other after every operation, thousands of times a second. On
//! a busy machine the one whose processor is taken holds up all, and two threads on one free
//! processor are many times slower than one. So when steps become slow, fewer threads are tried,
//! and more again from time to time.

/// Steps of a trial; the mean of few is noisy, many slow steps in vain are felt.
const TRIAL_STEPS: u32 = 4;
/// Steps that the present crew is judged by.
const RECENT_STEPS: usize = 8;
/// A step is slow when it takes so many times what the quickest of its kind took.
const SLOW_FACTOR: f64 = 2.0;
/// So many slow steps among the recent ones make a trial.
const SLOW_STEPS: usize = 3;
/// Steps until a larger crew is tried again; doubled each time in vain.
const RETURN_STEPS_MIN: u32 = 64;
const RETURN_STEPS_MAX: u32 = 1024;
/// The quickest time is forgotten slowly, because steps grow longer with the text.
const FLOOR_GROWTH: f64 = 1.002;

/// Chooses the number of threads.
#[derive(Debug, Clone)]
pub struct Crew {
    /// Falling, from all to one.
    sizes: Vec<u32>,
    rung: usize,
    kind: u32,
    recent_us: Vec<f64>,
    floor_us: f64,
    trial: Option<Trial>,
    until_return: u32,
    return_steps: u32,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    rung: usize,
    steps: u32,
    total_us: f64,
    /// What the present crew needs.
    mean_us: f64,
}

impl Crew {
    pub fn new(threads_max: u32) -> Self {
        let threads_max = threads_max.max(1);
        let mut sizes = vec![threads_max];
        let mut size = threads_max;
        while size > 1 {
            // The first step down is the smallest: often only one processor is taken.
            size = if size == threads_max && size > 2 { size - 1 } else { (size / 2).max(1) };
            sizes.push(size);
        }
        Self {
            sizes,
            rung: 0,
            kind: 0,
            recent_us: Vec::new(),
            floor_us: f64::INFINITY,
            trial: None,
            until_return: RETURN_STEPS_MIN,
            return_steps: RETURN_STEPS_MIN,
        }
    }

    /// Threads for the next step.
    pub fn threads(&self) -> u32 {
        let rung = self.trial.map_or(self.rung, |trial| trial.rung);
        self.sizes[rung.min(self.sizes.len() - 1)]
    }

    /// Takes note of a step. Only steps of one `kind` (as many tokens) are compared with each other.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of one step are far below 2^53")]
    pub fn observe(&mut self, kind: u32, took_us: u64) {
        let took_us = took_us as f64;
        if kind != self.kind {
            // What was known says nothing about this kind; who computes stays.
            self.kind = kind;
            self.trial = None;
            self.recent_us.clear();
            self.floor_us = f64::INFINITY;
        }
        match self.trial.take() {
            Some(trial) => self.go_on(trial, took_us),
            None => self.watch(took_us),
        }
    }

    fn watch(&mut self, took_us: f64) {
        if self.recent_us.len() == RECENT_STEPS {
            self.recent_us.remove(0);
        }
        self.recent_us.push(took_us);
        self.floor_us = (self.floor_us * FLOOR_GROWTH).min(took_us);
        if self.recent_us.len() < RECENT_STEPS {
            return;
        }
        let mean_us = self.recent_us.iter().sum::<f64>() / self.recent_us.len() as f64;
        let slow = self.recent_us.iter().filter(|&&us| us > self.floor_us * SLOW_FACTOR).count();
        if slow >= SLOW_STEPS && self.rung + 1 < self.sizes.len() {
            self.trial = Some(Trial { rung: self.rung + 1, steps: 0, total_us: 0.0, mean_us });
            return;
        }
        self.until_return = self.until_return.saturating_sub(1);
        if self.rung > 0 && self.until_return == 0 {
            self.trial = Some(Trial { rung: self.rung - 1, steps: 0, total_us: 0.0, mean_us });
        }
    }

    fn go_on(&mut self, trial: Trial, took_us: f64) {
        let trial = Trial { steps: trial.steps + 1, total_us: trial.total_us + took_us, ..trial };
        let mean_us = trial.total_us / f64::from(trial.steps);
        // A trial that goes badly wrong is broken off.
        let hopeless = trial.total_us > f64::from(TRIAL_STEPS) * trial.mean_us;
        if trial.steps < TRIAL_STEPS && !hopeless {
            self.trial = Some(trial);
            return;
        }
        let upward = trial.rung < self.rung;
        self.recent_us.clear();
        if !hopeless && mean_us < trial.mean_us {
            self.rung = trial.rung;
            self.floor_us = f64::INFINITY;
            self.return_steps = RETURN_STEPS_MIN;
        } else if upward {
            self.return_steps = (self.return_steps * 2).min(RETURN_STEPS_MAX);
        }
        self.until_return = self.return_steps;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(crew: &mut Crew, steps: u32, cost_us: impl Fn(u32, u32) -> u64) -> u64 {
        (0..steps)
            .map(|step| {
                let took_us = cost_us(crew.threads(), step);
                crew.observe(1, took_us);
                took_us
            })
            .sum()
    }

    #[test]
    fn the_ladder_goes_from_all_to_one() {
        for (max, sizes) in [(0, vec![1]), (1, vec![1]), (2, vec![2, 1]), (8, vec![8, 7, 3, 1]), (3, vec![3, 2, 1])] {
            assert_eq!(Crew::new(max).sizes, sizes);
        }
    }

    #[test]
    fn on_a_quiet_machine_all_compute_and_nothing_is_tried() {
        let mut crew = Crew::new(2);
        // Steps grow slowly with the text, and waver.
        let quiet = |threads: u32, step: u32| u64::from(12_000 / threads + step + (step * 37) % 900);
        let total = run(&mut crew, 4000, quiet);
        let ideal: u64 = (0..4000).map(|step| quiet(2, step)).sum();
        assert_eq!((crew.threads(), total), (2, ideal));
    }

    #[test]
    fn when_a_processor_is_taken_one_thread_computes_until_it_is_free() {
        let mut crew = Crew::new(2);
        let quiet = |threads: u32, _: u32| u64::from(12_000 / threads);
        // Together they wait for the scheduler's turns; alone one has a free processor.
        let busy = |threads: u32, step: u32| if threads == 2 { 90_000 + u64::from(step % 3) * 30_000 } else { 12_000 };
        run(&mut crew, 100, quiet);
        assert_eq!(crew.threads(), 2);
        let total = run(&mut crew, 300, busy);
        assert_eq!(crew.threads(), 1);
        assert!(total < 300 * 12_000 * 2, "{total}: more than twice what one thread needs");
        run(&mut crew, RETURN_STEPS_MAX + 20, quiet);
        assert_eq!(crew.threads(), 2);
    }

    #[test]
    fn another_kind_of_step_is_not_compared() {
        let mut crew = Crew::new(2);
        for step in 0..400 {
            // Now one token, now four: a fourfold time is no sign of anything.
            let kind = if step % 20 < 10 { 1 } else { 4 };
            crew.observe(kind, u64::from(kind) * 6000);
        }
        assert_eq!(crew.threads(), 2);
    }

    proptest! {
        #[test]
        fn whatever_the_times_there_is_always_a_crew(
            max in 0_u32..20,
            steps in prop::collection::vec((0_u32..3, 0_u64..1_000_000), 0..400),
        ) {
            let mut crew = Crew::new(max);
            for (kind, took_us) in steps {
                crew.observe(kind, took_us);
                prop_assert!(crew.threads() >= 1 && crew.threads() <= max.max(1));
            }
        }
    }
}
