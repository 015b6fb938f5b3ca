//! Markdown: the words without their markup, each with its place in the source.

use super::build::Builder;
use super::html;
use super::said::{Told, front_matter};
use crate::document::{BlockKind, Document, Format, Said};
use crate::source::Decoded;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use std::ops::Range;

pub(crate) fn read(decoded: &Decoded) -> Document {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS;
    let mut reading = Reading {
        decoded,
        builder: Builder::new(decoded.encoding),
        items: 0,
        metadata: false,
        title: None,
        said: Said::default(),
        html: None,
    };
    for (event, range) in Parser::new_ext(&decoded.text, options).into_offset_iter() {
        if reading.builder.is_full() {
            break;
        }
        reading.event(event, range);
    }
    reading.flush_html();
    reading.close(BlockKind::Text);
    let Reading { builder, title, said, .. } = reading;
    Document { said, ..builder.into_source(Format::Markdown, title) }
}

struct Reading<'a> {
    decoded: &'a Decoded,
    builder: Builder,
    /// Depth of list items around this place.
    items: u32,
    metadata: bool,
    title: Option<String>,
    said: Said,
    /// Range of the HTML block that is being passed; its lines come as separate events.
    html: Option<Range<usize>>,
}

impl Reading<'_> {
    fn event(&mut self, event: Event<'_>, range: Range<usize>) {
        if !matches!(event, Event::Html(_)) {
            self.flush_html();
        }
        match event {
            Event::Text(text) => self.text(&text, range),
            Event::Code(code) => self.code(&code, range),
            Event::SoftBreak => self.builder.space(),
            Event::HardBreak => self.builder.gap('\n'),
            Event::Html(_) => {
                let start = self.html.take().map_or(range.start, |html| html.start);
                self.html = Some(start..range.end);
            }
            Event::InlineHtml(tag) => {
                if tag.starts_with("<br") {
                    self.builder.gap('\n');
                }
            }
            Event::Start(tag) => self.start(&tag),
            Event::End(tag) => self.end(tag),
            Event::TaskListMarker(done) => {
                let at = self.decoded.text[range.clone()].find(if done { ['x', 'X'] } else { [' ', '\t'] });
                if let (true, Some(at)) = (done, at) {
                    self.text("x", range.start + at..range.start + at + 1);
                    self.builder.space();
                }
            }
            Event::FootnoteReference(_) | Event::Rule | Event::InlineMath(_) | Event::DisplayMath(_) => {}
        }
    }

    /// Words of inline code, one by one: its range holds backticks, and line breaks that have become spaces.
    fn code(&mut self, code: &str, range: Range<usize>) {
        let mut at = range.start;
        for word in code.split_whitespace() {
            let Some(found) = self.decoded.text[at..range.end].find(word) else { continue };
            self.text(word, at + found..at + found + word.len());
            self.builder.space();
            at += found + word.len();
        }
        // What follows the code joins it unless white space stands there.
        self.builder.unspace();
    }

    fn text(&mut self, text: &str, range: Range<usize>) {
        let source = self.decoded.source(range.start)..self.decoded.source(range.end);
        if self.decoded.text[range] == *text {
            self.builder.push(text, source);
        } else {
            self.builder.push_decoded(text, source);
        }
    }

    fn start(&mut self, tag: &Tag<'_>) {
        match tag {
            Tag::Item => {
                self.close(BlockKind::Text);
                self.items += 1;
            }
            Tag::List(_) | Tag::CodeBlock(_) | Tag::Table(_) | Tag::BlockQuote(_) | Tag::Heading { .. } => {
                self.close(if self.items > 0 { BlockKind::Item } else { BlockKind::Text });
            }
            Tag::MetadataBlock(_) => self.metadata = true,
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let kind = self.builder.heading(level as u8);
                if self.title.is_none() && kind == BlockKind::Heading(1) && !self.builder.is_blank() {
                    self.title = Some(self.builder.current().to_owned());
                }
                self.close(kind);
            }
            TagEnd::Item => {
                self.close(BlockKind::Item);
                self.items = self.items.saturating_sub(1);
            }
            TagEnd::Paragraph => self.close(if self.items > 0 { BlockKind::Item } else { BlockKind::Text }),
            TagEnd::CodeBlock => self.close(BlockKind::Code),
            TagEnd::TableCell => self.builder.gap('\t'),
            TagEnd::TableHead | TagEnd::TableRow => self.close(BlockKind::Row),
            TagEnd::MetadataBlock(_) => {
                self.metadata = false;
                let Told { title, said, .. } = front_matter(self.builder.current());
                self.title = title.or(self.title.take());
                if self.said == Said::default() {
                    self.said = said;
                }
                self.close(BlockKind::Text);
            }
            TagEnd::FootnoteDefinition | TagEnd::BlockQuote(_) => self.close(BlockKind::Text),
            _ => {}
        }
    }

    fn close(&mut self, kind: BlockKind) {
        self.builder.close(kind, 0);
    }

    fn flush_html(&mut self) {
        let Some(range) = self.html.take() else { return };
        html::read_into(&mut self.builder, &self.decoded.text[range.clone()], &|at| {
            self.decoded.source(range.start + at)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Origin;
    use crate::source::{decode, straight};

    fn document(text: &str) -> Document {
        let decoded = decode(text.as_bytes()).expect("text");
        let document = read(&decoded);
        assert_eq!(document.check(text.len()), Ok(()), "{document:#?}");
        let Origin::Source { encoding, runs } = &document.origin else { panic!("it has runs") };
        for run in runs.iter().filter(|run| straight(&document.text, run, *encoding)) {
            let words = &document.text[run.text as usize..(run.text + run.text_len) as usize];
            assert_eq!(words, &text[run.source as usize..(run.source + run.source_len) as usize]);
        }
        document
    }

    #[test]
    fn words_lose_their_markup_and_keep_their_place() {
        let text = "# The *big* boiler\n\nService it **every 12 months**, `never` later &amp; call \\*Ann\\*.\n\n\
                    - first [link](https://example.org)\n  - nested\n- [x] done\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n\
                    ```rust\nlet x = 1;\n```\n\n<div>block <b>html</b></div>\n\nend\n";
        let document = document(text);
        assert_eq!(document.title.as_deref(), Some("The big boiler"));
        let shape: Vec<_> = document.blocks.iter().map(|block| (block.kind, document.block_text(block))).collect();
        assert_eq!(
            shape,
            [
                (BlockKind::Heading(1), "The big boiler"),
                (BlockKind::Text, "Service it every 12 months, never later & call *Ann*."),
                (BlockKind::Item, "first link"),
                (BlockKind::Item, "nested"),
                (BlockKind::Item, "x done"),
                (BlockKind::Row, "a\tb"),
                (BlockKind::Row, "1\t2"),
                (BlockKind::Code, "let x = 1;"),
                (BlockKind::Text, "block html"),
                (BlockKind::Text, "end"),
            ]
        );
    }

    #[test]
    fn front_matter_gives_title_author_and_date() {
        let document = document("---\ntitle: \"House notes\"\ndate: 2025-01-02\n---\n\ntext\n");
        assert_eq!(document.title.as_deref(), Some("House notes"));
        assert!(document.text.contains("2025-01-02"));
        assert_eq!(document.said.created.as_deref(), Some("2025-01-02"));
        let toml = self::document("+++\ntitle = \"Garden\"\nauthor = \"Ada Lund\"\n+++\n\ntext\n");
        assert_eq!((toml.title.as_deref(), toml.said.author.as_deref()), (Some("Garden"), Some("Ada Lund")));
        assert!(toml.text.contains("Ada Lund"));
        let plain = self::document("Plain words\n\nauthor: nobody\n");
        assert_eq!(plain.said, Said::default());
    }
}
