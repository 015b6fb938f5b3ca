//! `freehold`: the commands, the daemon and (hidden) its confined children, in one program.
//!
//! stdout is data, stderr is talk. A command reads its arguments, calls the daemon over its
//! socket ([`link`]) and prints what comes ([`screen`]). Nothing here knows models or files.
//! Start with [`args`], then any file of [`command`].

mod args;
mod bar;
mod command;
mod ending;
mod flow;
mod link;
mod screen;
mod words;

use args::Cli;
use clap::Parser;
use ending::Ending;
use runtime::Settings;
use screen::Screen;
use std::ffi::OsString;
use std::process::ExitCode;

/// What every command gets.
#[derive(Debug)]
struct Context {
    settings: Settings,
    screen: Screen,
    /// Restart a daemon of another build, or with other settings, without asking.
    restart: bool,
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = runtime::child::child_main(&args) {
        return code;
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to stdout and is a success; a reader that has gone is one too.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let json = cli.command.json();
    match Settings::from_env() {
        Ok(settings) => {
            let screen = Screen::new(settings.no_color);
            let context = Context { settings, screen, restart: cli.restart };
            ending::report(command::run(cli.command, context), &screen, json)
        }
        // Without settings it isn't known whether colour is wanted, so there is none.
        Err(fault) => ending::report(Err(Ending::Failed(fault)), &Screen::new(true), json),
    }
}
