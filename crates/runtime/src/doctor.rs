//! Looks at everything that can be wrong on this machine, and finds protection out by trying.

use crate::Inner;
use crate::view::{Check, Doctor, Verdict};
use base::{Fault, Modality};
use engine::{BackendChoice, ModelSource, Tried};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use store::Entry;
use wire::{Attempt, WireDeviceKind};

/// Runs on a blocking thread: self-tests and model loads take seconds.
pub(crate) fn examine(inner: &Inner) -> Doctor {
    let mut checks = vec![processor(inner), memory(inner)];
    checks.extend(backends(inner));
    checks.extend(models(inner));
    checks.extend(templates(&inner.store.list()));
    checks.extend(worker_confinement(inner));
    checks.extend(placements(inner));
    // Documents are parsed, and templates run, in children of their own; one of each is started to see.
    checks.push(child_confinement("confinement: reader", inner.maps.reader_protection()));
    checks.push(child_confinement("confinement: templates", inner.engine.template_protection()));
    checks.push(recognition(inner));
    checks.push(home(inner));
    checks.push(maps(inner));
    checks.push(network(inner));
    Doctor { checks }
}

fn check(name: &str, verdict: Verdict, detail: impl Into<String>) -> Check {
    Check { name: name.into(), verdict, detail: detail.into(), hint: None }
}

fn failed(name: &str, fault: &Fault) -> Check {
    Check { name: name.into(), verdict: Verdict::Bad, detail: fault.to_string(), hint: fault.hints.first().cloned() }
}

fn processor(inner: &Inner) -> Check {
    let found = engine::machine::processors();
    let quota = found.quota.map(|quota| format!(", quota {quota:.1}")).unwrap_or_default();
    let threads = inner.settings.threads.unwrap_or_else(|| found.threads());
    let name = if found.name.is_empty() { "processor" } else { &found.name };
    check(
        "processor",
        Verdict::Good,
        format!("{name}: {} of its cores are ours{quota}; {threads} threads compute", found.cores),
    )
}

fn memory(inner: &Inner) -> Check {
    match engine::machine::memory() {
        None => {
            check("memory", Verdict::Weak, "the system doesn't say how much is free, so nothing is checked against it")
        }
        Some(memory) => {
            let bound = if memory.bound_by_group { " (a control group's limit)" } else { "" };
            let share = inner.engine.memory_share();
            let models = share.budget.map(|budget| {
                let held = if share.held.0 == 0 { String::new() } else { format!(", {} are held", share.held) };
                format!("; models may take {budget} together{held}")
            });
            let models = models.unwrap_or_default();
            check("memory", Verdict::Good, format!("{} of {} available{bound}{models}", memory.available, memory.total))
        }
    }
}

fn backends(inner: &Inner) -> Vec<Check> {
    match inner.engine.backends() {
        Err(fault) => vec![failed("backend", &fault)],
        Ok(choice) => {
            let mut checks = vec![chosen(&choice)];
            checks
                .extend(choice.tried.iter().filter(|tried| tried.verdict != engine::Verdict::Chosen).map(passed_over));
            checks
        }
    }
}

/// The backend in use, with the figures that show which instructions really run.
fn chosen(choice: &BackendChoice) -> Check {
    let file = choice.chosen.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let tried = choice.tried.iter().find(|tried| tried.verdict == engine::Verdict::Chosen);
    let figures: Vec<String> = tried
        .iter()
        .flat_map(|tried| &tried.products)
        .map(|product| {
            let over = product.over_baseline.map(|over| format!(", {over:.1}x baseline")).unwrap_or_default();
            format!("{} {:.0} Gop/s on {}{over}", product.weights, product.gops, product.path)
        })
        .collect();
    let features = if choice.features.is_empty() { "none named".into() } else { choice.features.join(" ") };
    check(
        "backend",
        Verdict::Good,
        format!(
            "{file} passed its self-test: {}; uses {features}{}",
            figures.join(", "),
            tried.map(on_devices).unwrap_or_default()
        ),
    )
}

/// The graphics devices of a backend and what is free on them; nothing of the processor.
fn on_devices(tried: &Tried) -> String {
    let name = |kind| match kind {
        WireDeviceKind::Discrete => Some("a graphics card"),
        WireDeviceKind::Integrated => Some("shares the machine's memory"),
        WireDeviceKind::Software => Some("software, no graphics card"),
        WireDeviceKind::Cpu | WireDeviceKind::Accelerator => None,
    };
    let graphic = tried.devices.iter().filter_map(|device| {
        let (free, total) = (base::Bytes(device.free_bytes), base::Bytes(device.total_bytes));
        Some(format!("; {} is {}: {}, {free} of {total} free", device.name, device.description, name(device.kind)?))
    });
    graphic.collect()
}

/// What lies on which device, of models in memory that use more than the processor.
fn placements(inner: &Inner) -> Vec<Check> {
    let loaded = inner.engine.loaded().into_iter().filter(|loaded| !loaded.placement.is_empty());
    loaded.map(|loaded| check("devices", Verdict::Good, format!("{}: {}", loaded.name, loaded.placement))).collect()
}

fn passed_over(tried: &Tried) -> Check {
    let verdict = match tried.verdict {
        engine::Verdict::Chosen | engine::Verdict::Right | engine::Verdict::Slow | engine::Verdict::NoDevice => {
            Verdict::Good
        }
        engine::Verdict::Wrong | engine::Verdict::Died | engine::Verdict::Hung => Verdict::Weak,
    };
    check("backend not taken", verdict, format!("{}: {}{}", tried.file, tried.detail, on_devices(tried)))
}

fn models(inner: &Inner) -> Vec<Check> {
    [(Modality::Chat, "chat model"), (Modality::Embed, "embedding model")]
        .into_iter()
        .map(|(modality, name)| match inner.store.default_for(modality) {
            None => Check {
                name: name.into(),
                verdict: Verdict::Weak,
                detail: "there is none yet".into(),
                hint: Some("`freehold pull starter` fetches one (Apache-2.0)".into()),
            },
            Some(entry) => match entry.problem() {
                Some(problem) => Check {
                    name: name.into(),
                    verdict: Verdict::Bad,
                    detail: format!("{}: {problem}", entry.name.0),
                    hint: Some("add it again: `freehold models add FILE`".into()),
                },
                None => check(name, Verdict::Good, format!("{}, {}", entry.name.0, entry.bytes)),
            },
        })
        .collect()
}

/// Chat models whose template is missing, or known to do something wrong.
fn templates(entries: &[Entry]) -> Vec<Check> {
    let told = entries.iter().flat_map(|entry| {
        let say = |note| check("chat template", Verdict::Weak, format!("that of {} {note}", entry.name.0));
        engine::template::notes(&entry.facts).into_iter().map(say).collect::<Vec<_>>()
    });
    told.collect()
}

/// What a worker must be refused; every one is really attempted from inside.
fn attempts(inner: &Inner) -> Vec<(&'static str, Attempt)> {
    let own_file = inner.settings.home.join("models/index.json").display().to_string();
    let new_file = inner.settings.run_dir().join("written-by-a-worker").display().to_string();
    vec![
        ("open an Internet socket", Attempt::OpenSocketInet),
        ("open a local socket", Attempt::OpenSocketUnix),
        ("read a file", Attempt::ReadFile(own_file)),
        ("write a file", Attempt::WriteFile(new_file)),
        ("start a program", Attempt::SpawnProcess),
        ("fork", Attempt::Fork),
        ("trace the daemon", Attempt::TraceParent),
        ("kill the daemon", Attempt::KillParent),
    ]
}

fn worker_confinement(inner: &Inner) -> Vec<Check> {
    const NAME: &str = "confinement: worker";
    let Ok(source) = inner.chat_model("").or_else(|_| inner.model_for("", Modality::Embed)) else {
        return vec![check(NAME, Verdict::Weak, "not examined: there is no model to start a worker with")];
    };
    match probe_all(inner, &source) {
        Err(fault) => vec![failed(NAME, &fault)],
        Ok((tried, allowed)) => {
            let loaded = inner.engine.loaded().into_iter().find(|loaded| loaded.name == source.name.0);
            let Some(loaded) = loaded else {
                return vec![check(NAME, Verdict::Bad, "the worker ended while it was examined")];
            };
            let lines = loaded.protection.lines().join("; ");
            vec![if allowed.is_empty() && loaded.protection.missing.is_empty() {
                check(
                    NAME,
                    Verdict::Good,
                    format!("{lines}; {tried} of {tried} forbidden acts were tried from inside and refused"),
                )
            } else if allowed.is_empty() {
                check(NAME, Verdict::Weak, lines)
            } else {
                check(NAME, Verdict::Bad, format!("a worker here can {}", allowed.join(", ")))
            }]
        }
    }
}

fn child_confinement(name: &str, found: Result<jail::Protection, Fault>) -> Check {
    match found {
        Err(fault) => failed(name, &fault),
        Ok(protection) => {
            let verdict = if protection.is_complete() { Verdict::Good } else { Verdict::Weak };
            check(name, verdict, protection.lines().join("; "))
        }
    }
}

/// Pictures are read where tesseract is; without it all else works, so nothing is bad.
fn recognition(inner: &Inner) -> Check {
    const NAME: &str = "words on pictures";
    match inner.maps.recogniser() {
        Ok(ready) => {
            let absent = match ready.absent.as_slice() {
                [] => String::new(),
                absent => format!("; there is no data for {}", absent.join(", ")),
            };
            let verdict = if ready.absent.is_empty() { Verdict::Good } else { Verdict::Weak };
            let detail = format!("{} recognises {}{absent}", ready.program.display(), ready.languages.join(", "));
            Check { hint: ready.remedy(), ..check(NAME, verdict, detail) }
        }
        Err(fault) => Check { verdict: Verdict::Weak, ..failed(NAME, &fault) },
    }
}

/// How many acts were tried, and which of them were not refused.
fn probe_all(inner: &Inner, source: &ModelSource) -> Result<(usize, Vec<&'static str>), Fault> {
    let attempts = attempts(inner);
    let tried = attempts.len();
    let mut allowed = Vec::new();
    for (what, attempt) in attempts {
        if inner.engine.probe(source.clone(), attempt)? == 0 {
            allowed.push(what);
        }
    }
    Ok((tried, allowed))
}

fn home(inner: &Inner) -> Check {
    let home = &inner.settings.home;
    let open: Vec<String> = [home.clone(), inner.settings.run_dir(), inner.settings.socket.clone()]
        .iter()
        .filter(|path| mode(path).is_some_and(|mode| mode & 0o077 != 0))
        .map(|path| path.display().to_string())
        .collect();
    if open.is_empty() {
        check("home", Verdict::Good, format!("{}, for your user alone", home.display()))
    } else {
        Check {
            name: "home".into(),
            verdict: Verdict::Bad,
            detail: format!("others may open {}", open.join(", ")),
            hint: Some(format!("`chmod -R go-rwx {}`", home.display())),
        }
    }
}

fn mode(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|meta| meta.permissions().mode())
}

fn maps(inner: &Inner) -> Check {
    let summaries = crate::mapping::summaries(inner, &crate::Sight::default());
    if summaries.is_empty() {
        return Check {
            name: "maps".into(),
            verdict: Verdict::Weak,
            detail: "no folder has been indexed yet".into(),
            hint: Some("`freehold index FOLDER`".into()),
        };
    }
    let lines: Vec<String> = summaries
        .iter()
        .map(|map| format!("{} ({} documents, {} passages)", map.name, map.documents, map.passages))
        .collect();
    check("maps", Verdict::Good, lines.join(", "))
}

fn network(inner: &Inner) -> Check {
    let totals = inner.gateway.totals();
    let rule = if inner.settings.offline {
        "off: nothing may leave this machine"
    } else {
        "only what a command of yours asks for; every crossing is in the ledger"
    };
    check(
        "network",
        Verdict::Good,
        format!(
            "{rule}; so far {} sent, {} received{}",
            base::Bytes(totals.bytes_sent),
            base::Bytes(totals.bytes_received),
            crate::view::uncounted(totals.uncounted)
        ),
    )
}
