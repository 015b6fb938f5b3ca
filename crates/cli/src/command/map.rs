//! `freehold map`

use super::table::columns;
use super::{absolute, forget, fresh, index};
use crate::Context;
use crate::ending::{Ending, Outcome};
use crate::link::Link;
use crate::screen::{Screen, clean};
use crate::words::{count, cut, plural};
use api::native::{AddMapRequest, MapList, NameRequest, PauseRequest};
use base::Label;
use clap::Subcommand;
use runtime::view::{MapDetails, MapSummary, MapVerified};
use std::path::PathBuf;

const EXAMPLES: &str = "\
A map is what Freehold knows of some folders and files. It is kept up to date
by itself: what you save is found a second later. Your files stay as they are.

Examples:
  freehold map                                    what there is
  freehold map add house ~/house ~/lease.pdf      make one, or add to it
  freehold map add notes ~/notes --label public   who may see what it holds
  freehold map show house                         its sources, how fresh it is
  freehold map pause house                        read nothing until `resume`
  freehold map verify house                       check it against the files
  freehold map list --json | jq '.maps[].sources'";

/// Maps of your folders and files: make, look into, pause, check, remove
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
    /// List maps (the same as no action)
    List,
    /// Make a map of folders and files, or add them to one, and read them
    Add {
        /// Small letters and digits with `-` between
        name: String,
        #[arg(value_name = "FOLDER|FILE")]
        sources: Vec<PathBuf>,
        /// private (the default), shareable or public
        #[arg(long, value_parser = label)]
        label: Option<Label>,
    },
    /// Show one map: sources, freshness, what is never read
    Show { name: String },
    /// Stop keeping a map up to date
    Pause { name: String },
    /// Go on keeping it up to date
    Resume { name: String },
    /// Remove a map with all that was read for it, and prove it; your files stay
    Remove { name: String },
    /// Throw away what is derived and read all files again
    Rebuild { name: String },
    /// Check a map against its files and itself; repair what can be
    Verify { name: String },
}

pub(super) fn label(text: &str) -> Result<Label, String> {
    Label::parse(text).ok_or_else(|| "there are private, shareable and public".to_string())
}

pub(crate) async fn run(args: Args, context: Context) -> Outcome {
    let (screen, json) = (&context.screen, args.json);
    let link = Link::open(&context).await?;
    match args.action.unwrap_or(Action::List) {
        Action::List => list(&link.get("maps").await?, json, screen),
        Action::Add { name, sources, label } => {
            let sources = sources.iter().map(|source| absolute(source)).collect::<Result<_, _>>()?;
            let lines = link.stream("maps/add", &AddMapRequest { name, sources, label }).await?;
            index::follow(lines, json, screen).await
        }
        Action::Rebuild { name } => {
            let lines = link.stream("maps/rebuild", &NameRequest { name }).await?;
            index::follow(lines, json, screen).await
        }
        Action::Show { name } => {
            let details: MapDetails = link.post("maps/show", &NameRequest { name }).await?;
            if json {
                screen.json(&details)?;
            } else {
                screen.data(&shown(&details))?;
            }
            Ok(())
        }
        Action::Pause { name } => {
            list(&link.post("maps/pause", &PauseRequest { name, paused: true }).await?, json, screen)
        }
        Action::Resume { name } => {
            list(&link.post("maps/pause", &PauseRequest { name, paused: false }).await?, json, screen)
        }
        Action::Remove { name } => forget::show(&link.post("maps/remove", &NameRequest { name }).await?, json, screen),
        Action::Verify { name } => {
            let verified: MapVerified = link.post("maps/verify", &NameRequest { name }).await?;
            if json {
                screen.json(&verified)?;
            } else {
                screen.data(&checked(&verified))?;
            }
            let broken = verified.inspection.problems.iter().any(|problem| !problem.repaired);
            if broken { Err(Ending::Nothing) } else { Ok(()) }
        }
    }
}

fn list(list: &MapList, json: bool, screen: &Screen) -> Outcome {
    if json {
        screen.json(list)?;
    } else if list.maps.is_empty() {
        screen.talk("There is no map yet. `freehold index FOLDER` makes one; `freehold map add NAME …` names it.")?;
    } else {
        screen.data(&table(&list.maps, screen))?;
    }
    Ok(())
}

fn table(maps: &[MapSummary], screen: &Screen) -> String {
    let heads = ["NAME", "LABEL", "DOCUMENTS", "PASSAGES", "VECTORS", "ON DISK", "STATE", "SOURCES"];
    let mut rows = vec![heads.iter().map(ToString::to_string).collect::<Vec<_>>()];
    for map in maps {
        let state = fresh::parts(&map.freshness);
        let sources: Vec<String> = map.sources.iter().map(|source| clean(source).into_owned()).collect();
        rows.push(vec![
            clean(&map.name).into_owned(),
            map.label.to_string(),
            count(map.documents),
            count(map.passages),
            count(map.embedded),
            map.bytes_on_disk.to_string(),
            if state.is_empty() { "by hand".into() } else { cut(&state.join(", "), 40) },
            sources.join(", "),
        ]);
    }
    let mut lines: Vec<String> =
        columns(&rows, &[2, 3, 4, 5]).iter().map(|line| cut(line, screen.out_width())).collect();
    lines[0] = screen.out.dim(&lines[0]);
    lines.join("\n")
}

fn shown(details: &MapDetails) -> String {
    let map = &details.map;
    let mut rows = vec![
        vec!["label".to_string(), map.label.to_string()],
        vec!["documents".into(), format!("{} ({} without text)", count(map.documents), count(details.skipped))],
        vec!["passages".into(), format!("{}, {} with vectors", count(map.passages), count(map.embedded))],
        vec![
            "vectors by".into(),
            details.embedder.as_deref().map_or("no model yet".into(), |name| clean(name).into_owned()),
        ],
        vec!["on disk".into(), map.bytes_on_disk.to_string()],
        vec!["first read".into(), map.indexed_at.clone().unwrap_or_else(|| "not complete yet".into())],
    ];
    let state = fresh::parts(&map.freshness);
    rows.push(vec!["state".into(), if state.is_empty() { "by hand".into() } else { state.join("; ") }]);
    rows.extend(map.freshness.checked_at.clone().map(|at| vec!["compared".to_string(), at]));
    if details.forgotten > 0 {
        rows.push(vec!["forgotten".into(), format!("{}, not read again", plural(details.forgotten, "place"))]);
    }
    let list = |head: &str, items: &[String]| -> Vec<Vec<String>> {
        let head = |at: usize| if at == 0 { head.to_string() } else { String::new() };
        items.iter().enumerate().map(|(at, item)| vec![head(at), clean(item).into_owned()]).collect()
    };
    rows.extend(list("sources", &map.sources));
    rows.extend(list("never read", &details.never_read));
    let mut lines = vec![clean(&map.name).into_owned()];
    lines.extend(columns(&rows, &[]).into_iter().map(|line| format!("  {line}")));
    lines.join("\n")
}

fn checked(verified: &MapVerified) -> String {
    let seen = &verified.inspection;
    let mut lines = vec![format!(
        "{}  {}, {} in the record, {} in the word index, {} (generation {})",
        clean(&verified.map),
        plural(seen.files, "file"),
        plural(seen.passages, "passage"),
        count(seen.found_by_words),
        plural(seen.vectors, "vector"),
        seen.generation
    )];
    for problem in &seen.problems {
        let sign = if problem.repaired { "repaired" } else { "BROKEN" };
        lines.push(format!("  {sign}: {}: {}", clean(&problem.what), clean(&problem.remedy)));
    }
    if seen.problems.is_empty() {
        lines.push("  all of it fits together".into());
    }
    if seen.files_behind > 0 {
        lines.push(format!(
            "  {} changed since they were read; the next run takes them up",
            plural(seen.files_behind, "file")
        ));
    }
    lines.join("\n")
}
