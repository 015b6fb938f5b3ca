//! Where the scripted worker's program lies, and building it when it isn't there.

use crate::script::Hello;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

/// Path of `freehold-testworker` in the profile folder of the running test.
///
/// Cargo doesn't build the programs of a dev-dependency. A build of the whole default workspace
/// (`./check`) does; for a lone `cargo test -p …` this function builds it once when it is missing or
/// older than its sources. Cargo holds no lock while tests run, so that is safe.
///
/// # Panics
/// With the command to run when the program can't be built.
pub fn worker_path() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(find_or_build).clone()
}

/// A copy of the program in `folder` whose first frame is this one.
///
/// # Panics
/// When it can't be copied: the test can't go on.
pub fn worker_that_says(folder: &Path, hello: &Hello) -> PathBuf {
    let program = folder.join("freehold-testworker");
    fs::create_dir_all(folder).expect("a test's folder can be made");
    fs::copy(worker_path(), &program).expect("a program can be copied");
    let json = serde_json::to_string(hello).expect("a script is plain data");
    fs::write(folder.join(HELLO_FILE), json).expect("a test's script can be written");
    program
}

pub(crate) const HELLO_FILE: &str = "hello.json";

fn find_or_build() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    // <target>/<profile>/deps/it-0123abcd, or <target>/<profile>/NAME for programs.
    let beside = test.parent().expect("a program lies in a folder");
    let profile = if beside.ends_with("deps") { beside.parent().expect("`deps` lies in a folder") } else { beside };
    let program = profile.join(format!("freehold-testworker{}", std::env::consts::EXE_SUFFIX));
    let sources = ["testkit", "wire", "base"].map(|name| crates().join(name).join("src"));
    let newest = sources.iter().filter_map(|folder| newest_change(folder)).max();
    if changed(&program) < newest {
        build(profile, &program);
    }
    assert!(program.exists(), "`{}` isn't there; run `{BUILD}`", program.display());
    program
}

const BUILD: &str = "cargo build -p freehold-testkit --bin freehold-testworker";

fn crates() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies beside the others")
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

fn newest_change(folder: &Path) -> Option<SystemTime> {
    fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            if path.is_dir() { newest_change(&path) } else { changed(&path) }
        })
        .max()
}

#[expect(clippy::disallowed_methods, reason = "builds a test program; this crate never reaches a person")]
fn build(profile: &Path, program: &Path) {
    let mut command = std::process::Command::new(env!("CARGO"));
    command.args(["build", "--quiet", "--offline", "-p", "freehold-testkit", "--bin", "freehold-testworker"]);
    command.current_dir(crates()).arg("--target-dir").arg(profile.parent().expect("a profile lies in the target"));
    match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => {}
        Some(name) => {
            command.args(["--profile", name]);
        }
    }
    let built = command.status();
    assert!(
        built.as_ref().is_ok_and(std::process::ExitStatus::success),
        "`{}` couldn't be built ({built:?}); run `{BUILD}` and read what it says",
        program.display()
    );
    // Cargo leaves a program alone that is up to date by its own reckoning; then its time must move,
    // or every test run would ask again.
    if let Ok(file) = fs::File::options().append(true).open(program) {
        let _ = file.set_modified(SystemTime::now());
    }
}
