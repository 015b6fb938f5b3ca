//! How much memory llama.cpp takes, as it says itself: its C interface answers no such question, but every
//! buffer is told in the log when it is made.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of buffers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Buffers {
    /// Weights that are used in the file's own pages.
    pub(crate) mapped: u64,
    /// Weights that were copied, and whose pages in the file nobody needs.
    pub(crate) copied: u64,
    pub(crate) cache: u64,
    /// Intermediate results, and rows of scores.
    pub(crate) compute: u64,
}

#[derive(Debug, Default)]
struct Book {
    /// The model's files.
    files: u64,
    /// From the first such weight to the last, whatever lies between them.
    mapped: u64,
    copied: u64,
    cache: u64,
    /// By device: a later line replaces an earlier one, because the buffer was made anew.
    compute: BTreeMap<String, u64>,
}

static BOOK: Mutex<Option<Book>> = Mutex::new(None);

fn book() -> MutexGuard<'static, Option<Book>> {
    BOOK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to count what a model takes, whose files have so many bytes: what isn't copied of them is used there. Those before
/// are counted no more.
pub(super) fn begin_model(bytes: u64) {
    *book() = Some(Book { files: bytes, ..Book::default() });
}

/// Whether any weight of the model isn't used where it lies in the file; known once its loading has begun.
pub(crate) fn copies_weights() -> bool {
    book().as_ref().is_some_and(|book| book.copied > 0)
}

/// Begins to count what a context takes: called before one is made.
pub(super) fn begin_context() {
    let mut held = book();
    let book = held.get_or_insert_with(Book::default);
    book.cache = 0;
    book.compute.clear();
}

/// What the model and the context that was made last take.
pub(super) fn buffers() -> Buffers {
    let held = book();
    let Some(Book { files, mapped, copied, cache, compute }) = &*held else { return Buffers::default() };
    let mapped = used_in_files(*files, *mapped, *copied);
    Buffers { mapped, copied: *copied, cache: *cache, compute: compute.values().sum() }
}

/// Of the stretches that are mapped, what isn't copied: between the first and the last weight that is used in its file there
/// may lie any number that aren't. `files`: 0 where their size isn't known.
fn used_in_files(files: u64, mapped: u64, copied: u64) -> u64 {
    if files == 0 { mapped } else { files.saturating_sub(copied).min(mapped) }
}

/// Takes note of a line of the log.
pub(super) fn note(line: &str) {
    let Some((what, bytes)) = parse(line) else { return };
    let mut held = book();
    let book = held.get_or_insert_with(Book::default);
    match what {
        What::Weights { mapped: true } => book.mapped += bytes,
        What::Weights { mapped: false } => book.copied += bytes,
        What::Cache => book.cache += bytes,
        What::Compute(name) => {
            book.compute.insert(name, bytes);
        }
    }
}

#[derive(Debug, PartialEq)]
enum What {
    Weights { mapped: bool },
    Cache,
    Compute(String),
}

/// `llama_kv_cache:        CPU KV buffer size =   180.00 MiB`
fn parse(line: &str) -> Option<(What, u64)> {
    let (left, right) = line.split_once(" buffer size = ")?;
    let mib: f64 = right.trim().strip_suffix("MiB")?.trim().parse().ok()?;
    let (_, what) = left.split_once(": ")?;
    let (device, kind) = what.trim().split_once(char::is_whitespace)?;
    let what = match kind.trim() {
        "model" => What::Weights { mapped: device.ends_with("_Mapped") },
        // Recurrent layers keep a state (`RS`) in place of keys and values.
        kind if ["KV", "RS"].contains(&kind) || kind.ends_with("state") => What::Cache,
        kind @ ("compute" | "output") => What::Compute(format!("{device} {kind}")),
        _ => return None,
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a float saturates")]
    let bytes = (mib * f64::from(1 << 20)) as u64;
    Some((what, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_counted_once() {
        assert_eq!(used_in_files(100, 95, 60), 40, "the vocabulary first, the output last, and the rest copied");
        assert_eq!(used_in_files(100, 30, 60), 30, "what is used lies together");
        assert_eq!(used_in_files(100, 95, 0), 95, "nothing is copied");
        assert_eq!((used_in_files(100, 95, 110), used_in_files(0, 95, 60)), (0, 95));
    }

    #[test]
    fn lines_about_buffers_are_understood_and_others_passed_over() {
        let mib = |n: u64| n << 20;
        for (line, expected) in [
            (
                "load_tensors:   CPU_Mapped model buffer size =    93.00 MiB\n",
                Some((What::Weights { mapped: true }, mib(93))),
            ),
            (
                "load_tensors:   CPU_REPACK model buffer size =    64.00 MiB",
                Some((What::Weights { mapped: false }, mib(64))),
            ),
            ("llama_kv_cache:        CPU KV buffer size =   180.00 MiB", Some((What::Cache, mib(180)))),
            ("llama_memory_recurrent:        CPU RS buffer size =     5.00 MiB", Some((What::Cache, mib(5)))),
            (
                "sched_reserve:        CPU compute buffer size =    98.50 MiB",
                Some((What::Compute("CPU compute".into()), mib(197) / 2)),
            ),
            (
                "llama_context:        CPU  output buffer size =     0.75 MiB",
                Some((What::Compute("CPU output".into()), mib(3) / 4)),
            ),
            ("llama_context: n_ctx = 4096", None),
            ("x buffer size = many MiB", None),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }
}
