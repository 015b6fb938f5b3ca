//! The scripted worker: the same frames as the real one, and what they hold comes from a script.

mod stage;

use crate::gguf;
use crate::model::SCRIPT_KEY;
use crate::program::HELLO_FILE;
use crate::script::{Hello, Script, SelfTestScript, Step};
use stage::Stage;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use wire::{
    Begin, Directive, EmbedHow, Product, Ready, Receiver, Report, Room, SelfTest, WireDevice, WireDeviceKind,
    WireFault, WireProtection, WireShape,
};

/// Dimensions of the scripted embeddings.
pub const DIMENSIONS: u32 = 32;

/// Entry of `freehold-testworker`.
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve"] => serve(),
        // Its devices are those of its test; products beside them do no harm.
        ["selftest" | "devices", file] => self_test(Path::new(file)),
        _ => ExitCode::from(2),
    }
}

#[expect(unsafe_code, reason = "the daemon hands this process its end of the link under a number")]
fn take_link() -> Option<OwnedFd> {
    if cfg!(target_os = "linux") && !Path::new(&format!("/proc/self/fd/{}", wire::WORKER_FD)).exists() {
        return None;
    }
    // SAFETY: the descriptor is open (checked above) and nothing else in this process owns it.
    // WHY UNSAFE: a number is all that passes from parent to child.
    Some(unsafe { OwnedFd::from_raw_fd(wire::WORKER_FD) })
}

fn serve() -> ExitCode {
    let Some(fd) = take_link() else { return ExitCode::from(3) };
    let (stage, mut receiver) = Stage::new(fd);
    let hello = early_hello();
    if hello.garbage {
        stage.garbage();
    } else {
        stage.report(&Report::Hello {
            version: hello.version.unwrap_or(wire::VERSION),
            build: "scripted".into(),
            pid: std::process::id(),
        });
    }
    let Ok((Directive::Load(load), files)) = receiver.recv::<Directive>() else { return ExitCode::SUCCESS };
    let script = match read_script(files) {
        Ok(script) => script,
        Err(words) => {
            stage.report(&Report::Failed { job: None, fault: WireFault::LoadFailed(words) });
            return ExitCode::from(1);
        }
    };
    let log = Log::open(&script);
    let wire::Load { embed, context_tokens, context_max, threads, backends, .. } = &load;
    log.line(&format!(
        "load embed={embed} context={context_tokens} threads={threads} max={context_max} backends={backends:?}"
    ));
    if let Some(draft) = &load.draft_model {
        log.line(&format!("draft {} context={}", draft.name, draft.context_tokens));
    }
    if !load.adapters.is_empty() {
        log.line(&format!("adapters {:?}", load.adapters));
    }
    for step in &script.load.steps {
        let step = match step {
            Step::Unless(name, _) if backends.first() == Some(name) => continue,
            Step::Unless(_, step) => step,
            Step::Once(path, _) if File::create_new(path).is_err() => continue,
            Step::Once(_, step) => step,
            step => step,
        };
        if let Err(fault) = stage.play(None, step) {
            stage.report(&Report::Failed { job: None, fault });
            return ExitCode::from(1);
        }
    }
    let ready = ready(&script, &load);
    let room = ready.room;
    stage.report(&Report::Ready(Box::new(ready)));
    attend(&stage, &script, &mut receiver, &log, room)
}

fn early_hello() -> Hello {
    let read = || {
        let folder = std::env::current_exe().ok()?.parent()?.join(HELLO_FILE);
        serde_json::from_slice(&std::fs::read(folder).ok()?).ok()
    };
    read().unwrap_or_default()
}

fn read_script(files: Vec<OwnedFd>) -> Result<Script, String> {
    let mut file = File::from(files.into_iter().next().ok_or("no descriptor came with the load")?);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| format!("the descriptor can't be read: {error}"))?;
    let text = gguf::find_text(&bytes, SCRIPT_KEY).ok_or("the model holds no script")?;
    serde_json::from_str(&text).map_err(|error| format!("the script can't be read: {error}"))
}

fn ready(script: &Script, load: &wire::Load) -> Ready {
    let or = |own: u32, asked: u32| if own == 0 { asked } else { own };
    Ready {
        context_tokens: or(script.load.context_tokens, load.context_tokens),
        sequences_max: or(script.load.sequences_max, load.sequences_max),
        embedding_dimensions: DIMENSIONS,
        devices: vec!["SCRIPT".into()],
        offload: load.offload.clone(),
        features: vec!["NONE".into()],
        threads: load.threads,
        load_us: 1,
        context_trained: load.context_max,
        room: Room {
            context_tokens: or(script.load.context_tokens, load.context_tokens),
            resident_bytes: 1 << 20,
            ..Room::default()
        },
        protection: WireProtection {
            missing: vec!["all of it: this is a scripted worker".into()],
            ..Default::default()
        },
        draft_model: load.draft_model.as_ref().map(|draft| draft.name.clone()),
        draft_refused: None,
    }
}

fn attend(stage: &Stage, script: &Script, receiver: &mut Receiver, log: &Log, mut room: Room) -> ExitCode {
    loop {
        let Ok((directive, _)) = receiver.recv::<Directive>() else { return ExitCode::SUCCESS };
        log.line(&name_of(&directive));
        match directive {
            Directive::Load(_) => {
                let fault = WireFault::Protocol("a second load".into());
                stage.report(&Report::Failed { job: None, fault });
            }
            Directive::Begin(begin) => begin_job(stage, script, *begin),
            Directive::Embed { job, texts, how } => embed(stage, script, job, texts, how),
            Directive::Rank { job, query, documents, truncate } => {
                rank(stage, script, job, query, documents, truncate);
            }
            Directive::Count { job, prompt, .. } => {
                let tokens = count_words(&prompt.concat());
                stage.report(&Report::Counted { job, tokens });
            }
            Directive::Cancel { job } => stage.cancel(job),
            Directive::Resize { context_tokens } => {
                let fault = script.load.resize_fails.then(|| WireFault::MemoryShort("the script says so".into()));
                if fault.is_none() {
                    room = Room { context_tokens, resting: false, ..room };
                }
                stage.report(&Report::Resized { room, fault });
            }
            Directive::Rest => {
                room.resting = true;
                stage.report(&Report::Resized { room, fault: None });
            }
            Directive::Hold { job } => stage.hold(job),
            Directive::Resume { job } => stage.resume(job),
            Directive::Ping { nonce } => stage.report(&Report::Pong { nonce }),
            // A scripted worker is under no confinement, and says so by what it answers.
            Directive::Probe { job, .. } => stage.report(&Report::Probed { job, errno: 0 }),
            Directive::Forget { .. } => stage.report(&Report::Forgotten { states: 1, bytes: 1000 }),
            // It neither seeks nor offers.
            Directive::Found { .. } | Directive::Store { .. } => {}
            // It has none: the log tells of it.
            Directive::LeaveDraft => {}
            Directive::Shutdown => return ExitCode::SUCCESS,
        }
    }
}

fn name_of(directive: &Directive) -> String {
    match directive {
        Directive::Load(_) => "load".into(),
        Directive::Begin(begin) => {
            let Begin { job, deadline_ms, adapters, shape, reasoning, score, scope, .. } = &**begin;
            let mut with = if adapters.is_empty() { String::new() } else { format!(" adapters={adapters:?}") };
            match shape {
                WireShape::Free => {}
                WireShape::Calls(calls) => {
                    let tools: Vec<&str> = calls.schemas.iter().map(|schema| schema.tool.as_str()).collect();
                    with += &format!(" calls={}", tools.join(","));
                }
                shape => with += &format!(" shape={shape:?}"),
            }
            with += &reasoning.as_ref().map_or(String::new(), |texts| format!(" behind={}", texts.close));
            with += &score.as_ref().map_or(String::new(), |score| format!(" options={:?}", score.options));
            format!("begin {job} deadline={deadline_ms} scope={scope}{with} prompt={:?}", begin.prompt.concat())
        }
        Directive::Embed { job, texts, how } => format!("embed {job} {how:?} texts={}", texts.len()),
        Directive::Rank { job, documents, .. } => format!("rank {job} documents={}", documents.len()),
        Directive::Count { job, .. } => format!("count {job}"),
        Directive::Cancel { job } => format!("cancel {job}"),
        Directive::Hold { job } => format!("hold {job}"),
        Directive::Resume { job } => format!("resume {job}"),
        Directive::Ping { .. } => "ping".into(),
        Directive::Resize { context_tokens } => format!("resize {context_tokens}"),
        Directive::LeaveDraft => "leave draft".into(),
        Directive::Rest => "rest".into(),
        Directive::Probe { job, .. } => format!("probe {job}"),
        Directive::Found { job } => format!("found {job}"),
        Directive::Store { state } => format!("store {state}"),
        Directive::Forget { scope } => format!("forget {scope}"),
        Directive::Shutdown => "shutdown".into(),
    }
}

fn begin_job(stage: &Stage, script: &Script, begin: Begin) {
    let prompt = begin.prompt.concat();
    let (words, available) = (count_words(&prompt), script.load.context_tokens);
    if script.load.windowed && words >= available {
        let fault = WireFault::ContextOverflow { requested: words + 1, available };
        return stage.report(&Report::Failed { job: Some(begin.job), fault });
    }
    let steps = match script.asks.iter().find(|rule| prompt.contains(&rule.when)) {
        Some(rule) => rule.steps.clone(),
        None => ["one", " two", " three"].map(|word| Step::Text(word.to_owned())).to_vec(),
    };
    let cancelled = stage.admit(begin.job);
    if !matches!(steps.first(), Some(Step::Overflow(..) | Step::Fail(_) | Step::Unsupported(..))) {
        let (job, prompt_tokens, tokens_max) = (begin.job, count_words(&prompt), begin.tokens_max);
        stage.report(&Report::Accepted { job, prompt_tokens, tokens_max });
    }
    let stage = stage.clone();
    std::thread::spawn(move || stage.perform(&begin, words, &steps, &cancelled));
}

fn embed(stage: &Stage, script: &Script, job: u64, texts: Vec<String>, how: EmbedHow) {
    vectors(stage, script, job, texts, how.truncate, embedding);
}

/// More words in common are a higher rank.
fn rank(stage: &Stage, script: &Script, job: u64, query: String, documents: Vec<String>, truncate: bool) {
    let score = move |document: &str| {
        let common = query.split_whitespace().filter(|word| document.split_whitespace().any(|other| other == *word));
        vec![common.count() as f32]
    };
    vectors(stage, script, job, documents, truncate, score);
}

/// One row for each text. Where the script keeps to a window, words beyond it are left out or refused.
fn vectors(
    stage: &Stage,
    script: &Script,
    job: u64,
    texts: Vec<String>,
    truncate: bool,
    row: impl Fn(&str) -> Vec<f32> + Send + 'static,
) {
    let rules = script.asks.iter().filter(|rule| texts.iter().any(|text| text.contains(&rule.when)));
    let steps: Vec<Step> = rules.flat_map(|rule| rule.steps.clone()).collect();
    let window = if script.load.windowed { script.load.context_tokens } else { u32::MAX };
    let cancelled = stage.admit(job);
    let stage = stage.clone();
    // As a real worker, which answers questions in between.
    std::thread::spawn(move || {
        if stage.prepare(job, &steps, &cancelled).is_none() {
            return;
        }
        let words: Vec<u32> = texts.iter().map(|text| count_words(text)).collect();
        if let Some(requested) = words.iter().copied().find(|words| *words > window && !truncate) {
            let fault = WireFault::ContextOverflow { requested, available: window };
            return stage.report(&Report::Failed { job: Some(job), fault });
        }
        let rows: Vec<Vec<f32>> = texts.iter().map(|text| row(text)).collect();
        let dimensions = rows.first().map_or(0, |row| u32::try_from(row.len()).unwrap_or(0));
        let left_out = words.iter().map(|words| words.saturating_sub(window)).collect();
        let tokens = words.iter().map(|words| (*words).min(window)).collect();
        stage.report(&Report::Vectors { job, dimensions, values: rows.concat(), tokens, left_out });
    });
}

fn count_words(text: &str) -> u32 {
    u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX)
}

/// A unit vector that depends on a text's words alone: texts that share words are near each other.
pub fn embedding(text: &str) -> Vec<f32> {
    let mut sums = vec![0.0_f32; DIMENSIONS as usize];
    sums[0] = 0.01;
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in word.to_lowercase().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let place = usize::try_from(hash % u64::from(DIMENSIONS)).unwrap_or(0);
        sums[place] += if hash >> 63 == 0 { 1.0 } else { -1.0 };
    }
    let length = sums.iter().map(|v| v * v).sum::<f32>().sqrt();
    sums.iter().map(|v| v / length).collect()
}

/// One line per frame, for tests that ask what reached the worker.
struct Log(Option<Mutex<File>>);

impl Log {
    fn open(script: &Script) -> Self {
        let open = |path| File::options().create(true).append(true).open(path).ok();
        Self(script.log.as_ref().and_then(open).map(Mutex::new))
    }

    fn line(&self, text: &str) {
        if let Some(file) = &self.0 {
            // One write per line: readers never see half of one.
            let _ = stage::locked(file).write_all(format!("{text}\n").as_bytes());
        }
    }
}

fn self_test(file: &Path) -> ExitCode {
    let script = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(script) = script else { return ExitCode::from(4) };
    let product = |weights: &str, correct, gops| Product {
        weights: weights.into(),
        path: "CPU".into(),
        error_relative: if correct { 1e-4 } else { 0.7 },
        correct,
        gops,
    };
    let backend = file.display().to_string();
    let reply = match script {
        SelfTestScript::Right { device, features, f32_gops, int8_gops } => {
            let products = vec![product("F32", true, f32_gops), product("Q8_0", true, int8_gops)];
            SelfTest { backend, devices: vec![a_device(device)], features, products }
        }
        SelfTestScript::Wrong => {
            let products = vec![product("F32", true, 10.0), product("Q8_0", false, 500.0)];
            SelfTest { backend, devices: vec![a_device("CPU".into())], features: Vec::new(), products }
        }
        SelfTestScript::Die(signal) => stage::die(signal),
        SelfTestScript::Hang => stage::hang(),
        SelfTestScript::Garbage => {
            say("no reply at all\n");
            return ExitCode::SUCCESS;
        }
        SelfTestScript::Exit(status) => return ExitCode::from(status),
    };
    say(&(serde_json::to_string(&reply).expect("a reply is plain data") + "\n"));
    ExitCode::SUCCESS
}

fn a_device(name: String) -> WireDevice {
    let kind = if name == "CPU" { WireDeviceKind::Cpu } else { WireDeviceKind::Discrete };
    WireDevice { description: name.clone(), name, kind, free_bytes: 8 << 30, total_bytes: 8 << 30 }
}

fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
