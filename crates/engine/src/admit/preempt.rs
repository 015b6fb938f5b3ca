//! Who gets room on a worker that is ready, and who steps back for others.
//!
//! Room is a sequence and cells of the pool. An ask that runs steps back (it is parked: its worker keeps its
//! state) for three reasons: nobody reads its answer fast enough; it is a batch ask and an interactive one
//! waits; its app has more than its share and another app has waited for a quantum. It goes on when it is its
//! turn again.

use super::{Action, Admission, Ending, Entry, Event, Live, Model, ModelKey, Need, Phase, WorkerKey};
use base::{AppId, AskId, Code, Fault, Millis, Priority};
use std::collections::BTreeMap;

/// Cells that are counted for what an ask will generate, at most. A long answer takes more in the end; then
/// the worker has its youngest step back.
pub(super) const HEADROOM_TOKENS: u32 = 256;
/// Before a model has cut any prompt into tokens, so many bytes count as one. Few texts have shorter tokens;
/// for those the worker's own count comes before the first step.
const TOKEN_BYTES: u64 = 3;
/// A guess counts with so many times as many tokens as the last prompts had: 9 of 8.
const GUESS_MORE: (u64, u64) = (9, 8);
/// No text is guessed to have longer tokens, however long those of others were.
const TOKEN_BYTES_MAX: u64 = 6;
/// Of so many bytes of prompts is remembered how many tokens they were; older ones fade by halves.
const HEARD_BYTES_MAX: u64 = 1 << 20;

/// What is known of a generation before its worker has seen the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) prompt_bytes: u64,
    /// 0: what the window leaves.
    pub(crate) tokens_max: u32,
}

/// How long a model's tokens were in the last prompts. English has four bytes and more for one; to count every prompt
/// with a third of its bytes would keep a long one waiting for room that it doesn't need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heard {
    bytes: u64,
    tokens: u64,
}

impl Heard {
    pub(super) fn hear(&mut self, prompt_bytes: u64, prompt_tokens: u32) {
        self.bytes = self.bytes.saturating_add(prompt_bytes.min(HEARD_BYTES_MAX));
        // Of a prompt that is longer than what is remembered, its share.
        let tokens = u64::from(prompt_tokens).saturating_mul(prompt_bytes.min(HEARD_BYTES_MAX));
        self.tokens = self.tokens.saturating_add(tokens / prompt_bytes.max(1));
        while self.bytes > HEARD_BYTES_MAX {
            (self.bytes, self.tokens) = (self.bytes / 2, self.tokens / 2);
        }
    }

    /// Cells that an ask is counted with until its worker has said how many tokens its prompt has.
    pub(super) fn cells(self, size: Size) -> u32 {
        let bytes = size.prompt_bytes;
        let known = (self.tokens > 0 && self.bytes > 0).then(|| {
            let tokens = u128::from(bytes) * u128::from(self.tokens * GUESS_MORE.0);
            let tokens = tokens.div_ceil(u128::from(self.bytes * GUESS_MORE.1));
            u64::try_from(tokens).unwrap_or(u64::MAX).max(bytes.div_ceil(TOKEN_BYTES_MAX))
        });
        let tokens = known.unwrap_or(bytes.div_ceil(TOKEN_BYTES)).min(bytes);
        cells(u32::try_from(tokens).unwrap_or(u32::MAX), size.tokens_max)
    }
}

fn cells(tokens: u32, tokens_max: u32) -> u32 {
    let more = if tokens_max == 0 { HEADROOM_TOKENS } else { tokens_max.min(HEADROOM_TOKENS) };
    tokens.saturating_add(more)
}

/// An ask that a worker was given and has not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    need: Need,
    stage: Stage,
    /// What it is counted with.
    cells: u32,
    /// When it began, or went on.
    since: u64,
    /// How often it has stepped back for others.
    turns: u32,
    /// An aged batch ask isn't asked to step back before.
    safe_until: u64,
    /// It can't be parked, or its state was lost when it was: only a reader's slowness parks it (again).
    stays: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Active,
    /// The worker has taken its cells because the pool was dry, and gives them back by itself.
    Pressed,
    /// Told to step back; its room counts until the worker has said so.
    Leaving,
    Parked,
}

impl Run {
    /// Whether the worker has something to do for it.
    pub(super) fn is_busy(&self) -> bool {
        self.stage != Stage::Parked
    }

    fn takes_slot(&self) -> bool {
        self.need == Need::Slot && self.is_busy()
    }

    /// It is cancelled: even where it was parked, its worker now owes its end.
    pub(super) fn cancel(&mut self) {
        if self.stage == Stage::Parked {
            self.stage = Stage::Leaving;
        }
    }
}

/// How many asks of one model are where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) running: usize,
    /// For their first turn.
    pub(crate) waiting: usize,
    pub(crate) parked: usize,
}

/// What one ready worker has to give.
#[derive(Debug, Clone, Copy)]
struct Room {
    slots: usize,
    cells: u32,
    taken_slots: usize,
    taken_cells: u32,
    pressed: bool,
}

impl Room {
    fn of(model: &Model) -> Option<Self> {
        let Phase::Ready { slots, cells, .. } = model.phase else { return None };
        let taking = || model.running.values().filter(|run| run.takes_slot());
        Some(Self {
            slots,
            cells,
            taken_slots: taking().count(),
            taken_cells: taking().fold(0, |sum, run| sum.saturating_add(run.cells)),
            pressed: taking().any(|run| run.stage == Stage::Pressed),
        })
    }

    /// Whether one more with so many cells finds room. Alone it always does: its window is the pool.
    fn fits(&self, cells: u32) -> bool {
        let alone = self.taken_slots == 0;
        let in_pool = self.taken_cells.saturating_add(cells) <= self.cells;
        self.taken_slots < self.slots && !self.pressed && (alone || in_pool)
    }

    fn without(mut self, run: &Run) -> Self {
        self.taken_slots -= 1;
        self.taken_cells = self.taken_cells.saturating_sub(run.cells);
        self
    }
}

impl Model {
    pub(super) fn counts(&self) -> Counts {
        let parked = self.running.values().filter(|run| !run.is_busy()).count();
        let queued = self.queue.asks().iter().filter(|ask| self.running.contains_key(ask)).count();
        Counts { running: self.running.len() - parked, waiting: self.queue.len() - queued, parked }
    }
}

impl<T> Admission<T> {
    /// What a worker or a reader says that changes who may run.
    pub(super) fn hear_of_room(&mut self, now: u64, event: Event<T>) {
        match event {
            Event::Accepted { worker, ask, prompt_tokens, tokens_max } => {
                let size = self.asks.get(&ask).and_then(|live| live.entry.size);
                let Some(model) = self.model_of(worker) else { return };
                let Some(run) = model.running.get_mut(&ask) else { return };
                run.cells = cells(prompt_tokens, tokens_max);
                if let Some(size) = size {
                    model.heard.hear(size.prompt_bytes, prompt_tokens);
                }
            }
            Event::Parked { worker, ask, held, tokens, saved } => self.parked(now, worker, ask, held, tokens, saved),
            Event::Resumed { worker, ask } => {
                if let Some(run) = self.run(worker, ask)
                    && run.stage == Stage::Pressed
                {
                    run.stage = Stage::Active;
                }
            }
            Event::Slow(ask) => self.slow(now, ask),
            Event::Drained(ask) => self.drained(now, ask),
            _ => {}
        }
    }

    fn run(&mut self, worker: WorkerKey, ask: AskId) -> Option<&mut Run> {
        self.model_of(worker)?.running.get_mut(&ask)
    }

    fn parked(&mut self, now: u64, worker: WorkerKey, ask: AskId, held: bool, tokens: u32, saved: bool) {
        let tokens_max = self.asks.get(&ask).and_then(|live| live.entry.size).map_or(0, |size| size.tokens_max);
        let Some(run) = self.run(worker, ask) else { return };
        if tokens > 0 {
            run.cells = cells(tokens, tokens_max);
        }
        run.stays |= !saved;
        match (held, run.stage) {
            (false, Stage::Active) => run.stage = Stage::Pressed,
            (true, Stage::Leaving) => {
                // One that was given up meanwhile stays on its way out.
                let Some(Live { entry, slow_until, since, .. }) = self.asks.get_mut(&ask) else { return };
                *since = now;
                let (entry, waits) = (entry.clone(), slow_until.is_none());
                let Some(model) = self.models.get_mut(&entry.model) else { return };
                if let Some(run) = model.running.get_mut(&ask) {
                    run.stage = Stage::Parked;
                }
                if waits {
                    model.queue.push_parked(now, &entry);
                }
            }
            _ => {}
        }
    }

    /// Its reader has fallen behind: it makes room until that has caught up.
    fn slow(&mut self, now: u64, ask: AskId) {
        let until = now.saturating_add(self.bounds.unread_ms);
        let Some(live) = self.asks.get_mut(&ask) else { return };
        live.slow_until.get_or_insert(until);
        let entry = live.entry.clone();
        let Some(model) = self.models.get_mut(&entry.model) else { return };
        let Phase::Ready { worker, .. } = model.phase else { return };
        match model.running.get_mut(&ask) {
            Some(run) if matches!(run.stage, Stage::Active | Stage::Pressed) && entry.size.is_some() => {
                run.stage = Stage::Leaving;
                self.actions.push(Action::Hold { worker, ask });
            }
            Some(Run { stage: Stage::Parked, .. }) => {
                model.queue.remove(now, &entry);
                model.claim = model.claim.filter(|claims| *claims != ask);
            }
            _ => {}
        }
    }

    fn drained(&mut self, now: u64, ask: AskId) {
        let Some(live) = self.asks.get_mut(&ask) else { return };
        if live.slow_until.take().is_none() {
            return;
        }
        live.since = now;
        let entry = live.entry.clone();
        let Some(model) = self.models.get_mut(&entry.model) else { return };
        if let Some(Run { stage: Stage::Parked, .. }) = model.running.get(&ask) {
            model.queue.push_parked(now, &entry);
        }
    }

    /// Ends asks whose readers have stopped reading.
    pub(super) fn expire_unread(&mut self, now: u64) {
        let late = self.asks.iter().filter(|(_, live)| live.slow_until.is_some_and(|at| at <= now));
        for ask in late.map(|(ask, _)| *ask).collect::<Vec<_>>() {
            let fault = unread(self.bounds.unread_ms);
            self.abandon(now, ask, Ending::Fault(fault));
        }
    }

    /// Fills a worker's free room, and has others step back for those who have a claim to theirs.
    pub(super) fn assign(&mut self, now: u64, key: ModelKey) {
        loop {
            self.fill(now, key);
            if self.make_way(now, key) {
                return;
            }
        }
    }

    fn fill(&mut self, now: u64, key: ModelKey) {
        let patience_ms = self.bounds.batch_patience_ms;
        loop {
            let Some(model) = self.models.get_mut(&key) else { return };
            let Some(room) = Room::of(model) else { return };
            let (asks, running, heard) = (&self.asks, &model.running, model.heard);
            // One that gives way lets nobody begin; who has begun goes on, so that it ends.
            let takes = model.share.takes_asks(now);
            let may = |ask: &AskId| takes || model.share.is_awake() && running.contains_key(ask);
            let wants = |ask: AskId| asks.get(&ask).map(|live| wanted(heard, live, running.get(&ask)));
            let fits = |ask: AskId| may(&ask) && wants(ask).is_some_and(|cells| room.fits(cells));
            let next = match model.claim.and_then(|ask| asks.get(&ask)) {
                Some(live) if fits(live.entry.ask) => {
                    model.queue.take(now, &live.entry);
                    model.claim = None;
                    Some((live.entry.ask, false))
                }
                // What becomes free is for that one; only probes pass by.
                Some(_) => model.queue.pop(now, u64::MAX, |_| false).map(|next| (next.ask, false)),
                None => model.queue.pop(now, patience_ms, fits).map(|next| (next.ask, next.aged)),
            };
            let Some((ask, aged)) = next else { return };
            self.go(now, key, ask, aged);
        }
    }

    /// Begins an ask, or has it go on.
    fn go(&mut self, now: u64, key: ModelKey, ask: AskId, aged: bool) {
        let quantum_ms = self.bounds.quantum_ms;
        let (Some(model), Some(live)) = (self.models.get_mut(&key), self.asks.get(&ask)) else { return };
        let Phase::Ready { worker, .. } = model.phase else { return };
        let safe_until = if aged { now.saturating_add(quantum_ms) } else { now };
        if let Some(run) = model.running.get_mut(&ask) {
            (run.stage, run.since, run.safe_until) = (Stage::Active, now, safe_until);
            self.actions.push(Action::Resume { worker, ask });
            return;
        }
        let Entry { need, size, .. } = live.entry;
        let cells = size.map_or(0, |size| model.heard.cells(size));
        let run = Run { need, stage: Stage::Active, cells, since: now, turns: 0, safe_until, stays: size.is_none() };
        model.running.insert(ask, run);
        // `expire` ran before: what is left is more than nothing.
        let deadline_left_ms = live.deadline.map(|at| at.saturating_sub(now).max(1));
        self.actions.push(Action::Begin { worker, ask, deadline_left_ms });
    }

    /// Finds somebody who waits and has a claim to another's room, and takes it. `false`: look again who may
    /// go on, because a claim has fallen away.
    fn make_way(&mut self, now: u64, key: ModelKey) -> bool {
        let quantum_ms = self.bounds.quantum_ms;
        let Some(model) = self.models.get_mut(&key).filter(|model| model.share.takes_asks(now)) else { return true };
        let (Some(room), Phase::Ready { worker, .. }) = (Room::of(model), &model.phase) else { return true };
        let worker = *worker;
        if model.running.values().any(|run| matches!(run.stage, Stage::Leaving | Stage::Pressed)) {
            return true;
        }
        let found = model.queue.heads().into_iter().find_map(|ask| {
            let live = self.asks.get(&ask)?;
            let before = model.running.get(&ask);
            let claim = Claim { now, quantum_ms, live, before, cells: wanted(model.heard, live, before) };
            Some((ask, claim.victims(room, &model.running, &self.asks)?))
        });
        let Some((ask, victims)) = found else { return model.claim.take().is_none() };
        model.claim = Some(ask);
        for victim in victims {
            if let Some(run) = model.running.get_mut(&victim) {
                run.stage = Stage::Leaving;
                run.turns = run.turns.saturating_add(1);
                self.actions.push(Action::Hold { worker, ask: victim });
            }
        }
        true
    }

    /// When a claim may come to be by time alone.
    pub(super) fn next_turns(&self, now: u64) -> impl Iterator<Item = u64> {
        let quantum_ms = self.bounds.quantum_ms;
        let ready = self.models.values().filter(|model| matches!(model.phase, Phase::Ready { .. }));
        let pairs = ready.flat_map(move |model| {
            let waits = model.queue.heads().into_iter().filter_map(|ask| self.asks.get(&ask));
            let waits = waits.map(|live| (live, model.running.get(&live.entry.ask)));
            waits.flat_map(move |waits| model.running.iter().map(move |(ask, run)| (waits, *ask, run)))
        });
        let times = pairs.filter_map(move |((live, before), ask, run)| {
            let other = &self.asks.get(&ask)?.entry;
            let may_yield = run.stage == Stage::Active && !run.stays;
            let turn = |even| run.safe_until.max(turn_end(quantum_ms, live, before, run, even));
            // Which of the two ends counts depends on who else runs by then.
            let at = match stake(&live.entry, other) {
                Stake::None => return None,
                Stake::Class => [run.safe_until; 2],
                Stake::Share => [turn(false), turn(true)],
            };
            may_yield.then_some(at)
        });
        times.flatten().filter(move |at| *at > now)
    }
}

/// What one who waits may hold against one who runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stake {
    None,
    /// Interactive before batch, at once.
    Class,
    /// Its app has more of the room.
    Share,
}

fn stake(waits: &Entry, runs: &Entry) -> Stake {
    match (waits.priority, runs.priority) {
        (Priority::Interactive, Priority::Batch) => Stake::Class,
        (Priority::Batch, Priority::Interactive) => Stake::None,
        _ if waits.app == runs.app => Stake::None,
        _ => Stake::Share,
    }
}

/// How often a turn is doubled at most.
const DOUBLINGS_MAX: u32 = 4;

/// So many quanta long is a turn that is taken for an app which has only one less: most asks end within it, and
/// to have all of them take turns would make every one of them late.
const EVEN_QUANTA: u64 = 5;

/// When one who runs has had its turn, and one who waits has waited for long enough. A newcomer waits for one
/// turn; those who have both stepped back before change places ever less often. `even`: the two would only
/// change places.
fn turn_end(quantum_ms: u64, waits: &Live, before: Option<&Run>, runs: &Run, even: bool) -> u64 {
    let turns = before.map_or(0, |before| before.turns).min(runs.turns).min(DOUBLINGS_MAX);
    let quanta = if even { EVEN_QUANTA } else { 1 };
    waits.since.max(runs.since).saturating_add((quantum_ms * quanta) << turns)
}

fn wanted(heard: Heard, live: &Live, run: Option<&Run>) -> u32 {
    run.map_or_else(|| live.entry.size.map_or(0, |size| heard.cells(size)), |run| run.cells)
}

/// One who waits, and looks whose room it may have.
struct Claim<'a> {
    now: u64,
    quantum_ms: u64,
    live: &'a Live,
    /// When it has begun before.
    before: Option<&'a Run>,
    cells: u32,
}

impl Claim<'_> {
    /// Who steps back so that it fits; `None` when that isn't to be had.
    fn victims(&self, room: Room, running: &BTreeMap<AskId, Run>, asks: &BTreeMap<AskId, Live>) -> Option<Vec<AskId>> {
        let active = running.iter().filter(|(_, run)| run.stage == Stage::Active && run.need == Need::Slot);
        let active: Vec<(AskId, &Run, &Entry)> =
            active.filter_map(|(ask, run)| Some((*ask, run, &asks.get(ask)?.entry))).collect();
        let mut shares: BTreeMap<&AppId, usize> = BTreeMap::new();
        for (_, _, entry) in &active {
            *shares.entry(&entry.app).or_default() += 1;
        }
        let share = |app: &AppId| shares.get(app).copied().unwrap_or(0);
        let waits = &self.live.entry;
        let may = |run: &Run, entry: &Entry| {
            let (has, lacks) = (share(&entry.app), share(&waits.app));
            let turn_over = self.now >= turn_end(self.quantum_ms, self.live, self.before, run, has <= lacks + 1);
            let yields = match stake(waits, entry) {
                Stake::None => false,
                Stake::Class => true,
                Stake::Share => turn_over && has > lacks,
            };
            yields && !run.stays && self.now >= run.safe_until
        };
        let mut able: Vec<_> = active.into_iter().filter(|(_, run, entry)| may(run, entry)).collect();
        // Batch asks first, the youngest of them, as it loses least; else who has had its turn for longest, of
        // the app that has most.
        able.sort_by_key(|(ask, run, entry)| match entry.priority {
            Priority::Batch => (0, 0, u64::MAX - run.since, *ask),
            Priority::Interactive => (1, usize::MAX - share(&entry.app), run.since, *ask),
        });
        let mut room = room;
        let mut victims = Vec::new();
        for (ask, run, _) in able {
            room = room.without(run);
            victims.push(ask);
            if room.fits(self.cells) {
                return Some(victims);
            }
        }
        None
    }
}

fn unread(unread_ms: u64) -> Fault {
    Fault::new(Code::Busy, format!("nobody has read the answer for {}, so it was given up", Millis(unread_ms)))
        .hint("read the stream while it comes, or ask for fewer tokens")
}
