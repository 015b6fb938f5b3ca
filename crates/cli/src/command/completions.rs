//! `freehold completions SHELL`

use crate::args::Cli;
use crate::ending::Outcome;
use crate::screen::Screen;
use clap::CommandFactory;
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  freehold completions fish > ~/.config/fish/completions/freehold.fish
  freehold completions zsh > ~/.zfunc/_freehold       (a folder of your fpath)
  source <(freehold completions bash)                 (in your ~/.bashrc)";

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, screen: &Screen) -> Outcome {
    let mut bytes = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "freehold", &mut bytes);
    screen.piece(&String::from_utf8_lossy(&bytes))?;
    Ok(())
}
