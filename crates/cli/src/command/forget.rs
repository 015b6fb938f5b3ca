//! `freehold forget`

use super::absolute;
use crate::Context;
use crate::ending::{Ending, Outcome};
use crate::link::Link;
use crate::screen::{Screen, clean};
use crate::words::{count, plural};
use api::native::{ForgetRequest, NameRequest};
use base::Bytes;
use runtime::view::ForgetReport;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Erases text, words, vectors and names that were read of a file or folder from
every map, and then searches the maps' files for what was erased: that nothing
is found is the proof. Your own files stay as they are; what is still there
isn't read again until you add it by name (`freehold map add`). Exit status 1
when something was found after all.

Examples:
  freehold forget ~/Documents/diary
  freehold forget --map letters             the map itself, with all it holds
  freehold forget ~/old.md --json | jq '.maps[].forgotten.traces'";

/// Erase what was read of a file, a folder or a whole map, and prove it
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// A file or folder; it need not exist any more
    #[arg(required_unless_present = "map", conflicts_with = "map")]
    path: Option<PathBuf>,
    /// This map as a whole
    #[arg(long, value_name = "NAME")]
    map: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) async fn run(args: Args, context: Context) -> Outcome {
    let link = Link::open(&context).await?;
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
    if report.maps.iter().any(|map| map.forgotten.traces_count > 0) { Err(Ending::Nothing) } else { Ok(()) }
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
        let mut report =
            ForgetReport { maps: vec![MapForgot { map: "house".into(), removed: false, forgotten }], unloaded: vec![] };
        let expected = "house  erased 1 file with 3 passages\n  proof: looked for 41 erased words and phrases in 12 files (1,234,567 bytes): none found";
        assert_eq!(text(&report), expected);
        let forgotten = &mut report.maps[0].forgotten;
        forgotten.traces = vec![Trace { file: "/m/left".into(), what: "canary".into() }];
        forgotten.traces_count = 1;
        assert!(text(&report).ends_with("1 FOUND\n    /m/left holds `canary`"), "{}", text(&report));
    }
}
