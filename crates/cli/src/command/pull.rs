//! `freehold pull`

use super::models::text;
use super::note;
use crate::Context;
use crate::bar::{Bar, Unit};
use crate::ending::Outcome;
use crate::link::{Lines, Link};
use crate::screen::{Screen, clean};
use crate::words::plural;
use api::native::{Models, PullRequest};
use base::Bytes;
use runtime::view::PullEvent;

const EXAMPLES: &str = "\
What will be fetched is said before its first byte: size, source, licence,
SHA-256. Every file is verified before it is used, and every download has an
entry in the ledger. An interrupted download goes on where it stopped.

Examples:
  freehold pull starter                    a chat model and an embedding model
  freehold pull hf:OWNER/REPO              the repository's usual quantization
  freehold pull hf:OWNER/REPO:Q4_K_M       this one";

/// Get models, verified by SHA-256
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// `starter`, or `hf:OWNER/REPO[:QUANT]`
    what: String,
    /// Print one JSON object when it is done
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(args: Args, context: Context) -> Outcome {
    let screen = &context.screen;
    let link = Link::open(&context).await?;
    let mut lines = link.stream("pull", &PullRequest { what: args.what }).await?;
    let mut bar = Bar::new(screen);
    loop {
        match lines.next().await?.ok_or_else(Lines::cut_short)? {
            PullEvent::Plan { what, source, bytes, license, sha256 } => {
                bar.say(&plan(screen, &what, &source, bytes, &license, sha256.as_deref()));
            }
            PullEvent::Progress { what, done, total } => {
                bar.set(&what, done.0, total.map(|bytes| bytes.0), Unit::Bytes)
            }
            PullEvent::Notice { text } => bar.say(&note(screen.err, &text)),
            PullEvent::Done { models } => {
                bar.clear();
                if args.json {
                    screen.json(&Models::of(models))?;
                } else {
                    screen.data(&text(&models, screen))?;
                    screen.talk(&screen.err.dim(&format!("{} ready", plural(models.len() as u64, "model"))))?;
                }
                return Ok(());
            }
            PullEvent::Failed { fault } => {
                bar.clear();
                return Err(fault.into());
            }
        }
    }
}

fn plan(
    screen: &Screen,
    what: &str,
    source: &str,
    bytes: Option<Bytes>,
    license: &str,
    sha256: Option<&str>,
) -> String {
    let size = bytes.map_or_else(|| "size not stated".to_string(), |bytes| bytes.to_string());
    let license = if license.is_empty() { "licence not stated" } else { license };
    let mut text = format!("{}  {size} · {} · from {}", screen.err.bold(&clean(what)), clean(license), clean(source));
    if let Some(sha256) = sha256 {
        text.push_str(&screen.err.dim(&format!("\n  SHA-256 {}", clean(sha256))));
    }
    text
}
