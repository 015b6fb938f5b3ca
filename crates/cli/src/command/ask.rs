//! `freehold ask`

use super::task::args::Wanted;
use super::{filter, fresh, map_or_folder, note, show_progress, speeds};
use crate::Context;
use crate::bar::Bar;
use crate::ending::{Ending, Outcome};
use crate::flow::{Flow, joined, wrapped};
use crate::link::{Lines, Link};
use crate::screen::{Screen, clean};
use crate::words::{count, file_uri, one_line, plural, short_path, span};
use base::Citation;
use runtime::view::{AskEvent, AskFilesRequest, Receipt, Reranking, uncounted};
use serde::Serialize;
use std::path::Path;
use unicode_width::UnicodeWidthStr;

const EXAMPLES: &str = "\
The answer comes word by word. Each [n] is a quotation that was looked up in
its file. Whether your files hold an answer is decided from what was found
there, not by the model: when they don't, Freehold says so, and the exit
status is 1.

Examples:
  freehold ask \"When does the lease end?\"
  freehold ask --folder ~/house \"How often must the boiler be serviced?\"
  freehold ask --type mail --after 2026-03 \"What did Nordlicht offer?\"
  freehold ask --quotes \"boiler service\"    quotations, no language model
  freehold ask --passages \"...\"             with the passages behind it
  freehold ask --text lease.txt \"When does the lease end?\"
  pdftotext lease.pdf - | freehold ask --text - \"How much is the rent?\"
  freehold ask \"...\" --json | jq '.citations[].path'";

/// Answer a question from your files, with citations
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The question, in your own words
    #[arg(required = true, num_args = 1..)]
    question: Vec<String>,
    /// Only this map, or the folder that it was made from
    #[arg(long, short, visible_alias = "map", value_name = "FOLDER|MAP")]
    folder: Option<String>,
    /// Answer from this text alone, not from your files: a file, a pattern, or `-` for the standard input
    #[arg(long, short, value_name = "FILE", conflicts_with_all = [
        "folder", "quotes", "tokens", "passages", "rerank", "folders", "types", "after", "before", "authors",
        "languages", "labels",
    ])]
    text: Option<String>,
    /// Print quotations alone: no language model between you and the source
    #[arg(long, short, conflicts_with_all = ["model", "tokens"])]
    quotes: bool,
    /// Answer with this model instead of the default one
    #[arg(long, short)]
    model: Option<String>,
    /// Most tokens to generate
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: Option<u32>,
    /// Show the passages that the answer was made from, too
    #[arg(long, short)]
    passages: bool,
    /// A second look at what was found by a reranking model: on, off, auto (where one is installed)
    #[arg(long, value_name = "WHEN", value_parser = filter::reranking, default_value = "auto")]
    rerank: Reranking,
    #[command(flatten)]
    only: filter::Only,
    /// Print one JSON object when it is done
    #[arg(long)]
    pub(crate) json: bool,
}

/// A passage that the answer was made from; its number is its citation's.
#[derive(Debug, Serialize)]
struct Passage {
    number: u32,
    path: String,
    heading: String,
    text: String,
}

/// The whole answer: what `--json` prints.
#[derive(Debug, Default, Serialize)]
struct Whole {
    /// Whether the files hold an answer.
    found: bool,
    answer: String,
    /// Why there is none.
    reason: Option<String>,
    citations: Vec<Citation>,
    /// With `--passages`: what the answer was made from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passages: Vec<Passage>,
    notices: Vec<String>,
    receipt: Option<Receipt>,
}

pub(crate) async fn run(args: Args, context: Context) -> Outcome {
    if let Some(text) = args.text {
        let wanted = Wanted::ask(&args.question.join(" "), text, args.model, args.json);
        return super::task::run(wanted, context).await;
    }
    let request = AskFilesRequest {
        question: args.question.join(" "),
        map: args.folder.as_deref().map(map_or_folder).transpose()?,
        model: args.model.unwrap_or_default(),
        quotes: args.quotes,
        tokens_max: args.tokens,
        passages: args.passages,
        filter: args.only.filter()?,
        rerank: args.rerank,
    };
    let link = Link::open(&context).await?;
    let lines = link.stream("ask", &request).await?;
    let mut printer = Printer::new(&context.screen, args.json);
    let outcome = printer.follow(lines).await;
    // Words that are on the screen already end in a line break, however it ended.
    printer.close()?;
    outcome?;
    printer.finish()
}

/// Prints events as they come, and keeps what `--json` and the end need.
struct Printer<'a> {
    screen: &'a Screen,
    json: bool,
    bar: Bar,
    flow: Flow,
    whole: Whole,
    /// Notes that came when the answer had begun; shown after it.
    late: Vec<String>,
}

impl<'a> Printer<'a> {
    fn new(screen: &'a Screen, json: bool) -> Self {
        let flow = Flow::new(screen.out_terminal.then_some(screen.width));
        Self {
            screen,
            json,
            bar: Bar::new(screen),
            flow,
            whole: Whole { found: true, ..Whole::default() },
            late: Vec::new(),
        }
    }

    async fn follow(&mut self, mut lines: Lines) -> Outcome {
        loop {
            match lines.next().await?.ok_or_else(Lines::cut_short)? {
                AskEvent::Progress { progress } => show_progress(&mut self.bar, &progress, "reading the passages"),
                AskEvent::Text { text } => self.text(&text)?,
                AskEvent::Notice { text } => {
                    let words = note(self.screen.err, &text);
                    // In the middle of the answer it would stand in the answer's own line.
                    if self.whole.answer.is_empty() {
                        self.bar.say(&words)
                    } else {
                        self.late.push(words)
                    }
                    self.whole.notices.push(text);
                }
                AskEvent::Citation { citation } => self.whole.citations.push(citation),
                AskEvent::Passage { number, path, heading, text } => {
                    self.whole.passages.push(Passage { number, path, heading, text });
                }
                AskEvent::NoAnswer { reason } => {
                    self.whole.found = false;
                    self.whole.reason = Some(reason);
                }
                AskEvent::Done { receipt } => {
                    self.whole.receipt = Some(receipt);
                    return Ok(());
                }
                AskEvent::Failed { fault } => return Err(fault.into()),
            }
        }
    }

    fn text(&mut self, text: &str) -> Result<(), Ending> {
        self.bar.clear();
        self.whole.answer.push_str(text);
        if !self.json {
            let out = self.flow.push(&self.screen.foreign(text));
            self.screen.piece(&out)?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Ending> {
        self.bar.clear();
        if !self.json && !self.whole.answer.is_empty() {
            let mut rest = self.flow.end();
            if self.flow.in_line() && !self.whole.answer.ends_with('\n') {
                rest.push('\n');
            }
            self.screen.piece(&rest)?;
        }
        Ok(())
    }

    fn finish(&self) -> Outcome {
        let screen = self.screen;
        for words in &self.late {
            screen.talk(words)?;
        }
        if self.json {
            screen.json(&self.whole)?;
        } else {
            if let Some(reason) = &self.whole.reason {
                screen.talk(&screen.err.bold("Your files hold no answer to this."))?;
                screen.talk(&wrapped(&clean(reason), screen.err_width(), ""))?;
            }
            let here = std::env::current_dir().ok();
            let sources: Vec<String> =
                self.whole.citations.iter().map(|citation| source(citation, here.as_deref(), screen)).collect();
            if !sources.is_empty() {
                let gap = if self.whole.answer.is_empty() { "" } else { "\n" };
                screen.data(&format!("{gap}{}", sources.join("\n")))?;
            }
            for passage in &self.whole.passages {
                screen.data(&format!("\n{}", shown(passage, here.as_deref(), screen)))?;
            }
            if let Some(receipt) = &self.whole.receipt {
                screen.talk(&screen.err.dim(&format!("\n{}", joined(&closing(receipt), screen.err_width()))))?;
                fresh::say(&receipt.freshness, screen)?;
            }
        }
        if self.whole.found { Ok(()) } else { Err(Ending::Nothing) }
    }
}

/// `[1] path:12-15  "quote"`; the quotation moves to lines of its own where it doesn't fit.
fn source(citation: &Citation, here: Option<&Path>, screen: &Screen) -> String {
    let paint = screen.out;
    let number = format!("[{}]", citation.number);
    let place = format!("{}:{}", screen.foreign(&short_path(&citation.path, here)), citation.place);
    let quote = format!("\"{}\"", screen.foreign(&one_line(&citation.quote)));
    let wide = number.width() + place.width() + quote.width() + 3;
    let linked = screen.linked(&paint.cyan(&place), &file_uri(&citation.path));
    let head = format!("{} {linked}", paint.bold(&number));
    if screen.out_terminal && wide > screen.width {
        format!("{head}\n    {}", wrapped(&quote, screen.width, "    "))
    } else {
        format!("{head}  {quote}")
    }
}

/// `[1] path › heading` and the whole passage below.
fn shown(passage: &Passage, here: Option<&Path>, screen: &Screen) -> String {
    let place = screen.foreign(&short_path(&passage.path, here)).into_owned();
    let heading = if passage.heading.is_empty() {
        String::new()
    } else {
        format!(" › {}", screen.foreign(&one_line(&passage.heading)))
    };
    let head = screen.out.bold(&format!("passage [{}]", passage.number));
    format!("{head} {place}{heading}\n{}", screen.foreign(passage.text.trim()))
}

/// What ran where, how fast, and what left the machine.
fn closing(receipt: &Receipt) -> Vec<String> {
    let mut parts = Vec::new();
    match &receipt.usage {
        Some(usage) => {
            let devices =
                if receipt.devices.is_empty() { String::new() } else { format!(" on {}", receipt.devices.join(", ")) };
            parts.push(format!("{}{devices}", clean(&usage.model)));
            parts.extend(speeds(usage));
        }
        None => parts.push("no language model".into()),
    }
    parts.push(format!("search {} in {} passages", span(receipt.search_us), count(receipt.passages_searched)));
    parts.push(format!("{} in all", span(receipt.total_us)));
    let left = plural(receipt.bytes_sent.0, "byte");
    parts.push(format!("{left} left this machine{}", uncounted(receipt.crossings_uncounted)));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{Bytes, Place, Usage};

    #[test]
    fn a_source_is_one_line_that_opens_the_place() {
        let citation = Citation {
            number: 2,
            path: "/home/me/house/heating.md".into(),
            place: Place::Lines { first: 12, last: 15, byte_start: 0, byte_end: 9 },
            title: "Heating".into(),
            quote: "serviced\n  on 3 March".into(),
            quote_hash: "x".into(),
        };
        let text = source(&citation, Some(Path::new("/home/me")), &Screen::plain());
        assert_eq!(text, "[2] house/heating.md:12-15  \"serviced on 3 March\"");
    }

    #[test]
    fn the_closing_line_says_what_ran_where_and_what_left() {
        let usage = Usage {
            prompt_tokens: 900,
            completion_tokens: 41,
            prefill_us: 400_000,
            decode_us: 400_000,
            model: "small:q4".into(),
            ..Usage::default()
        };
        let mut receipt = Receipt {
            usage: Some(usage),
            devices: vec!["CPU".into()],
            search_us: 3_120,
            total_us: 1_400_000,
            passages_searched: 1_340,
            bytes_sent: Bytes(0),
            crossings_uncounted: 0,
            freshness: Vec::new(),
        };
        assert_eq!(
            closing(&receipt).join(" · "),
            "small:q4 on CPU · prompt 900 tokens at 2,250/s · answer 41 tokens at 100/s · \
search 3.1 ms in 1,340 passages · 1.4 s in all · 0 bytes left this machine"
        );
        receipt.usage = None;
        receipt.bytes_sent = Bytes(2048);
        let parts = closing(&receipt);
        assert_eq!((parts[0].as_str(), parts[3].as_str()), ("no language model", "2,048 bytes left this machine"));
        (receipt.bytes_sent, receipt.crossings_uncounted) = (Bytes(0), 1);
        let last = closing(&receipt).pop().expect("parts");
        assert!(last.starts_with("0 bytes left this machine, plus 1 crossing whose sent bytes were not"), "{last}");
    }
}
