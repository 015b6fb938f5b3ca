//! The worker finds llama.cpp's libraries in its own folder (`cargo xtask native` lays them there).

#[expect(clippy::disallowed_methods, reason = "a build script is told its target by the environment")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    match target.as_str() {
        "windows" => {}
        "macos" => println!("cargo::rustc-link-arg-bins=-Wl,-rpath,@loader_path"),
        _ => println!("cargo::rustc-link-arg-bins=-Wl,-rpath,$ORIGIN"),
    }
}
