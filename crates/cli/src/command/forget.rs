//! `freehold forget`

use super::absolute;
use crate::Context;
use crate::ending::{Ending, Outcome};
use crate::link::Link;
use crate::screen::{Screen, clean};
use crate::words::{count, plural};
use api::native::{ForgetPromptsRequest, ForgetRequest, NameRequest};
use base::Bytes;
use runtime::view::{ForgetReport, PromptsForgot};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Erases text, words, vectors and names that were read of a file or folder from
every map, and then searches the maps' files for what was erased: that nothing
is found is the proof. Your own files stay as they are; what is still there
isn't read again until you add it by name (`freehold map add`). What models
keep of prompts, in memory and on disk, goes as well. Exit status 1 when
something was found after all.

Examples:
  freehold forget ~/Documents/diary
  freehold forget --map letters             the map itself, with all it holds
  freehold forget --prompts                 only what models keep of prompts
  freehold forget --prompts --app notes     of this program's prompts
  freehold forget ~/old.md --json | jq '.maps[].forgotten.traces'";

/// Erase what was read of a file, a folder or a whole map, and prove it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A file or folder; it need not exist any more
    #[arg(required_unless_present_any = ["map", "prompts"], conflicts_with_all = ["map", "prompts"])]
    path: Option<PathBuf>,
    /// This map as a whole
    #[arg(long, value_name = "NAME")]
    map: Option<String>,
    /// What models keep of prompts, and nothing else
    #[arg(long, conflicts_with = "map")]
    prompts: bool,
    /// Of this program's prompts only
    #[arg(long, value_name = "NAME", requires = "prompts")]
    app: Option<String>,
    /// Of prompts to this model only
    #[arg(long, value_name = "NAME", requires = "prompts")]
    model: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(args: Args, context: Context) -> Outcome {
    let link = Link::open(&context).await?;
    if args.prompts {
        let request = ForgetPromptsRequest { app: args.app, model: args.model };
        let forgot: PromptsForgot = link.post("prompts/forget", &request).await?;
        if args.json {
            context.screen.json(&forgot)?;
        } else {
            context.screen.data(&of_prompts(&forgot))?;
        }
        return if is_clean(&forgot) { Ok(()) } else { Err(Ending::Nothing) };
    }
    let report: ForgetReport = match (args.path, args.map) {
        (Some(path), _) => link.post("forget", &ForgetRequest { path: absolute(&path)? }).await?,
        (None, name) => link.post("maps/remove", &NameRequest { name: name.unwrap_or_default() }).await?,
    };
    show(&report, args.json, &context.screen)
}

pub(super) fn show(report: &ForgetReport, json: bool, screen: &Screen) -> Outcome {
    if json {
        screen.json(report)?;
    } else {
        screen.data(&text(report))?;
    }
    let found = report.maps.iter().any(|map| map.forgotten.traces_count > 0);
    if found || !is_clean(&report.prompts) { Err(Ending::Nothing) } else { Ok(()) }
}

fn is_clean(prompts: &PromptsForgot) -> bool {
    prompts.left == 0 && prompts.problem.is_none()
}

/// `prompts  let go of 3 kept in memory (412.0 MiB) and 2 files (…); none left on disk`
fn of_prompts(prompts: &PromptsForgot) -> String {
    let left = match (&prompts.problem, prompts.left) {
        (Some(problem), _) => format!("NOT COMPLETE: {}", clean(problem)),
        (None, 0) => "none left on disk".to_string(),
        (None, left) => format!("{} LEFT on disk", plural(left, "file")),
    };
    format!(
        "prompts  let go of {} kept in memory ({}) and {} ({}); {left}",
        count(prompts.states),
        prompts.states_bytes,
        plural(prompts.files, "file"),
        prompts.files_bytes,
    )
}

fn text(report: &ForgetReport) -> String {
    let mut lines = Vec::new();
    for map in &report.maps {
        let forgotten = &map.forgotten;
        let went = if map.removed { ", and the map itself" } else { "" };
        lines.push(format!(
            "{}  erased {} with {}{went}",
            clean(&map.map),
            plural(forgotten.files, "file"),
            plural(forgotten.passages, "passage")
        ));
        let Bytes(bytes) = forgotten.bytes_searched;
        let found = match forgotten.traces_count {
            _ if forgotten.witnesses == 0 => {
                "nothing to look for: the erased words all stand in other files of this map".to_string()
            }
            0 => "none found".to_string(),
            traces => format!("{} FOUND", count(traces)),
        };
        lines.push(format!(
            "  proof: looked for {} in {} ({} bytes): {found}",
            plural(forgotten.witnesses, "erased word and phrase").replace("word and phrases", "words and phrases"),
            plural(forgotten.files_searched, "file"),
            count(bytes),
        ));
        for trace in &forgotten.traces {
            lines.push(format!("    {} holds `{}`", clean(&trace.file.display().to_string()), clean(&trace.what)));
        }
    }
    if !report.unloaded.is_empty() {
        let names: Vec<String> = report.unloaded.iter().map(|name| clean(name).into_owned()).collect();
        lines.push(format!("  let go of {}, which may have kept prompts in memory", names.join(", ")));
    }
    lines.push(of_prompts(&report.prompts));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::view::{Forgotten, MapForgot, Trace};

    #[test]
    fn the_proof_says_how_much_was_looked_through() {
        let forgotten = Forgotten {
            files: 1,
            passages: 3,
            witnesses: 41,
            files_searched: 12,
            bytes_searched: Bytes(1_234_567),
            ..Forgotten::default()
        };
        let maps = vec![MapForgot { map: "house".into(), removed: false, forgotten }];
        let prompts = PromptsForgot { states: 2, files: 1, files_bytes: Bytes(2048), ..PromptsForgot::default() };
        let mut report = ForgetReport { maps, unloaded: vec![], prompts };
        let expected = "house  erased 1 file with 3 passages\n  proof: looked for 41 erased words and phrases in 12 files (1,234,567 bytes): none found\n\
            prompts  let go of 2 kept in memory (0 B) and 1 file (2.0 KiB); none left on disk";
        assert_eq!(text(&report), expected);
        report.prompts.left = 1;
        assert!(text(&report).ends_with("; 1 file LEFT on disk") && !is_clean(&report.prompts));
        let forgotten = &mut report.maps[0].forgotten;
        forgotten.traces = vec![Trace { file: "/m/left".into(), what: "canary".into() }];
        forgotten.traces_count = 1;
        assert!(text(&report).contains("1 FOUND\n    /m/left holds `canary`\n"), "{}", text(&report));
    }
}
