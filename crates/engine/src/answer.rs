//! What one ask gives back: a bounded queue between the engine's threads and whoever reads.
//!
//! A slow reader stalls nobody: text that waits is joined to text that waits already, and progress that
//! waits is replaced by the newer. When much lies unread the ask is parked, and goes on when it has been
//! read; a worker that goes on all the same loses it the ask, at [`UNREAD_BYTES_MAX`].

use crate::compacting::{Compacting, Turn};
use crate::handle::Door;
use crate::hear::{Heard, Hearing};
use crate::locked;
use crate::vectors::Embedded;
use base::answer::Progress;
use base::{AskId, Code, Delta, Fault, Scores};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

/// LIMIT: text that nobody has read. A whole 128k window of text is about half of this.
const UNREAD_BYTES_MAX: usize = 1 << 20;
/// Unread text at which the ask makes room for others: some two thousand tokens.
const SLOW_BYTES: usize = 8 << 10;

/// A stream of deltas whose last two are `Usage` and `Done`, or one fault. Dropping it cancels the ask.
#[derive(Debug)]
pub struct Answer {
    reader: Reader,
    /// What to do when the prompt doesn't fit, where the caller wants that.
    compacting: Option<Box<Compacting>>,
    /// Takes apart what the model says; none where nobody asked a model to chat.
    hearing: Option<Box<Hearing>>,
    /// Comes before what is read next.
    next: VecDeque<Delta>,
}

impl Answer {
    pub(crate) fn new(reader: Reader, compacting: Option<Compacting>) -> Self {
        Self { reader, compacting: compacting.map(Box::new), hearing: None, next: VecDeque::new() }
    }

    pub(crate) fn heard_by(self, hearing: Hearing) -> Self {
        Self { hearing: Some(Box::new(hearing)), ..self }
    }

    /// The ask's identity in this daemon's life; another one after a compaction.
    pub fn id(&self) -> AskId {
        self.reader.id
    }

    /// The next delta; `None` after the last one or after a fault.
    pub async fn next(&mut self) -> Option<Result<Delta, Fault>> {
        loop {
            if let Some(delta) = self.next.pop_front() {
                return Some(Ok(delta));
            }
            let item = match self.reader.next().await? {
                Ok(Item::Opened { in_thought }) => {
                    if let Some(hearing) = &mut self.hearing {
                        hearing.open(in_thought);
                    }
                    continue;
                }
                Ok(Item::Loose { tool, reason }) => {
                    if let Some(hearing) = &mut self.hearing {
                        self.next.extend(hearing.loosen(tool, reason));
                    }
                    continue;
                }
                item => item,
            };
            let item = match &mut self.compacting {
                None => item.and_then(only_delta),
                Some(compacting) => match compacting.take(item) {
                    Turn::Pass(item) => item,
                    Turn::Declare(compaction, delta) => {
                        self.next.push_back(Delta::Compacted(compaction));
                        Ok(delta)
                    }
                    Turn::Read(reader) => {
                        self.reader = reader;
                        continue;
                    }
                    Turn::Skip => continue,
                },
            };
            let Some(hearing) = &mut self.hearing else {
                match item {
                    Ok(delta) => self.next.push_back(delta),
                    Err(fault) => return Some(Err(fault)),
                }
                continue;
            };
            match hearing.take(item) {
                Heard::Said(deltas) => self.next.extend(deltas),
                Heard::Failed(fault) => return Some(Err(fault)),
                Heard::GoOn(deltas) => {
                    self.next.extend(deltas);
                    let shortened = self.compacting.as_ref().map(|compacting| compacting.order());
                    let order = hearing.next_order(shortened);
                    if let Some(compacting) = &mut self.compacting {
                        compacting.begin(order.clone());
                    }
                    self.reader = hearing.submit(order);
                }
            }
        }
    }

    /// As [`Answer::next`], on a thread that may block.
    pub fn blocking_next(&mut self) -> Option<Result<Delta, Fault>> {
        wait_for(self.next())
    }
}

#[derive(Debug)]
pub(crate) enum Item {
    Delta(Delta),
    Vectors(Embedded),
    Scored(Scores),
    Counted(u32),
    Probed(i32),
    /// The prompt is made, and this is where the answer begins.
    Opened {
        in_thought: bool,
    },
    /// Arguments of this tool, or of any, aren't kept to their schema.
    Loose {
        tool: Option<String>,
        reason: String,
    },
}

/// What a generation gets.
pub(crate) fn only_delta(item: Item) -> Result<Delta, Fault> {
    match item {
        Item::Delta(delta) => Ok(delta),
        Item::Vectors(_)
        | Item::Scored(_)
        | Item::Counted(_)
        | Item::Probed(_)
        | Item::Opened { .. }
        | Item::Loose { .. } => Err(Fault::new(Code::Internal, "the engine answered another ask than this")),
    }
}

/// The end that the engine writes to.
#[derive(Debug, Default)]
pub(crate) struct Sink {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Result<Item, Fault>>,
    unread_bytes: usize,
    /// The engine was told that the reader has fallen behind.
    slow: bool,
    /// Nothing more will come.
    ended: bool,
    waker: Option<Waker>,
}

/// How the reader keeps up with what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As it should, or as was told before.
    Well,
    /// It has just fallen behind.
    Slow,
    /// It has left too much lying; the ask has ended with a fault that says so.
    Lost,
}

impl Sink {
    pub(crate) fn text(&self, text: String) -> Pace {
        let mut state = locked(&self.state);
        if state.ended {
            return Pace::Well;
        }
        state.unread_bytes += text.len();
        if state.unread_bytes > UNREAD_BYTES_MAX {
            let fault = Fault::new(Code::Busy, format!("more than {UNREAD_BYTES_MAX} bytes of the answer lay unread"))
                .hint("read the stream while it comes, or ask for fewer tokens");
            end(state, vec![Err(fault)]);
            return Pace::Lost;
        }
        match state.items.back_mut() {
            Some(Ok(Item::Delta(Delta::Text(waiting)))) => waiting.push_str(&text),
            _ => state.items.push_back(Ok(Item::Delta(Delta::Text(text)))),
        }
        let falls_behind = state.unread_bytes > SLOW_BYTES && !state.slow;
        state.slow |= falls_behind;
        wake(state);
        if falls_behind { Pace::Slow } else { Pace::Well }
    }

    /// Whether the reader has fallen behind and not caught up.
    pub(crate) fn is_slow(&self) -> bool {
        locked(&self.state).slow
    }

    pub(crate) fn progress(&self, progress: Progress) {
        let mut state = locked(&self.state);
        if state.ended {
            return;
        }
        match state.items.back_mut() {
            Some(Ok(Item::Delta(Delta::Progress(waiting)))) => *waiting = progress,
            _ => state.items.push_back(Ok(Item::Delta(Delta::Progress(progress)))),
        }
        wake(state);
    }

    /// Says where the answer begins.
    pub(crate) fn opened(&self, in_thought: bool) {
        let mut state = locked(&self.state);
        if !state.ended {
            state.items.push_back(Ok(Item::Opened { in_thought }));
            wake(state);
        }
    }

    /// Says what calls aren't kept to.
    pub(crate) fn loose(&self, tool: Option<String>, reason: String) {
        let mut state = locked(&self.state);
        if !state.ended {
            state.items.push_back(Ok(Item::Loose { tool, reason }));
            wake(state);
        }
    }

    /// The last items; what comes after them is not taken.
    pub(crate) fn finish(&self, items: Vec<Item>) {
        end(locked(&self.state), items.into_iter().map(Ok).collect());
    }

    pub(crate) fn fail(&self, fault: Fault) {
        end(locked(&self.state), vec![Err(fault)]);
    }
}

/// The engine's hold on an ask: when it is let go without an end, wherever that happens, the reader
/// hears of it instead of waiting for ever.
#[derive(Debug)]
pub(crate) struct Promise(pub(crate) Arc<Sink>);

impl Drop for Promise {
    fn drop(&mut self) {
        self.0.fail(stopped());
    }
}

pub(crate) fn stopped() -> Fault {
    Fault::new(Code::Cancelled, "the engine has stopped").hint("ask again: any command starts it anew")
}

fn end(mut state: std::sync::MutexGuard<'_, State>, items: Vec<Result<Item, Fault>>) {
    if !state.ended {
        state.items.extend(items);
        state.ended = true;
        wake(state);
    }
}

fn wake(mut state: std::sync::MutexGuard<'_, State>) {
    let waker = state.waker.take();
    // The woken side wants the lock at once.
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The end that is read. Dropping it before the end tells the engine.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) id: AskId,
    sink: Arc<Sink>,
    door: Arc<Door>,
}

impl Reader {
    pub(crate) fn new(id: AskId, sink: Arc<Sink>, door: Arc<Door>) -> Self {
        Self { id, sink, door }
    }

    pub(crate) async fn next(&mut self) -> Option<Result<Item, Fault>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&self, context: &Context<'_>) -> Poll<Option<Result<Item, Fault>>> {
        let mut state = locked(&self.sink.state);
        if let Some(item) = state.items.pop_front() {
            if let Ok(Item::Delta(Delta::Text(text))) = &item {
                state.unread_bytes -= text.len();
                if state.unread_bytes == 0 && std::mem::take(&mut state.slow) {
                    drop(state);
                    self.door.note_pace(self.id);
                }
            }
            return Poll::Ready(Some(item));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = locked(&self.sink.state);
        let ended = std::mem::replace(&mut state.ended, true);
        state.items.clear();
        drop(state);
        if !ended {
            self.door.drop_ask(self.id);
        }
    }
}

/// Runs a future on this thread, which sleeps in between.
pub(crate) fn wait_for<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader() -> (Arc<Sink>, Reader) {
        let sink = Arc::new(Sink::default());
        let (door, _inbox) = Door::new();
        let reader = Reader::new(AskId(1), Arc::clone(&sink), door);
        (sink, reader)
    }

    #[test]
    fn text_that_waits_is_joined_and_progress_replaced() {
        let (sink, reader) = reader();
        let mut answer = Answer::new(reader, None);
        for done in [1, 2, 3] {
            sink.progress(Progress::Prefill { done, total: 3 });
        }
        for text in ["a", "b", "c"] {
            assert_eq!(sink.text(text.into()), Pace::Well);
        }
        sink.finish(vec![Item::Delta(Delta::Done(base::Finish::EndOfTurn))]);
        assert_eq!(sink.text("late".into()), Pace::Well, "after the end nothing counts");
        assert_eq!(answer.blocking_next(), Some(Ok(Delta::Progress(Progress::Prefill { done: 3, total: 3 }))));
        assert_eq!(answer.blocking_next(), Some(Ok(Delta::Text("abc".into()))));
        assert_eq!(answer.blocking_next(), Some(Ok(Delta::Done(base::Finish::EndOfTurn))));
        assert_eq!(answer.blocking_next(), None);
    }

    #[test]
    fn a_reader_who_leaves_too_much_lying_loses_the_ask() {
        let (sink, reader) = reader();
        let mut answer = Answer::new(reader, None);
        let chunk = "x".repeat(1 << 16);
        let written = (0..100).take_while(|_| sink.text(chunk.clone()) != Pace::Lost).count();
        assert_eq!(written, UNREAD_BYTES_MAX >> 16);
        assert!(matches!(answer.blocking_next(), Some(Ok(Delta::Text(text))) if text.len() == UNREAD_BYTES_MAX));
        let fault = answer.blocking_next().expect("a fault").expect_err("it overflowed");
        assert_eq!(fault.code, Code::Busy);
        assert_eq!(answer.blocking_next(), None);
    }

    #[test]
    fn a_reader_that_falls_behind_is_told_of_once_and_again_when_it_has_caught_up() {
        let (sink, reader) = reader();
        let door = Arc::clone(&reader.door);
        let mut answer = Answer::new(reader, None);
        let chunk = "x".repeat(SLOW_BYTES);
        for _ in 0..50 {
            assert_eq!(sink.text(chunk.clone()), Pace::Well);
            assert_eq!(sink.text("y".into()), Pace::Slow);
            assert_eq!(sink.text("z".into()), Pace::Well, "it was told");
            assert!(door.take_paces().is_empty() && sink.is_slow());
            assert!(answer.blocking_next().is_some());
            assert_eq!((door.take_paces(), sink.is_slow()), (vec![AskId(1)], false));
        }
    }

    #[test]
    fn a_reader_that_keeps_up_is_never_slow() {
        let (sink, reader) = reader();
        let mut answer = Answer::new(reader, None);
        let chunk = "x".repeat(SLOW_BYTES);
        for _ in 0..100 {
            assert_eq!(sink.text(chunk.clone()), Pace::Well);
            assert!(answer.blocking_next().is_some());
        }
    }
}
