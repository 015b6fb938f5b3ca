//! `freehold models`

use super::table::columns;
use super::{absolute, note};
use crate::Context;
use crate::ending::Outcome;
use crate::link::Link;
use crate::screen::{Screen, clean};
use crate::words::{count, cut, parameters, plural};
use api::native::{AddRequest, Models, NameRequest, PinRequest};
use clap::Subcommand;
use runtime::view::ModelRow;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  freehold models                  what there is; * default, ^ pinned
  freehold models add ~/models     every model in a folder, used where it lies
  freehold models add big.gguf     one file; nothing is copied
  freehold models default big      take this one when none is named
  freehold models pin big          keep it in memory once it is there
  freehold models unpin big        let it go again when it is idle
  freehold models remove big       forget it; your own files stay
  freehold models check big        does it loop, write JSON, how fast is it?
  freehold models --json | jq '.models[].path'";

/// List models, add your own files, choose the default
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print one JSON object
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List models (the same as no action)
    List,
    /// Use a GGUF file, or all of a folder, where it lies: nothing is copied
    Add {
        #[arg(value_name = "FILE|FOLDER")]
        path: PathBuf,
    },
    /// Forget a model; its file is deleted only when Freehold pulled it
    Remove {
        /// As it is listed; a beginning that is no other's is enough
        name: String,
    },
    /// Keep a model in memory once it is there: not let go when idle, nor to make room
    Pin {
        /// As it is listed; a beginning that is no other's is enough
        name: String,
    },
    /// Let a pinned model go again like any other
    Unpin {
        /// As it is listed; a beginning that is no other's is enough
        name: String,
    },
    /// Measure how well a model does here: template, loops, JSON, perplexity, speed
    Check {
        /// As it is listed; a beginning that is no other's is enough
        name: String,
    },
    /// Take this model when none is named
    Default {
        /// As it is listed; a beginning that is no other's is enough
        name: String,
    },
}

pub(crate) async fn run(args: Args, context: Context) -> Outcome {
    let screen = &context.screen;
    let link = Link::open(&context).await?;
    let (said, models): (Option<&str>, Models) = match args.action {
        Some(Action::Check { name }) => return super::check::run(name, args.json, screen, &link).await,
        None | Some(Action::List) => (None, link.get("models").await?),
        Some(Action::Add { path }) => {
            (Some("added"), link.post("models/add", &AddRequest { path: absolute(&path)? }).await?)
        }
        Some(Action::Remove { name }) => (Some("removed"), link.post("models/remove", &NameRequest { name }).await?),
        Some(Action::Pin { name }) => {
            (Some("pinned"), link.post("models/pin", &PinRequest { name, pinned: true }).await?)
        }
        Some(Action::Unpin { name }) => {
            (Some("no longer pinned"), link.post("models/pin", &PinRequest { name, pinned: false }).await?)
        }
        Some(Action::Default { name }) => {
            (Some("taken from now on"), link.post("models/default", &NameRequest { name }).await?)
        }
    };
    if args.json {
        screen.json(&models)?;
        return Ok(());
    }
    if models.models.is_empty() {
        screen.talk("There is no model yet. Get the starter models (about 190 MB): `freehold pull starter`")?;
        screen.talk("Or use a file that you have: `freehold models add FILE.gguf`")?;
        return Ok(());
    }
    screen.data(&text(&models.models, screen))?;
    for refused in &models.refused {
        screen.talk(&note(screen.err, &format!("`{}` was not added: {}", refused.path, refused.fault)))?;
    }
    if let Some(said) = said {
        screen.talk(&screen.err.dim(&format!("{} {said}", plural(models.models.len() as u64, "model"))))?;
    }
    Ok(())
}

/// `*` for the one that is taken when none is named, `^` for one that is kept in memory.
fn marks(model: &ModelRow) -> String {
    let mark = |is: bool, mark: &'static str| if is { mark } else { "" };
    format!("{}{}", mark(model.default, "*"), mark(model.pinned, "^"))
}

/// The table that `models` and `pull` print.
pub(super) fn text(models: &[ModelRow], screen: &Screen) -> String {
    let heads = ["", "NAME", "FOR", "SIZE", "PARAMS", "WINDOW", "LICENCE", "FROM"];
    let mut rows = vec![heads.iter().map(ToString::to_string).collect::<Vec<_>>()];
    for model in models {
        rows.push(vec![
            marks(model),
            clean(&model.name).into_owned(),
            clean(&model.kind).into_owned(),
            model.bytes.to_string(),
            parameters(model.parameters),
            count(u64::from(model.context_max)),
            clean(&model.license).into_owned(),
            clean(&model.source).into_owned(),
        ]);
    }
    // Where it came from matters least, and is cut first.
    let mut lines: Vec<String> = columns(&rows, &[3, 4, 5]).iter().map(|line| cut(line, screen.out_width())).collect();
    lines[0] = screen.out.dim(&lines[0]);
    // Problems and notes stand below their model's line, so the table is walked from its end.
    for (n, model) in models.iter().enumerate().rev() {
        for said in model.template_notes.iter().rev() {
            lines.insert(n + 2, format!("   {} {}", screen.out.dim("template:"), clean(said)));
        }
        if let Some(draft) = &model.draft_model {
            lines.insert(n + 2, format!("   {} {}", screen.out.dim("drafts by:"), clean(draft)));
        }
        if let Some(problem) = &model.problem {
            lines.insert(n + 2, format!("   {} {}", screen.out.yellow("problem:"), clean(problem)));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Bytes;

    #[test]
    fn a_problem_stands_below_its_model() {
        let row = |name: &str, problem: Option<&str>| ModelRow {
            name: name.into(),
            kind: "chat".into(),
            arch: "llama".into(),
            quantization: "Q4_1".into(),
            parameters: 134_515_008,
            bytes: Bytes(98 << 20),
            context_max: 8192,
            context_tokens: 8192,
            pinned: name == "b",
            license: "apache-2.0".into(),
            source: "in place".into(),
            path: "/x".into(),
            sha256: None,
            default: name == "a",
            draft_model: (name == "b").then(|| "small".into()),
            problem: problem.map(str::to_string),
            template_notes: if name == "b" { vec!["wants turns".into()] } else { Vec::new() },
        };
        let text = text(&[row("a", Some("its file is gone")), row("b", None)], &Screen::plain());
        let expected = "\
\x20  NAME  FOR     SIZE  PARAMS  WINDOW  LICENCE     FROM
*  a     chat  98 MiB    135M   8,192  apache-2.0  in place
   problem: its file is gone
^  b     chat  98 MiB    135M   8,192  apache-2.0  in place
   drafts by: small
   template: wants turns";
        assert_eq!(text, expected);
    }
}
