//! `selftest`: every backend that lies beside the worker, and what isn't one.

use crate::harness::{cpu_backends, native};
use std::io::Read;

fn run(backend: &std::path::Path) -> (Option<i32>, String, String) {
    let mut child = jail::Command::new(&native().join("freehold-worker"))
        .arg("selftest")
        .arg(backend)
        .stdout(jail::Io::Pipe)
        .stderr(jail::Io::Pipe)
        .spawn()
        .unwrap();
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    (child.wait().unwrap().code(), out, err)
}

#[test]
fn every_backend_here_multiplies_rightly() {
    // How fast each is, `bench cpu` compares: beside other tests the times say nothing.
    for name in cpu_backends() {
        let (code, out, err) = run(&native().join(&name));
        assert_eq!(code, Some(0), "{name}: {out} {err}");
        let report: wire::SelfTest = serde_json::from_str(out.trim()).unwrap();
        assert_eq!(report.backend, name);
        assert!(
            report.devices.iter().any(|device| device.name == "CPU" && device.kind == wire::WireDeviceKind::Cpu),
            "{report:?}"
        );
        for weights in ["F32", "Q4_1", "Q8_0", "Q4_K", "attention/1", "attention/8", "attention/24", "attention/64"] {
            let paths: Vec<_> = report.products.iter().filter(|product| product.weights == weights).collect();
            assert!(!paths.is_empty(), "{name} has no product of {weights}");
            assert!(paths.iter().all(|p| p.correct && p.gops > 0.0 && p.error_relative < 0.02), "{paths:?}");
        }
    }
}

#[test]
fn what_is_no_backend_is_said_to_be_none() {
    for file in ["libllama.so.0", "native.json", "nonexistent.so"] {
        let (code, out, err) = run(&native().join(file));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{file}");
        assert!(err.contains(file), "{file}: {err}");
    }
}
