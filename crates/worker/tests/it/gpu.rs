//! Layers on a graphics device, where one is here: a real one, or a processor that plays one (Mesa's lavapipe).
//!
//! The set-up installs no driver and builds a GPU's backend only where its toolkit is, so on most machines there
//! is nothing to try; the test says so then. `cargo xtask native --all-gpus` builds what it needs for lavapipe.

use crate::harness::{Worker, begin, chat, cpu_backends, load, model, native};
use std::io::Read;
use wire::{Attempt, Directive, Offload, Report, SelfTest, WireDeviceKind};

/// ggml leaves out processors that play devices unless it is told by number to take one.
const FORCE: (&str, &str) = ("GGML_VK_VISIBLE_DEVICES", "0");

fn devices(backend: &str, force: bool) -> SelfTest {
    let command = jail::Command::new(&native().join("freehold-worker")).arg("devices").arg(native().join(backend));
    let command = if force { command.env(FORCE.0, FORCE.1) } else { command };
    let mut child = command.stdout(jail::Io::Pipe).spawn().unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert!(child.wait().unwrap().success(), "{backend}: {out}");
    serde_json::from_str(out.trim()).unwrap()
}

/// A backend with a device, and whether it has to be forced.
fn found() -> Option<(String, bool)> {
    let names = std::fs::read_dir(native()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let gpu =
        |name: &String| ["cuda", "hip", "vulkan", "metal"].iter().any(|kind| name.contains(&format!("ggml-{kind}")));
    let backends: Vec<String> = names.filter(gpu).collect();
    let has_any = |name: &&String, force| !devices(name, force).devices.is_empty();
    let plain = backends.iter().find(|name| has_any(name, false)).map(|name| (name.clone(), false));
    plain.or_else(|| backends.iter().find(|name| has_any(name, true)).map(|name| (name.clone(), true)))
}

#[test]
#[expect(clippy::print_stdout, reason = "who reads the tests' words should know that nothing was tried")]
fn layers_on_a_graphics_device_give_the_same_text_and_the_worker_stays_shut_in() {
    let Some((backend, force)) = found() else {
        println!("skipped: no graphics device and no software one is here");
        return;
    };
    let said = devices(&backend, force).devices;
    assert!(said.iter().all(|device| device.free_bytes <= device.total_bytes && device.total_bytes > 0), "{said:?}");
    assert!(!force || said.iter().all(|device| device.kind == WireDeviceKind::Software), "{said:?}");
    let question = chat("Name three colours.");
    let expected = Worker::ready().generate(begin(1, &question, 12)).unwrap().text;

    let cpu = cpu_backends().remove(0);
    let offload = Offload { gpu_layers: 4, split: vec![4], cpu_experts: Vec::new(), kv_on_gpu: true };
    let on_gpu = wire::Load { backends: vec![backend.clone(), cpu], offload: offload.clone(), ..load() };
    let env: &[(&str, &str)] = if force { &[FORCE] } else { &[] };
    let mut worker = Worker::start_with(env);
    let ready = worker.load(&on_gpu, &[std::fs::File::open(model()).unwrap().into()]).expect("a model that loads");
    assert_eq!(ready.offload, offload);
    assert!(ready.protection.seccomp && ready.protection.landlock_abi > 0, "{:?}", ready.protection);
    let text = worker.generate(begin(2, &question, 12)).unwrap().text;
    assert_eq!(text, expected, "{backend} on {said:?}");
    for attempt in [
        Attempt::OpenSocketInet,
        Attempt::ReadFile("/etc/passwd".into()),
        Attempt::WriteFile("/tmp/freehold-must-not-appear".into()),
        Attempt::SpawnProcess,
        Attempt::KillParent,
    ] {
        worker.send(&Directive::Probe { job: 5, attempt: attempt.clone() });
        let errno = worker.find(|report| match report {
            Report::Probed { job: 5, errno } => Some(*errno),
            _ => None,
        });
        assert!([libc::EPERM, libc::EACCES].contains(&errno), "{attempt:?} gave {errno}");
    }
}

#[test]
fn layers_for_a_device_that_is_not_here_are_refused() {
    let offload = Offload { gpu_layers: 4, split: vec![4], ..Offload::default() };
    let mut worker = Worker::start_with(&[]);
    let fault = worker.load(&wire::Load { offload, ..load() }, &[std::fs::File::open(model()).unwrap().into()]);
    assert!(matches!(&fault, Err(wire::WireFault::BackendFailed(words)) if words.contains("0 are here")), "{fault:?}");
}
