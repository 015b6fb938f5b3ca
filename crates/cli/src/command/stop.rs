//! `freehold stop`

use crate::Context;
use crate::ending::Outcome;
use crate::link::Link;

const EXAMPLES: &str = "\
Answers that run get ten seconds to finish. The next command that needs the
daemon starts it again.

Examples:
  freehold stop";

/// End the daemon, and wait until it has gone
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, context: Context) -> Outcome {
    let Some(link) = Link::find(&context.settings).await? else {
        context.screen.talk("Freehold isn't running.")?;
        return Ok(());
    };
    link.stop().await?;
    context.screen.talk(&format!("Freehold has stopped (process {}).", link.hello.pid))?;
    Ok(())
}
