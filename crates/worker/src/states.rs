//! Writes states to descriptors that the daemon passes, and reads them back, in threads of their own: no running answer
//! waits for a disk, and who waits for a state doesn't wait for another one's writing.
//!
//! Whatever was damaged or torn is found while it is read and never used: every piece has its checksum, and the tokens
//! are compared with the prompt before anything else.

use crate::aside::Aside;
use crate::ffi::{Mapping, Sheet, Token};
use crate::link::{Event, micros};
use crate::park::State;
use batch::prefix::pays;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use wire::{JobId, Verdict};

/// LIMIT: errands that wait.
const WAITING_MAX: usize = 64;
const THREAD_BYTES: usize = 1 << 20;
/// The first bytes; the digit is the layout's version.
const MAGIC: [u8; 8] = *b"FHSTATE3";
/// Bytes of the mark, the number of tokens and the number of the state's bytes.
const NUMBERS: usize = 8 + 4 + 8;
const SUM: usize = 4;
/// The last bytes: without them the rest is missing.
const END: [u8; 4] = *b"DONE";
/// A checksum stands behind each piece of so many bytes.
const PIECE_BYTES: usize = 1 << 20;
/// So long the writing rests after each piece while jobs run: its checksums and copies would take a twentieth of a
/// prompt's time from a core that computes.
const REST: Duration = Duration::from_millis(500);

/// What the thread is to do.
#[derive(Debug)]
pub(crate) enum Errand {
    Write {
        state: u64,
        file: OwnedFd,
        tokens: Vec<Token>,
        bytes: State,
    },
    /// The state itself stands in its file already.
    Finish {
        state: u64,
        draft: Draft,
    },
    Read {
        job: JobId,
        file: OwnedFd,
        /// What the prompt can use of a state: all of it but its last token.
        usable: Vec<Token>,
        least: u32,
        exact: bool,
    },
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    Written { state: u64, bytes: u64, took_us: u64 },
    Read { job: JobId, found: Found, bytes: u64, took_us: u64 },
}

/// What a file holds.
#[derive(Debug)]
pub(crate) enum Found {
    /// Tokens and checksums are right.
    Sound {
        tokens: Vec<Token>,
        state: State,
    },
    Unfit,
    Damaged,
}

impl Found {
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Sound { .. } => Verdict::Sound,
            Self::Unfit => Verdict::Unfit,
            Self::Damaged => Verdict::Damaged,
        }
    }

    fn bytes(&self) -> u64 {
        if let Self::Sound { state, .. } = self { state.len() as u64 } else { 0 }
    }
}

/// The threads.
#[derive(Debug)]
pub(crate) struct States {
    results: SyncSender<Event>,
    reader: Lane,
    writer: Lane,
    told: Arc<Told>,
    aside: Aside,
}

/// A thread, which starts with the first errand.
#[derive(Debug, Default)]
struct Lane {
    queue: Option<SyncSender<(u64, Errand)>>,
}

/// What the writing goes by.
#[derive(Debug, Default)]
struct Told {
    /// Jobs run.
    busy: AtomicBool,
    /// How often it was told to stop: what was begun before is given up.
    stops: AtomicU64,
}

impl States {
    pub(crate) fn new(results: SyncSender<Event>, aside: Aside) -> Self {
        Self { results, reader: Lane::default(), writer: Lane::default(), told: Arc::default(), aside }
    }

    /// While jobs run, what is written takes its time.
    pub(crate) fn tell(&self, busy: bool) {
        self.told.busy.store(busy, Relaxed);
    }

    /// Gives up what is being written, and what waits for it: it may be of somebody who wants it forgotten.
    pub(crate) fn stop_writing(&self) {
        self.told.stops.fetch_add(1, Relaxed);
    }

    /// `false`: too many wait, or the system gives no thread. Then nothing follows.
    pub(crate) fn take(&mut self, errand: Errand) -> bool {
        let stops = self.told.stops.load(Relaxed);
        let (lane, name) = match errand {
            Errand::Read { .. } => (&mut self.reader, "states in"),
            Errand::Write { .. } | Errand::Finish { .. } => (&mut self.writer, "states out"),
        };
        if lane.queue.is_none() {
            let (queue, errands) = sync_channel(WAITING_MAX);
            let (results, told, aside) = (self.results.clone(), Arc::clone(&self.told), self.aside.clone());
            let thread = std::thread::Builder::new().name(name.into()).stack_size(THREAD_BYTES);
            if thread.spawn(move || work(&errands, &results, &told, &aside)).is_err() {
                return false;
            }
            lane.queue = Some(queue);
        }
        let sent = lane.queue.as_ref().map(|queue| queue.try_send((stops, errand)));
        !matches!(sent, None | Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))))
    }
}

fn work(errands: &Receiver<(u64, Errand)>, results: &SyncSender<Event>, told: &Told, aside: &Aside) {
    for (stops, errand) in errands {
        let start = Instant::now();
        let took = || micros(start.elapsed());
        let goes_on = || {
            if told.busy.load(Relaxed) {
                std::thread::sleep(REST);
            }
            told.stops.load(Relaxed) == stops
        };
        let outcome = match errand {
            Errand::Write { state, file, tokens, bytes } => {
                let written = write(&mut BufWriter::new(File::from(file)), &tokens, &bytes, goes_on).unwrap_or(0);
                Outcome::Written { state, bytes: written, took_us: took() }
            }
            Errand::Finish { state, draft } => {
                let written = draft.finish(goes_on).unwrap_or(0);
                Outcome::Written { state, bytes: written, took_us: took() }
            }
            Errand::Read { job, file, usable, least, exact } => {
                let fits = |tokens: &[Token]| fits(tokens, &usable, least, exact);
                let found = aside.count(|| read(File::from(file), fits));
                let bytes = found.bytes();
                Outcome::Read { job, found, bytes, took_us: took() }
            }
        };
        // Nobody listens any more when the work is over.
        if results.send(Event::State(outcome)).is_err() {
            return;
        }
    }
}

/// Whether a state of these tokens holds more than `least` of what can be used.
fn fits(tokens: &[Token], usable: &[Token], least: u32, exact: bool) -> bool {
    let common = tokens.iter().zip(usable).take_while(|(a, b)| a == b).count();
    let whole = common == tokens.len();
    let length = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    u32::try_from(common).is_ok_and(|common| common > least && pays(common, length)) && (whole || !exact)
}

/// Where what stands in a file: head (mark, numbers of tokens and of bytes, tokens, their checksum), state, checksums of the
/// state's pieces, the checksum of all checksums, end. The state is in one piece, so that it can be used where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    state: Range<usize>,
    all: usize,
}

impl Layout {
    /// `None`: no file is so long.
    fn of(tokens: usize, bytes: usize) -> Option<Self> {
        let from = tokens.checked_mul(4)?.checked_add(NUMBERS + SUM)?;
        let to = from.checked_add(bytes)?;
        let sums = bytes.div_ceil(PIECE_BYTES).checked_add(1)?.checked_mul(SUM)?;
        Some(Self { state: from..to, all: to.checked_add(sums)?.checked_add(END.len())? })
    }
}

fn head(tokens: &[Token], bytes: usize) -> io::Result<Vec<u8>> {
    let mut head = MAGIC.to_vec();
    head.extend(u32::try_from(tokens.len()).map_err(|_| bad("too many tokens"))?.to_le_bytes());
    head.extend((bytes as u64).to_le_bytes());
    head.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
    let sum = checksum(&head);
    head.extend(sum);
    Ok(head)
}

/// What stands behind the state. Before each piece it asks whether it `goes_on`.
fn tail(head: &[u8], state: &[u8], goes_on: impl Fn() -> bool) -> io::Result<Vec<u8>> {
    let mut sums = head[head.len() - SUM..].to_vec();
    for piece in state.chunks(PIECE_BYTES) {
        if !goes_on() {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        sums.extend(checksum(piece));
    }
    let all = checksum(&sums);
    Ok([&sums[SUM..], &all, &END].concat())
}

/// A file whose state is being filled in where it stands.
#[derive(Debug)]
pub(crate) struct Draft {
    head: Vec<u8>,
    layout: Layout,
    sheet: Sheet,
}

impl Draft {
    /// `file` is empty, has room on the disk and may be read and written.
    pub(crate) fn begin(file: OwnedFd, tokens: &[Token], bytes: usize) -> io::Result<Self> {
        let (mut file, head) = (File::from(file), head(tokens, bytes)?);
        let layout = Layout::of(tokens.len(), bytes).ok_or_else(|| bad("too large"))?;
        file.write_all(&head)?;
        // Its length; what lies between is zeros as yet, and no checksum of it is right.
        file.seek(SeekFrom::Start((layout.all - END.len()) as u64))?;
        file.write_all(&END)?;
        // Without room on the disk to look at a page would end the process.
        let blocks = u64::try_from(rustix::fs::fstat(&file)?.st_blocks).unwrap_or(0);
        if blocks.saturating_mul(512) < layout.all as u64 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        let sheet = Sheet::of(&file, layout.all)?;
        Ok(Self { head, layout, sheet })
    }

    /// The place of the state.
    pub(crate) fn state(&mut self) -> &mut [u8] {
        &mut self.sheet[self.layout.state.clone()]
    }

    /// The file's length.
    fn finish(mut self, goes_on: impl Fn() -> bool) -> io::Result<u64> {
        let Layout { state, all } = self.layout;
        let tail = tail(&self.head, &self.sheet[state.clone()], goes_on)?;
        self.sheet[state.end..all].copy_from_slice(&tail);
        Ok(all as u64)
    }
}

/// The bytes that were written. Before each piece it asks whether it `goes_on`.
fn write(file: &mut impl Write, tokens: &[Token], state: &[u8], goes_on: impl Fn() -> bool) -> io::Result<u64> {
    let head = head(tokens, state.len())?;
    file.write_all(&head)?;
    let mut sums = Vec::new();
    for piece in state.chunks(PIECE_BYTES) {
        if !goes_on() {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        file.write_all(piece)?;
        sums.extend(checksum(piece));
    }
    let all = checksum(&[&head[head.len() - SUM..], &sums].concat());
    let tail = [&sums[..], &all, &END].concat();
    file.write_all(&tail)?;
    file.flush()?;
    Ok((head.len() + state.len() + tail.len()) as u64)
}

/// Looks at a file from its beginning to its end, where it lies in the system's cache.
fn read(file: File, fits: impl Fn(&[Token]) -> bool) -> Found {
    match sound(file, fits) {
        Ok(Some((tokens, state))) => Found::Sound { tokens, state },
        Ok(None) => Found::Unfit,
        Err(_) => Found::Damaged,
    }
}

/// `None`: it doesn't fit.
fn sound(mut file: File, fits: impl Fn(&[Token]) -> bool) -> io::Result<Option<(Vec<Token>, State)>> {
    let length = file.seek(SeekFrom::End(0))?;
    let mapping = Mapping::of(&file, usize::try_from(length).map_err(|_| bad("too large"))?)?;
    let bytes = &mapping[..];
    mapping.load(0..bytes.len().min(PIECE_BYTES))?;
    let numbers = bytes.get(..NUMBERS).ok_or_else(|| bad("too short"))?;
    let number = |part: &[u8]| part.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let [count, size] = [&numbers[8..12], &numbers[12..]].map(|part| usize::try_from(number(part)).ok());
    let layout = count.zip(size).and_then(|(count, size)| Layout::of(count, size));
    let layout = layout.filter(|layout| numbers[..8] == MAGIC && layout.all == bytes.len());
    let Layout { state, .. } = layout.ok_or_else(|| bad("no state of ours"))?;
    mapping.load(0..state.start)?;
    let (head, sum) = bytes[..state.start].split_at(state.start - SUM);
    if sum != checksum(head) {
        return Err(bad("damaged"));
    }
    let tokens: Vec<Token> =
        head[NUMBERS..].as_chunks::<4>().0.iter().map(|four| Token::from_le_bytes(*four)).collect();
    if !fits(&tokens) {
        return Ok(None);
    }
    let mut sums = sum.to_vec();
    for from in state.clone().step_by(PIECE_BYTES) {
        let piece = from..state.end.min(from + PIECE_BYTES);
        mapping.load(piece.clone())?;
        sums.extend(checksum(&bytes[piece]));
    }
    mapping.load(state.end..bytes.len())?;
    if bytes[state.end..] != [&sums[SUM..], &checksum(&sums), &END].concat() {
        return Err(bad("damaged"));
    }
    Ok(Some((tokens, State::File(Arc::new(mapping), state))))
}

fn bad(words: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words.to_owned())
}

fn checksum(bytes: &[u8]) -> [u8; SUM] {
    crc32fast::hash(bytes).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tokens: &[Token], state: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert_eq!(write(&mut bytes, tokens, state, || true).unwrap(), bytes.len() as u64);
        bytes
    }

    fn read(bytes: &[u8], fits: impl Fn(&[Token]) -> bool) -> Found {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        super::read(file, fits)
    }

    fn state() -> Vec<u8> {
        (0..PIECE_BYTES * 2 + 77).map(|at| (at * 31 / 7) as u8).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let tokens: Vec<Token> = (0..5000).collect();
        for state in [state(), state()[..PIECE_BYTES].to_vec(), vec![1]] {
            let bytes = file(&tokens, &state);
            let Found::Sound { tokens: found, state: read_state } = read(&bytes, |_| true) else {
                panic!("it is sound")
            };
            assert_eq!((&found, &read_state[..]), (&tokens, &state[..]));
            assert_eq!(read(&bytes, |read| read != tokens).verdict(), Verdict::Unfit, "of another prompt");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_written_where_it_stands_is_the_same_file() {
        let (tokens, state) = (vec![3, 2, 1], state());
        let path = tempfile::NamedTempFile::new().unwrap();
        let with_room = |file: File| {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 4 << 20).unwrap();
            OwnedFd::from(file)
        };
        assert!(Draft::begin(tempfile::tempfile().unwrap().into(), &tokens, state.len()).is_err(), "no room was taken");
        let mut draft = Draft::begin(with_room(path.reopen().unwrap()), &tokens, state.len()).unwrap();
        let unfinished = std::fs::read(path.path()).unwrap();
        assert_eq!(read(&unfinished, |_| true).verdict(), Verdict::Damaged);
        draft.state().copy_from_slice(&state);
        let bytes = draft.finish(|| true).unwrap();
        let expected = file(&tokens, &state);
        assert!(bytes == expected.len() as u64 && std::fs::read(path.path()).unwrap() == expected);
        let stopped = Draft::begin(with_room(tempfile::tempfile().unwrap()), &tokens, state.len()).unwrap();
        assert!(stopped.finish(|| false).is_err());
    }

    #[test]
    fn what_is_told_to_stop_is_never_taken_for_whole() {
        let asked = std::cell::Cell::new(0);
        let goes_on = || asked.replace(asked.get() + 1) < 1;
        let mut bytes = Vec::new();
        assert!(write(&mut bytes, &[1, 2, 3], &state(), goes_on).is_err());
        assert!(bytes.len() > PIECE_BYTES);
        assert_eq!(read(&bytes, |_| true).verdict(), Verdict::Damaged);
    }

    #[test]
    fn a_change_of_any_bit_and_a_cut_anywhere_are_seen() {
        let bytes = file(&(0..20).collect::<Vec<_>>(), &state()[..3000]);
        let verdict = |bytes: &[u8]| read(bytes, |_| true).verdict();
        assert_eq!(verdict(&bytes), Verdict::Sound);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert_eq!(verdict(&changed), Verdict::Damaged, "bit {} of byte {at}", at % 8);
            assert_eq!(verdict(&bytes[..at]), Verdict::Damaged, "cut at {at}");
        }
        assert_eq!(verdict(&[&bytes[..], &[0]].concat()), Verdict::Damaged, "something follows");
    }

    /// A head that says whatever it likes takes no memory and no place outside the file.
    #[test]
    fn absurd_numbers_are_damage() {
        for (count, size) in [(u32::MAX, 0), (0, u64::MAX), (u32::MAX, u64::MAX), (1, 1 << 62)] {
            let bytes = [&MAGIC[..], &count.to_le_bytes(), &size.to_le_bytes(), &[0; 64]].concat();
            assert_eq!(read(&bytes, |_| true).verdict(), Verdict::Damaged, "{count} {size}");
        }
    }

    #[test]
    fn only_what_helps_the_prompt_is_taken() {
        let usable = [1, 2, 3, 4];
        for (tokens, least, exact, expected) in [
            (&[1, 2, 3][..], 2, true, true),
            (&[1, 2, 3], 3, true, false),
            (&[1, 2, 3, 9], 2, true, false),
            (&[1, 2, 3, 9], 2, false, true),
            (&[1, 2, 3, 4, 5], 2, true, false),
            (&[9], 0, false, false),
            (&[[1].as_slice(), &[9; 200]].concat(), 0, false, false),
            (&[], 0, false, false),
        ] {
            assert_eq!(fits(tokens, &usable, least, exact), expected, "{tokens:?} {least} {exact}");
        }
    }
}
