//! States on disk: written to a descriptor by one worker, read by the next, and used only when every byte is right.

use crate::harness::{Answer, Worker, begin, begin_of, load, long_prompt, model};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use wire::{Begin, Chain, Directive, JobId, Load, Report, Reuse, Verdict, WireFinish, WireShape};

fn roomy() -> Worker {
    Worker::with(&Load { context_tokens: 1024, ..load() }, &model()).0
}

/// A text that goes on in only one way, behind a document.
fn prompt() -> String {
    format!("Document: {}. Count: ", long_prompt(250)) + &(1..40).map(|n| format!("{n}, ")).collect::<String>()
}

/// What the worker offers once it is quiet.
fn offered(worker: &mut Worker) -> (u64, Chain, u64) {
    worker.find(|report| match report {
        Report::Offer { state, chain, bytes, .. } => Some((*state, (**chain).clone(), *bytes)),
        _ => None,
    })
}

fn written(worker: &mut Worker, path: &Path, state: u64) -> u64 {
    let file = File::options().read(true).write(true).create_new(true).open(path).unwrap();
    // As the daemon does it.
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, 64 << 20).unwrap();
    worker.send_file(&Directive::Store { state }, &file);
    worker.find(|report| match report {
        Report::Stored { state: of, bytes, .. } if *of == state => Some(*bytes),
        _ => None,
    })
}

/// A worker that answers, stores what it has worked through, and is killed.
fn store(folder: &Path) -> (PathBuf, Answer) {
    let mut worker = roomy();
    let answer = worker.generate(begin_of(7, 1, &prompt(), 30)).unwrap();
    let (state, chain, bytes) = offered(&mut worker);
    assert_eq!((chain.scope, chain.exact), (7, false));
    let all = answer.spent.prompt_tokens + answer.spent.completion_tokens;
    assert!(chain.tokens.len() as u32 <= all && chain.tokens.len() as u32 >= answer.spent.prompt_tokens);
    let path = folder.join("state");
    let length = written(&mut worker, &path, state);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    assert!(length > bytes, "{length} bytes for a state of {bytes}");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(i32::try_from(worker.pid()).unwrap()).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    (path, answer)
}

#[test]
fn a_worker_that_is_told_to_end_first_offers_what_is_not_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut worker = roomy();
    let answer = worker.generate(begin_of(7, 1, &prompt(), 5)).unwrap();
    // Before it has been quiet for a moment, which is when it would offer by itself.
    worker.send(&Directive::Shutdown);
    let (state, chain, _) = offered(&mut worker);
    assert!(chain.tokens.len() as u32 >= answer.spent.prompt_tokens);
    let path = folder.path().join("state");
    let length = written(&mut worker, &path, state);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    assert_eq!(worker.end(), Some(0));
    let (_, verdict, _) = ask_with(&mut roomy(), 1, 3, Some(&path));
    assert_eq!(verdict, Some(Verdict::Sound));
}

fn seeks(worker: &mut Worker, id: JobId) -> u32 {
    worker.find(|report| match report {
        Report::Seek { job, least, .. } if *job == id => Some(*least),
        _ => None,
    })
}

/// Asks the same again, with this file for what the worker seeks.
fn ask_with(worker: &mut Worker, id: JobId, scope: u64, path: Option<&Path>) -> (Answer, Option<Verdict>, Reuse) {
    worker.begin(Begin { stored: true, ..begin_of(scope, id, &prompt(), 30) });
    assert_eq!(seeks(worker, id), 0);
    let verdict = match path {
        None => {
            worker.send(&Directive::Found { job: id });
            None
        }
        Some(path) => {
            worker.send_file(&Directive::Found { job: id }, &File::open(path).unwrap());
            Some(worker.find(|report| match report {
                Report::Tried { job, verdict, .. } if *job == id => Some(*verdict),
                _ => None,
            }))
        }
    };
    let answer = worker.finish(id).unwrap();
    let reuse = worker.reused(id);
    (answer, verdict, reuse)
}

#[test]
fn the_next_worker_goes_on_from_what_one_that_was_killed_has_stored() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = store(folder.path());
    let mut worker = roomy();
    let (again, verdict, reuse) = ask_with(&mut worker, 1, 3, Some(&path));
    assert_eq!(verdict, Some(Verdict::Sound));
    assert_eq!((reuse.disk, reuse.live, reuse.ram), (first.spent.prompt_tokens - 1, 0, 0));
    assert_eq!(again.spent.cached_tokens, reuse.disk);
    assert_eq!((again.text, again.finish), (first.text.clone(), first.finish));
    // It is this scope's now, and nobody else's; and nothing more is sought for what is here.
    worker.begin(Begin { stored: true, ..begin_of(3, 2, &prompt(), 30) });
    assert_eq!(worker.finish(2).unwrap().text, first.text);
    let (other, _, reuse) = ask_with(&mut worker, 3, 4, None);
    assert_eq!((other.text, reuse), (first.text, Reuse::default()));
}

#[test]
fn a_damaged_state_is_never_used() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = store(folder.path());
    let whole = std::fs::read(&path).unwrap();
    let mut worker = roomy();
    let damaged = folder.path().join("damaged");
    let places = [0, 9, 14, 30, 3000, whole.len() / 3, whole.len() / 2, whole.len() - 9, whole.len() - 1];
    let changed = places.map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    });
    let cut = [0, 7, 100, whole.len() / 2, whole.len() - 1].map(|at| whole[..at].to_vec());
    for (id, bytes) in (1..).zip(changed.into_iter().chain(cut)) {
        File::create(&damaged).unwrap().write_all(&bytes).unwrap();
        let (answer, verdict, reuse) = ask_with(&mut worker, id, 100 + id, Some(&damaged));
        assert_eq!((verdict, reuse), (Some(Verdict::Damaged), Reuse::default()), "case {id}");
        assert_eq!(answer.text, first.text, "case {id}");
    }
    // The worker is as good as before.
    let (answer, verdict, _) = ask_with(&mut worker, 99, 99, Some(&path));
    assert_eq!((verdict, answer.text), (Some(Verdict::Sound), first.text));
}

#[test]
fn a_state_of_another_prompt_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = store(folder.path());
    let mut worker = roomy();
    let mut ask = begin_of(1, 1, "", 20);
    ask.prompt = vec![(1..200).map(|n| format!("{n}, ")).collect()];
    ask.stored = true;
    let expected = roomy().generate(Begin { stored: false, scope: 0, ..ask.clone() }).unwrap().text;
    worker.begin(ask);
    seeks(&mut worker, 1);
    worker.send_file(&Directive::Found { job: 1 }, &File::open(&path).unwrap());
    let verdict = worker.find(|report| match report {
        Report::Tried { job: 1, verdict, .. } => Some(*verdict),
        _ => None,
    });
    assert_eq!(verdict, Verdict::Unfit, "others may find themselves in it");
    let answer = worker.finish(1).unwrap();
    assert_eq!((answer.text, answer.spent.cached_tokens), (expected, 0));
}

#[test]
fn without_room_in_memory_states_go_to_their_files_and_come_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = store(folder.path());
    let narrow = || Worker::with(&Load { context_tokens: 1024, park_bytes: 0, ..load() }, &model()).0;
    let mut worker = narrow();
    let (again, verdict, reuse) = ask_with(&mut worker, 1, 3, Some(&path));
    assert_eq!((verdict, reuse.disk), (Some(Verdict::Sound), first.spent.prompt_tokens - 1));
    assert_eq!(again.text, first.text);
    // What it writes itself is as good.
    let mut worker = narrow();
    worker.generate(begin_of(7, 1, &prompt(), 30)).unwrap();
    let (state, chain, bytes) = offered(&mut worker);
    let from_pool = folder.path().join("from-pool");
    let length = written(&mut worker, &from_pool, state);
    assert!(length > bytes && std::fs::metadata(&from_pool).unwrap().len() == length);
    assert!(chain.tokens.len() as u32 >= first.spent.prompt_tokens);
    for mut worker in [narrow(), roomy()] {
        let (again, verdict, reuse) = ask_with(&mut worker, 1, 3, Some(&from_pool));
        assert_eq!((verdict, reuse.disk), (Some(Verdict::Sound), first.spent.prompt_tokens - 1));
        assert_eq!(again.text, first.text);
    }
}

#[test]
fn who_waits_for_a_state_can_be_cancelled_and_held_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (path, first) = store(folder.path());
    let mut worker = roomy();
    for id in [1, 2] {
        worker.begin(Begin { stored: true, ..begin_of(1, id, &prompt(), 30) });
        seeks(&mut worker, id);
    }
    let other = worker.generate(begin(9, "Hello", 3)).unwrap();
    assert_eq!(other.spent.completion_tokens, 3);
    worker.send(&Directive::Cancel { job: 1 });
    assert_eq!(worker.finish(1).unwrap().finish, WireFinish::Cancelled);
    // Its state comes too late, and does no harm.
    worker.send_file(&Directive::Found { job: 1 }, &File::open(&path).unwrap());
    worker.send(&Directive::Hold { job: 2 });
    worker.find(|report| matches!(report, Report::Parked { job: 2, held: true, .. }).then_some(()));
    worker.send_file(&Directive::Found { job: 2 }, &File::open(&path).unwrap());
    worker.find(|report| matches!(report, Report::Tried { job: 2, .. }).then_some(()));
    worker.send(&Directive::Resume { job: 2 });
    let answer = worker.finish(2).unwrap();
    assert_eq!((answer.text, worker.reused(2).disk), (first.text, first.spent.prompt_tokens - 1));
}

#[test]
fn a_worker_lets_go_of_what_it_keeps_when_told_and_keeps_nothing_of_what_is_under_way() {
    let mut worker = roomy();
    let forget = |worker: &mut Worker, scope| {
        worker.send(&Directive::Forget { scope });
        worker.find(|report| match report {
            Report::Forgotten { states, bytes } => Some((*states, *bytes)),
            _ => None,
        })
    };
    let cached = |worker: &mut Worker, id, scope| {
        worker.generate(begin_of(scope, id, &prompt(), 3)).unwrap().spent.cached_tokens
    };
    assert_eq!(forget(&mut worker, 0), (0, 0));
    for (id, scope) in [(1, 1), (2, 2)] {
        assert_eq!(cached(&mut worker, id, scope), 0);
    }
    let (states, bytes) = forget(&mut worker, 1);
    assert!(states == 1 && bytes > 1 << 20, "{states} states of {bytes} bytes");
    assert_eq!(cached(&mut worker, 3, 1), 0);
    assert!(cached(&mut worker, 4, 2) > 0);
    worker.begin(begin_of(5, 5, &prompt(), 400));
    worker.find(|report| matches!(report, Report::Text { job: 5, .. }).then_some(()));
    let (states, _) = forget(&mut worker, 0);
    assert_eq!(states, 2);
    worker.finish(5).unwrap();
    assert_eq!(forget(&mut worker, 0), (0, 0), "what was under way isn't kept");
    // Nor one whose prompt is being cut in another thread, as every prompt with a schema is.
    let shape = WireShape::JsonSchema(r#"{"type":"integer"}"#.into());
    worker.begin(Begin { shape, ..begin_of(5, 6, &prompt(), 8) });
    forget(&mut worker, 0);
    worker.finish(6).unwrap();
    assert_eq!(forget(&mut worker, 0), (0, 0), "nor what was being cut");
}
