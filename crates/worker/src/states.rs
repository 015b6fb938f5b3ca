//! Writes states to descriptors that the daemon passes, and reads them back, in threads of their own: no running answer
//! waits for a disk, and who waits for a state doesn't wait for another one's writing.
//!
//! Whatever was damaged or torn is found while it is read and never used: every piece has its checksum, and the tokens
//! are compared with the prompt before anything else.

use crate::aside::Aside;
use crate::ffi::Token;
use crate::link::{Event, micros};
use batch::prefix::pays;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};
use wire::JobId;

/// LIMIT: errands that wait.
const WAITING_MAX: usize = 64;
const THREAD_BYTES: usize = 1 << 20;
/// The first bytes; the digit is the layout's version.
const MAGIC: [u8; 8] = *b"FHSTATE2";
/// The last bytes: without them the rest is missing.
const END: [u8; 4] = *b"DONE";
/// A checksum stands behind each piece of so many bytes.
const PIECE_BYTES: usize = 1 << 20;
/// So long the writing rests after each piece while jobs run: its checksums and copies would take a twentieth of a
/// prompt's time from a core that computes.
const REST: Duration = Duration::from_millis(500);
/// LIMIT: tokens of one state; no window is larger.
const TOKENS_MAX: u32 = 1 << 24;

/// What the thread is to do.
#[derive(Debug)]
pub(crate) enum Errand {
    Write {
        state: u64,
        file: OwnedFd,
        tokens: Vec<Token>,
        bytes: Arc<Vec<u8>>,
    },
    Read {
        job: JobId,
        file: OwnedFd,
        /// What the prompt can use of a state: all of it but its last token.
        usable: Vec<Token>,
        least: u32,
        exact: bool,
        bytes_max: u64,
    },
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    Written { state: u64, bytes: u64, took_us: u64 },
    Read { job: JobId, found: Option<Found>, bytes: u64, took_us: u64 },
}

/// A state whose tokens and checksums are right.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) tokens: Vec<Token>,
    pub(crate) state: Vec<u8>,
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
            Errand::Write { .. } => (&mut self.writer, "states out"),
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
        let outcome = match errand {
            Errand::Write { state, file, tokens, bytes } => {
                let goes_on = || {
                    if told.busy.load(Relaxed) {
                        std::thread::sleep(REST);
                    }
                    told.stops.load(Relaxed) == stops
                };
                let written = write(&mut BufWriter::new(File::from(file)), &tokens, &bytes, goes_on).unwrap_or(0);
                Outcome::Written { state, bytes: written, took_us: took() }
            }
            Errand::Read { job, file, usable, least, exact, bytes_max } => {
                let mut file = BufReader::with_capacity(PIECE_BYTES, File::from(file));
                let fits = |tokens: &[Token]| fits(tokens, &usable, least, exact);
                let found = aside.count(|| read(&mut file, fits, bytes_max).ok());
                let bytes = found.as_ref().map_or(0, |found| found.state.len());
                Outcome::Read { job, found, bytes: u64::try_from(bytes).unwrap_or(u64::MAX), took_us: took() }
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

/// The bytes that were written. Before each piece it asks whether it `goes_on`.
fn write(file: &mut impl Write, tokens: &[Token], state: &[u8], goes_on: impl Fn() -> bool) -> io::Result<u64> {
    let too_many = |_| io::Error::other("too many tokens");
    let mut head = MAGIC.to_vec();
    head.extend(u32::try_from(tokens.len()).map_err(too_many)?.to_le_bytes());
    head.extend((state.len() as u64).to_le_bytes());
    head.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
    let mut all = 0;
    let mut put = |bytes: &[u8]| {
        all += bytes.len() as u64;
        file.write_all(bytes)
    };
    let sum = checksum(&head);
    put(&head)?;
    put(&sum)?;
    let mut sums = sum.to_vec();
    for piece in state.chunks(PIECE_BYTES) {
        if !goes_on() {
            return Err(io::Error::from(io::ErrorKind::Interrupted));
        }
        let sum = checksum(piece);
        put(piece)?;
        put(&sum)?;
        sums.extend(sum);
    }
    put(&checksum(&sums))?;
    put(&END)?;
    file.flush()?;
    Ok(all)
}

fn read(file: &mut impl Read, fits: impl Fn(&[Token]) -> bool, bytes_max: u64) -> io::Result<Found> {
    let bad = |words: &str| io::Error::new(io::ErrorKind::InvalidData, words.to_owned());
    let mut head = vec![0; MAGIC.len() + 12];
    file.read_exact(&mut head)?;
    let number = |at: usize, length: usize| {
        head[at..at + length].iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte))
    };
    let (count, bytes) = (number(8, 4), number(12, 8));
    if head[..8] != MAGIC || count > u64::from(TOKENS_MAX) || bytes > bytes_max {
        return Err(bad("no state of ours, or too large"));
    }
    let at = head.len();
    head.resize(at + usize::try_from(count).map_err(|_| bad("too large"))? * 4, 0);
    file.read_exact(&mut head[at..])?;
    let mut sums = expect_sum(file, &head)?.to_vec();
    let tokens: Vec<Token> = head[at..].as_chunks::<4>().0.iter().map(|four| Token::from_le_bytes(*four)).collect();
    if !fits(&tokens) {
        return Err(bad("of another prompt"));
    }
    let mut state = vec![0; usize::try_from(bytes).map_err(|_| bad("too large"))?];
    for piece in state.chunks_mut(PIECE_BYTES) {
        file.read_exact(piece)?;
        sums.extend(expect_sum(file, piece)?);
    }
    expect_sum(file, &sums)?;
    let mut end = [0; END.len()];
    file.read_exact(&mut end)?;
    if end != END || file.read(&mut [0])? != 0 {
        return Err(bad("another end"));
    }
    Ok(Found { tokens, state })
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    crc32fast::hash(bytes).to_le_bytes()
}

fn expect_sum(file: &mut impl Read, bytes: &[u8]) -> io::Result<[u8; 4]> {
    let mut sum = [0; 4];
    file.read_exact(&mut sum)?;
    if sum == checksum(bytes) { Ok(sum) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "damaged")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tokens: &[Token], state: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert_eq!(write(&mut bytes, tokens, state, || true).unwrap(), bytes.len() as u64);
        bytes
    }

    fn state() -> Vec<u8> {
        (0..PIECE_BYTES * 2 + 77).map(|at| (at * 31 / 7) as u8).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let tokens: Vec<Token> = (0..5000).collect();
        let bytes = file(&tokens, &state());
        let found = read(&mut &bytes[..], |_| true, u64::MAX).unwrap();
        assert_eq!((found.tokens, found.state), (tokens.clone(), state()));
        assert!(read(&mut &bytes[..], |read| read != tokens, u64::MAX).is_err(), "of another prompt");
        assert!(read(&mut &bytes[..], |_| true, 1000).is_err(), "larger than there is room for");
    }

    #[test]
    fn what_is_told_to_stop_is_never_taken_for_whole() {
        let asked = std::cell::Cell::new(0);
        let goes_on = || asked.replace(asked.get() + 1) < 1;
        let mut bytes = Vec::new();
        assert!(write(&mut bytes, &[1, 2, 3], &state(), goes_on).is_err());
        assert!(bytes.len() > PIECE_BYTES && read(&mut &bytes[..], |_| true, u64::MAX).is_err());
    }

    #[test]
    fn a_change_of_any_bit_and_a_cut_anywhere_are_seen() {
        let bytes = file(&(0..20).collect::<Vec<_>>(), &state()[..3000]);
        let is_read = |bytes: &[u8]| read(&mut &bytes[..], |_| true, u64::MAX).is_ok();
        assert!(is_read(&bytes));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            assert!(!is_read(&changed), "bit {} of byte {at}", at % 8);
            assert!(!is_read(&bytes[..at]), "cut at {at}");
        }
        assert!(!is_read(&[&bytes[..], &[0]].concat()), "something follows");
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
