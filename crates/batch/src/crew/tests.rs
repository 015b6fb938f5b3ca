//! A machine that exists only here: step times for threads beside busy neighbours, after what was measured on
//! two cores (`docs/decisions/0003-worker.md`).

use super::*;
use proptest::prelude::*;

/// A machine, and neighbours of ours that spin.
#[derive(Debug, Clone)]
struct Machine {
    cores: u32,
    /// How many neighbours there are, each from a point in time on.
    neighbours: Vec<(u64, u32)>,
    now_us: f64,
    /// For noise.
    state: u64,
    /// Steps waver by so much.
    noise: f64,
}

impl Machine {
    fn new(cores: u32, neighbours: &[(u64, u32)]) -> Self {
        Self { cores, neighbours: neighbours.to_vec(), now_us: 0.0, state: 7, noise: 0.05 }
    }

    fn neighbours(&self) -> u32 {
        let past = self.neighbours.iter().rev().find(|(from, _)| *from as f64 <= self.now_us);
        past.map_or(0, |(_, count)| *count)
    }

    fn draw(&mut self) -> f64 {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 33) as f64 / f64::from(1_u32 << 31)
    }

    /// How many times longer a step takes than on a machine of our own.
    fn slowness(&self, phase: Phase, threads: u32, neighbours: u32) -> f64 {
        let load = f64::from(threads + neighbours) / f64::from(self.cores);
        if load <= 1.0 {
            return 1.0;
        }
        // Two threads beside one neighbour on two cores: 150 became 41.5; beside two: 6.5. One beside two: 130
        // became 108. Prompts: 465, 260, 111.
        match (threads, phase) {
            (1, _) => 1.0 + 0.4 * (load - 1.0),
            (_, Phase::Answer) => 1.0 + 10.0 * (load - 1.0).powi(2) + 0.3,
            (_, Phase::Prompt) => 1.0 + 3.2 * (load - 1.0).powi(2),
        }
    }

    /// Computes `work_us` of one thread's time; says what it took and what was free meanwhile.
    fn compute(&mut self, phase: Phase, threads: u32, work_us: f64) -> (Step, f64) {
        let neighbours = self.neighbours();
        let overhead = 1.0 + 0.05 * f64::from(threads - 1);
        let waver = 1.0 + self.noise * self.draw();
        let quiet_us = work_us / f64::from(threads) * overhead * waver;
        let wall_us = quiet_us * self.slowness(phase, threads, neighbours);
        let total = f64::from(threads + neighbours);
        let share = (f64::from(self.cores) / total).min(1.0);
        // A kernel thread or a browser takes a little now and then.
        let odds = 0.2 * self.draw() * self.draw();
        self.now_us += wall_us;
        let used = f64::from(threads) * share - odds;
        let idle = (f64::from(self.cores) - total).max(0.0);
        let step = Step { phase, threads, wall_us: wall_us as u64, cpu_us: (wall_us * used) as u64 };
        (step, idle + used)
    }
}

/// Runs until `end_us` and says how much of one thread's work was done.
fn run(machine: &mut Machine, crew: &mut Crew, phase: Phase, end_us: u64, work_us: f64) -> f64 {
    let (mut done, mut looked_us) = (0.0, 0.0);
    while machine.now_us < end_us as f64 {
        let (step, free) = machine.compute(phase, crew.threads(phase), work_us);
        done += work_us;
        crew.observe(step);
        if crew.bounds.sees_free && crew.is_reduced() && machine.now_us - looked_us > 100_000.0 {
            looked_us = machine.now_us;
            crew.note_free(free);
        }
    }
    done
}

/// The same with a number of threads that never changes.
fn run_fixed(machine: &mut Machine, threads: u32, phase: Phase, end_us: u64, work_us: f64) -> f64 {
    let mut done = 0.0;
    while machine.now_us < end_us as f64 {
        machine.compute(phase, threads, work_us);
        done += work_us;
    }
    done
}

fn crew(threads: u32, sees_free: bool) -> Crew {
    Crew::new(Bounds { threads, prompt_threads: threads, quota: None, sees_free })
}

const ANSWER_US: f64 = 13_000.0;
const PROMPT_US: f64 = 250_000.0;

fn at_all_times(free: f64) -> Glance {
    Glance { free, now: free }
}

#[test]
fn on_a_quiet_machine_all_compute() {
    for (cores, phase, work_us) in
        [(2, Phase::Answer, ANSWER_US), (2, Phase::Prompt, PROMPT_US), (8, Phase::Answer, 80_000.0)]
    {
        let (mut machine, mut crew) = (Machine::new(cores, &[]), crew(cores, true));
        while machine.now_us < 20e6 {
            assert_eq!(crew.threads(phase), cores, "after {} us", machine.now_us);
            let soon = machine.now_us as u64 + 1;
            run(&mut machine, &mut crew, phase, soon, work_us);
        }
    }
}

#[test]
fn a_neighbour_is_seen_within_a_few_steps_and_so_is_its_end() {
    for sees_free in [true, false] {
        let mut machine = Machine::new(2, &[(0, 0), (1_000_000, 1), (3_000_000, 0)]);
        let mut crew = crew(2, sees_free);
        run(&mut machine, &mut crew, Phase::Answer, 1_000_000, ANSWER_US);
        let (mut steps, came_us) = (0, machine.now_us);
        while crew.threads(Phase::Answer) == 2 {
            let soon = machine.now_us as u64 + 1;
            run(&mut machine, &mut crew, Phase::Answer, soon, ANSWER_US);
            steps += 1;
        }
        let seen_us = machine.now_us - came_us;
        assert!(steps <= 10 && seen_us < 250_000.0, "{steps} steps, {seen_us} us");
        run(&mut machine, &mut crew, Phase::Answer, 3_000_000, ANSWER_US);
        run(&mut machine, &mut crew, Phase::Answer, 3_400_000, ANSWER_US);
        if sees_free {
            assert_eq!(crew.threads(Phase::Answer), 2);
        }
        run(&mut machine, &mut crew, Phase::Answer, 8_000_000, ANSWER_US);
        assert_eq!(crew.threads(Phase::Answer), 2);
    }
}

#[test]
fn one_slow_step_is_no_neighbour() {
    let mut crew = crew(2, true);
    let step = |wall_us, cpu_us| Step { phase: Phase::Answer, threads: 2, wall_us, cpu_us };
    for _ in 0..20 {
        crew.observe(step(7000, 13_900));
    }
    // Something took one processor for four milliseconds.
    crew.observe(step(11_000, 18_000));
    assert_eq!(crew.threads(Phase::Answer), 2);
    assert!(!crew.is_reduced());
}

#[test]
fn who_reads_the_answer_is_no_neighbour() {
    let mut crew = crew(2, true);
    let step = |wall_us, cpu_us| Step { phase: Phase::Answer, threads: 2, wall_us, cpu_us };
    for round in 0..10 {
        for _ in 0..20 {
            crew.observe(step(7000, 13_800));
        }
        // A program starts to read: it wants a processor for thirty milliseconds.
        for _ in 0..3 {
            crew.observe(step(12_000, 14_000));
        }
        assert_eq!(crew.threads(Phase::Answer), 2, "round {round}");
    }
    // One that stays is seen.
    for _ in 0..12 {
        crew.observe(step(12_000, 14_000));
    }
    assert_eq!(crew.threads(Phase::Answer), 1);
}

#[test]
fn a_long_step_is_judged_by_itself_and_the_next_ones_are_short() {
    let mut crew = crew(2, true);
    assert_eq!(crew.step_alone_us(), STEP_FIRST_US, "nothing is known yet");
    crew.observe(Step { phase: Phase::Prompt, threads: 2, wall_us: 140_000, cpu_us: 278_000 });
    assert_eq!(crew.step_alone_us(), STEP_CALM_US);
    crew.observe(Step { phase: Phase::Prompt, threads: 2, wall_us: 1_800_000, cpu_us: 2_200_000 });
    assert_eq!((crew.threads(Phase::Prompt), crew.step_alone_us()), (1, STEP_FIRST_US));
    crew.observe(Step { phase: Phase::Prompt, threads: 1, wall_us: 40_000, cpu_us: 40_000 });
    assert_eq!((crew.threads(Phase::Prompt), crew.step_alone_us()), (1, STEP_WARY_US));
    let mut crew = self::crew(2, true);
    crew.observe(Step { phase: Phase::Prompt, threads: 2, wall_us: 140_000, cpu_us: 278_000 });
    crew.wake(None);
    assert_eq!((crew.threads(Phase::Prompt), crew.step_alone_us()), (2, STEP_FIRST_US), "neighbours may have come");
    crew.wake(Some(Glance { free: 2.0, now: 1.0 }));
    assert_eq!((crew.threads(Phase::Prompt), crew.step_alone_us()), (2, STEP_FIRST_US), "one has come");
    crew.wake(Some(Glance { free: 2.0, now: 2.0 }));
    assert_eq!((crew.threads(Phase::Prompt), crew.step_alone_us()), (2, STEP_CALM_US), "nobody has");
    crew.observe(Step { phase: Phase::Prompt, threads: 2, wall_us: 15_000, cpu_us: 29_000 });
    assert_eq!(crew.step_alone_us(), STEP_FIRST_US, "a look is good for one step");
}

#[test]
fn what_is_seen_before_the_first_step_is_believed_until_more_is_seen() {
    let mut crew = crew(4, true);
    for (free, threads) in [(None, 4), (Some(3.9), 4), (Some(2.1), 2), (Some(4.0), 2)] {
        crew.wake(free.map(at_all_times));
        assert_eq!(crew.threads(Phase::Answer), threads, "{free:?}");
    }
    crew.note_free(4.0);
    assert_eq!(crew.threads(Phase::Answer), 4);
    crew.wake(Some(at_all_times(0.0)));
    assert_eq!(crew.threads(Phase::Answer), 1);
}

#[test]
fn as_many_step_back_as_processors_are_taken() {
    let mut crew = crew(8, true);
    crew.observe(Step { phase: Phase::Answer, threads: 8, wall_us: 70_000, cpu_us: 70_000 * 8 - 70_000 * 3 });
    assert_eq!(crew.threads(Phase::Answer), 5);
    crew.note_free(8.0);
    assert_eq!(crew.threads(Phase::Answer), 5, "not at once");
    for _ in 0..20 {
        crew.observe(Step { phase: Phase::Answer, threads: 5, wall_us: 50_000, cpu_us: 0 });
    }
    assert_eq!(crew.threads(Phase::Answer), 1, "never fewer than one");
    crew.note_free(3.9);
    assert_eq!(crew.threads(Phase::Answer), 4, "as many as there is room for");
}

#[test]
fn what_a_quota_does_not_pay_for_is_not_missing() {
    // One and a half processors: prompts get two threads and are throttled, answers one.
    let bounds = Bounds { threads: 1, prompt_threads: 2, quota: Some(1.5), sees_free: true };
    let mut crew = Crew::new(bounds);
    for period in 0..100 {
        // Of each hundred milliseconds the first 75 are paid for.
        let paid = Step { phase: Phase::Prompt, threads: 2, wall_us: 75_000, cpu_us: 149_000 };
        let throttled = Step { phase: Phase::Prompt, threads: 2, wall_us: 25_000, cpu_us: 500 };
        crew.observe(if period % 2 == 0 { paid } else { throttled });
        crew.observe(if period % 2 == 0 { throttled } else { paid });
        assert_eq!((crew.threads(Phase::Prompt), crew.threads(Phase::Answer)), (2, 1), "period {period}");
    }
    // A neighbour is seen all the same.
    for _ in 0..6 {
        crew.observe(Step { phase: Phase::Prompt, threads: 2, wall_us: 100_000, cpu_us: 80_000 });
    }
    assert_eq!(crew.threads(Phase::Prompt), 1);
}

#[test]
fn tries_in_vain_become_rare() {
    let (mut machine, mut crew) = (Machine::new(2, &[(0, 1)]), crew(2, false));
    run(&mut machine, &mut crew, Phase::Answer, 1_000_000, ANSWER_US);
    let done = run(&mut machine, &mut crew, Phase::Answer, 31_000_000, ANSWER_US);
    let alone = run_fixed(&mut Machine::new(2, &[(0, 1)]), 1, Phase::Answer, 30_000_000, ANSWER_US);
    assert!(done > 0.97 * alone, "{done} of {alone}");
}

/// Neighbours that come and go: at least half a second each.
fn neighbours() -> impl Strategy<Value = Vec<(u64, u32)>> {
    prop::collection::vec((500_u64..4000, 0_u32..4), 1..8).prop_map(|spans| {
        let mut from = 0;
        let mut list = Vec::new();
        for (length_ms, count) in spans {
            list.push((from, count));
            from += length_ms * 1000;
        }
        list.push((from, 0));
        list
    })
}

proptest! {
    #[test]
    fn as_good_as_the_best_fixed_choice_soon_after_each_change(
        cores in 2_u32..9,
        neighbours in neighbours(),
        reads in any::<bool>(),
        sees_free in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let (phase, one_thread_us) = if reads { (Phase::Prompt, 50_000.0) } else { (Phase::Answer, 13_000.0) };
        let work_us = one_thread_us * f64::from(cores) / 2.0;
        let end_us = neighbours.last().map_or(0, |(from, _)| *from);
        let machine = Machine { state: seed, ..Machine::new(cores, &neighbours) };
        let mut crew = crew(cores, sees_free);
        let ours = run(&mut machine.clone(), &mut crew, phase, end_us, work_us);
        // The best for each span, by somebody who knows the neighbours.
        let mut best = 0.0;
        for pair in neighbours.windows(2) {
            let span = |threads| {
                let mut machine = Machine { now_us: pair[0].0 as f64, ..machine.clone() };
                run_fixed(&mut machine, threads, phase, pair[1].0, work_us)
            };
            best += (1..=cores).map(span).fold(0.0, f64::max);
        }
        let one = run_fixed(&mut machine.clone(), 1, phase, end_us, work_us);
        // Each change costs at most a few hundred milliseconds of what could be done in that time.
        let learning = best / end_us as f64 * 450_000.0 * neighbours.len() as f64;
        if sees_free {
            prop_assert!(ours + learning >= 0.85 * best, "{ours} and {learning} of {best}");
        }
        prop_assert!(ours + 0.3 * learning >= 0.9 * one, "{ours} where one thread does {one}");
    }

    #[test]
    fn whatever_the_times_there_is_always_a_crew(
        threads in 0_u32..20,
        prompt_threads in 0_u32..20,
        quota in prop::option::of(0.1_f64..20.0),
        sees_free in any::<bool>(),
        steps in prop::collection::vec((any::<bool>(), 0_u32..20, 0_u64..3_000_000, 0_u64..9_000_000, 0.0_f64..20.0), 0..300),
    ) {
        let mut crew = Crew::new(Bounds { threads, prompt_threads, quota, sees_free });
        for (reads, threads_then, wall_us, cpu_us, free) in steps {
            let phase = if reads { Phase::Prompt } else { Phase::Answer };
            crew.observe(Step { phase, threads: threads_then, wall_us, cpu_us });
            crew.note_free(free);
            crew.wake((wall_us % 7 == 0).then_some(at_all_times(free)));
            prop_assert!((1..=threads.max(1)).contains(&crew.threads(Phase::Answer)));
            prop_assert!((1..=prompt_threads.max(1)).contains(&crew.threads(Phase::Prompt)));
        }
    }
}
