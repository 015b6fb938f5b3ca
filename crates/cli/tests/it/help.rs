//! Help, wrong arguments, completions: what needs no daemon.

use crate::home::Home;

const COMMANDS: [&str; 22] = [
    "ask",
    "search",
    "index",
    "map",
    "forget",
    "chat",
    "summarize",
    "classify",
    "extract",
    "rewrite",
    "normalize",
    "translate",
    "proofread",
    "title",
    "detect-language",
    "pull",
    "models",
    "doctor",
    "status",
    "stop",
    "serve",
    "completions",
];

#[test]
fn help_names_every_command_and_teaches_each() {
    let home = Home::new();
    let help = home.done(&["--help"]);
    assert!(help.err.is_empty(), "{help:?}");
    for command in COMMANDS {
        assert!(help.out.contains(&format!("\n  {command} ")), "{command} isn't listed:\n{}", help.out);
        let help = home.done(&["help", command]);
        assert_eq!(help.out, home.done(&[command, "--help"]).out);
        assert!(help.out.contains("Examples:") && help.out.contains("Usage: freehold"), "{}", help.out);
        for line in help.out.lines() {
            assert!(line.chars().count() <= 100, "a long line in the help of {command}: {line}");
            assert!(!line.contains('\u{1b}'), "colour without a terminal: {line:?}");
        }
    }
    assert!(!help.out.contains("__"), "hidden children are hidden");
    assert!(!home.home.join("run").exists(), "help touches nothing");
}

#[test]
fn no_command_shows_the_help_and_fails() {
    let ran = Home::new().run(&[]);
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("First steps:"), "{ran:?}");
}

#[test]
fn wrong_arguments_are_named_on_stderr() {
    let home = Home::new();
    for (args, word) in [
        (&["serach", "x"][..], "'search'"),
        (&["pull"], "<WHAT>"),
        (&["ask"], "<QUESTION>"),
        (&["search", "x", "--limit", "0"], "--limit"),
        (&["ask", "x", "--quotes", "--model", "m"], "--quotes"),
        (&["serve", "--port", "70000"], "70000"),
    ] {
        let ran = home.run(args);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{args:?}");
        assert!(ran.err.contains(word), "{args:?}: {}", ran.err);
    }
}

#[test]
fn the_version_tells_the_build() {
    let ran = Home::new().done(&["--version"]);
    assert!(ran.out.starts_with("freehold ") && ran.out.contains("(build "), "{ran:?}");
}

#[test]
fn every_shell_gets_completions() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = home.done(&["completions", shell]);
        assert!(ran.err.is_empty());
        for command in COMMANDS {
            assert!(ran.out.contains(command), "{shell} doesn't know {command}");
        }
    }
}

#[test]
fn settings_that_are_wrong_are_named_before_anything_is_done() {
    let home = Home::new();
    std::fs::write(home.home.join("config.toml"), "prot = 8000\n").expect("config");
    let ran = home.run(&["status"]);
    assert!(ran.fails(14, "config_invalid").err.contains("prot"), "{ran:?}");
    let ran = home.run(&["status", "--json"]);
    assert_eq!(ran.json()["fault"]["code"], "config_invalid");
    std::fs::remove_file(home.home.join("config.toml")).expect("config");
    let ran = home.command(&["status"]).env("FREEHOLD_PORT", "x").output().map(crate::home::ended).expect("starts");
    assert!(ran.fails(14, "config_invalid").err.contains("FREEHOLD_PORT"), "{ran:?}");
}
