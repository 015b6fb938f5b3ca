//! The command line: which commands there are, and help that teaches.

use crate::command::{
    ask, chat, completions, doctor, forget, index, map, models, pull, search, serve, status, stop, task,
};
use clap::builder::Styles;
use clap::builder::styling::{AnsiColor, Style};
use clap::{Parser, Subcommand};
use std::sync::LazyLock;

const EXAMPLES: &str = "\
First steps:
  freehold pull starter                     get two small models (about 190 MB)
  freehold index ~/Documents                read a folder
  freehold ask \"When does the lease end?\"   an answer with its sources

Without any model:
  freehold search \"boiler service\"          passages, ranked
  freehold ask --quotes \"boiler service\"    quotations, each with its place

With texts, one or a hundred thousand:
  freehold summarize report.md              in key points, a sentence, a headline
  freehold classify --labels a,b in.csv     and extract, rewrite, translate …

Data goes to stdout, talk to stderr. Exit status: 0 done, 1 nothing found,
2 wrong arguments, 130 interrupted; other numbers stand for kinds of faults.

Settings are read from $FREEHOLD_HOME/config.toml and from the environment:
FREEHOLD_HOME, FREEHOLD_PORT, FREEHOLD_OFFLINE, FREEHOLD_THREADS,
FREEHOLD_CONTEXT, FREEHOLD_KV_CACHE, FREEHOLD_OCR_LANGUAGES, NO_COLOR.";

const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new())
    .error(AnsiColor::Red.on_default().bold())
    .valid(AnsiColor::Green.on_default())
    .invalid(AnsiColor::Yellow.on_default());

static VERSION: LazyLock<String> = LazyLock::new(|| format!("{} (build {})", runtime::VERSION, runtime::BUILD));

#[derive(Debug, Parser)]
#[command(
    name = "freehold",
    about = "Ask your own files, with an open-weight model that runs on your own machine.\nNothing leaves it.",
    version = VERSION.as_str(),
    after_help = EXAMPLES,
    styles = STYLES,
    max_term_width = 100,
    arg_required_else_help = true,
    disable_help_subcommand = false
)]
pub(crate) struct Cli {
    /// Restart a daemon of another build, or with other settings, without asking
    #[arg(long, global = true, display_order = 900)]
    pub(crate) restart: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ask(ask::Args),
    Search(search::Args),
    Index(index::Args),
    Map(map::Args),
    Forget(forget::Args),
    Chat(chat::Args),
    Summarize(task::args::Summarize),
    Classify(task::args::Classify),
    Extract(task::args::Extract),
    Rewrite(task::args::Rewrite),
    Normalize(task::args::Normalize),
    Translate(task::args::Translate),
    Proofread(task::args::Proofread),
    Title(task::args::Title),
    DetectLanguage(task::args::DetectLanguage),
    Pull(pull::Args),
    Models(models::Args),
    Doctor(doctor::Args),
    Status(status::Args),
    Stop(stop::Args),
    Serve(serve::Args),
    Completions(completions::Args),
}

impl Command {
    /// Whether stdout is to hold exactly one JSON object, whatever happens.
    pub(crate) fn json(&self) -> bool {
        match self {
            Command::Ask(args) => args.json,
            Command::Search(args) => args.json,
            Command::Index(args) => args.json,
            Command::Map(args) => args.json,
            Command::Forget(args) => args.json,
            Command::Chat(args) => args.json,
            Command::Summarize(args) => args.json(),
            Command::Classify(args) => args.json(),
            Command::Extract(args) => args.json(),
            Command::Rewrite(args) => args.json(),
            Command::Normalize(args) => args.json(),
            Command::Translate(args) => args.json(),
            Command::Proofread(args) => args.json(),
            Command::Title(args) => args.json(),
            Command::DetectLanguage(args) => args.json(),
            Command::Pull(args) => args.json,
            Command::Models(args) => args.json,
            Command::Doctor(args) => args.json,
            Command::Status(args) => args.json,
            Command::Stop(_) | Command::Serve(_) | Command::Completions(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_with_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains(&format!("freehold {}", command.get_name())),
                "{} has no example",
                command.get_name()
            );
            assert!(
                help.lines().all(|line| line.chars().count() <= 78),
                "{} has long lines:\n{help}",
                command.get_name()
            );
            assert!(command.get_about().is_some(), "{} has no description", command.get_name());
        }
    }

    #[test]
    fn whatever_prints_data_has_json() {
        for (line, json) in [
            ("freehold ask x --json", true),
            ("freehold search x --json", true),
            ("freehold index . --json", true),
            ("freehold map --json", true),
            ("freehold map verify x --json", true),
            ("freehold forget x --json", true),
            ("freehold chat -m x --json", true),
            ("freehold summarize x --json", true),
            ("freehold classify --labels a,b x --json", true),
            ("freehold detect-language x --json", true),
            ("freehold pull starter --json", true),
            ("freehold models --json", true),
            ("freehold models add x --json", true),
            ("freehold doctor --json", true),
            ("freehold status --json", true),
            ("freehold stop", false),
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(cli.command.json(), json, "{line}");
        }
    }
}
