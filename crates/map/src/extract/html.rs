//! HTML: readable text without scripts, styles and navigation, each word with its place in the source.
//!
//! A token stream, no tree: nesting of any depth costs one counter. What stands beside the readable part (footers,
//! side bars, cookie banners) comes behind it, in passages of its own: it can be found, and is mixed with nothing.

use super::build::Builder;
use super::said::{self, Told};
use crate::document::{BlockKind, Document, Format, Said};
use crate::source::{Decoded, Encoding};
use html5gum::emitters::default::DefaultEmitter;
use html5gum::{State, Token, Tokenizer};

pub(crate) fn read(decoded: &Decoded) -> Document {
    let mut builder = Builder::new(decoded.encoding);
    let source = |at: usize| decoded.source(at);
    let mut measure = Builder::new(decoded.encoding);
    let (mut readable, mut beside) = (0, 0);
    let (_, said) =
        pass(&mut measure, &decoded.text, &source, Pass::Measure { readable: &mut readable, beside: &mut beside });
    // A page that is nearly all furniture only looks so.
    if beside == 0 || readable < beside / READABLE_SHARE {
        let title = read_into(&mut builder, &decoded.text, &source);
        return Document { said, ..builder.into_source(Format::Html, title) };
    }
    let (title, _) = pass(&mut builder, &decoded.text, &source, Pass::Readable);
    builder.part("");
    pass(&mut builder, &decoded.text, &source, Pass::Beside);
    Document { said, ..builder.into_source(Format::Html, title) }
}

/// The readable part has at least this share (one in so many) of the words beside it.
const READABLE_SHARE: usize = 3;

/// Which words of a page are taken.
enum Pass<'a> {
    All,
    Readable,
    Beside,
    /// None; they are counted, in bytes.
    Measure {
        readable: &'a mut usize,
        beside: &'a mut usize,
    },
}

/// Elements that stand beside the text by what they are.
const BESIDE: [&[u8]; 3] = [b"footer", b"aside", b"header"];
/// Elements that hold the text, whatever they are called.
const HOLDS: [&[u8]; 5] = [b"html", b"body", b"main", b"article", b"h1"];
/// Words in an element's class or id that say that it stands beside the text.
const BESIDE_WORDS: [&str; 18] = [
    "cookie",
    "cookies",
    "consent",
    "gdpr",
    "banner",
    "navbar",
    "navigation",
    "sidebar",
    "breadcrumb",
    "breadcrumbs",
    "share",
    "social",
    "newsletter",
    "subscribe",
    "footer",
    "advert",
    "advertisement",
    "popup",
];
const BESIDE_ROLES: [&[u8]; 5] = [b"navigation", b"banner", b"contentinfo", b"complementary", b"dialog"];

fn is_beside(name: &[u8], attribute: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> bool {
    let said = |key: &[u8]| {
        attribute(key).is_some_and(|value| {
            let value = String::from_utf8_lossy(&value).to_ascii_lowercase();
            value.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| BESIDE_WORDS.contains(&word))
        })
    };
    !HOLDS.contains(&name)
        && (BESIDE.contains(&name)
            || attribute(b"role").is_some_and(|role| BESIDE_ROLES.contains(&role.as_slice()))
            || said(b"class")
            || said(b"id"))
}

/// Appends the readable text of `html`; `source` turns an offset in it into one in the file.
/// Returns the document's title.
pub(crate) fn read_into(builder: &mut Builder, html: &str, source: &dyn Fn(usize) -> usize) -> Option<String> {
    pass(builder, html, source, Pass::All).0
}

/// Returns the document's title and what it says of itself.
fn pass(builder: &mut Builder, html: &str, source: &dyn Fn(usize) -> usize, pass: Pass<'_>) -> (Option<String>, Said) {
    let mut emitter = DefaultEmitter::<usize>::new_with_span();
    emitter.naively_switch_states(true);
    let mut page = Page {
        builder,
        html,
        source,
        dropped: Vec::new(),
        pre: 0,
        block: BlockKind::Text,
        title: None,
        told: Told::default(),
        pass,
        beside: None,
    };
    let mut tokens = Tokenizer::new_with_emitter(html, emitter);
    while let Some(token) = tokens.next() {
        let Ok(token) = token;
        if page.builder.is_full() {
            break;
        }
        match token {
            Token::StartTag(tag) => {
                // XHTML's `<script src="x.js"/>` holds nothing, so what follows isn't a script.
                if tag.self_closing {
                    tokens.set_state(State::Data);
                }
                let attribute = |name: &[u8]| tag.attributes.get(name).map(|value| value.value.to_vec());
                said::tag(&mut page.told, &tag.name, &attribute);
                page.enter(&tag.name, tag.self_closing, &attribute);
                page.open(&tag.name, tag.self_closing);
            }
            Token::EndTag(tag) => {
                page.close(&tag.name);
                page.leave(&tag.name);
            }
            Token::String(text) => page.text(text.span.start, text.span.end),
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    page.end_block();
    (page.title, page.told.said)
}

/// HTML by itself. Its runs name bytes of the decoded HTML, not of the file that it came from.
pub(crate) fn rendered(markup: &str) -> Document {
    let mut builder = Builder::new(Encoding::Utf8);
    read_into(&mut builder, markup, &|at| at);
    builder.into_source(Format::Html, None)
}

/// Elements whose content nobody reads as text.
const DROPPED: [&[u8]; 11] = [
    b"script",
    b"style",
    b"nav",
    b"template",
    b"svg",
    b"noscript",
    b"iframe",
    b"object",
    b"select",
    b"head",
    b"canvas",
];
/// Where the readable part surely begins, whatever was left open before.
const SURE: [&[u8]; 4] = [b"body", b"main", b"article", b"h1"];
const BLOCKS: [&[u8]; 31] = [
    b"p",
    b"div",
    b"section",
    b"article",
    b"main",
    b"header",
    b"footer",
    b"aside",
    b"blockquote",
    b"ul",
    b"ol",
    b"li",
    b"dl",
    b"dt",
    b"dd",
    b"table",
    b"thead",
    b"tbody",
    b"tr",
    b"figure",
    b"figcaption",
    b"form",
    b"fieldset",
    b"address",
    b"details",
    b"summary",
    b"hr",
    b"pre",
    b"body",
    b"html",
    b"caption",
];

struct Page<'a> {
    builder: &'a mut Builder,
    html: &'a str,
    source: &'a dyn Fn(usize) -> usize,
    /// Dropped elements that are open, outermost first.
    dropped: Vec<Vec<u8>>,
    /// Depth of `pre` elements.
    pre: u32,
    block: BlockKind,
    title: Option<String>,
    told: Told,
    pass: Pass<'a>,
    /// The outermost element around this place that stands beside the text, and how many of its name are open.
    beside: Option<(Vec<u8>, usize)>,
}

fn heading(name: &[u8]) -> Option<u8> {
    match name {
        [b'h', level @ b'1'..=b'6'] => Some(level - b'0'),
        _ => None,
    }
}

impl Page<'_> {
    fn enter(&mut self, name: &[u8], self_closing: bool, attribute: &dyn Fn(&[u8]) -> Option<Vec<u8>>) {
        // Where the text surely is, whatever was left open before.
        if self.beside.is_some() && SURE.contains(&name) {
            self.end_block();
            self.beside = None;
        } else if self_closing || matches!(name, b"br" | b"hr" | b"img" | b"input" | b"link" | b"meta") {
        } else if let Some((outer, depth)) = &mut self.beside {
            *depth += usize::from(outer == name);
        } else if self.dropped.is_empty() && is_beside(name, attribute) {
            self.end_block();
            self.beside = Some((name.to_vec(), 1));
        }
    }

    fn leave(&mut self, name: &[u8]) {
        let Some((outer, depth)) = &mut self.beside else { return };
        if outer == name {
            *depth -= 1;
            if *depth == 0 {
                self.end_block();
                self.beside = None;
            }
        }
    }

    /// Whether words at this place are taken.
    fn takes(&mut self, bytes: usize) -> bool {
        match &mut self.pass {
            Pass::All => true,
            Pass::Readable => self.beside.is_none(),
            Pass::Beside => self.beside.is_some(),
            Pass::Measure { readable, beside } => {
                **(if self.beside.is_some() { beside } else { readable }) += bytes;
                false
            }
        }
    }

    fn open(&mut self, name: &[u8], self_closing: bool) {
        if SURE.contains(&name) {
            self.dropped.clear();
        }
        if DROPPED.contains(&name) {
            if !self_closing {
                self.dropped.push(name.to_vec());
            }
            return;
        }
        if name == b"title" {
            if !self_closing {
                self.dropped.push(name.to_vec());
            }
            return;
        }
        if !self.dropped.is_empty() {
            return;
        }
        if let Some(level) = heading(name) {
            self.end_block();
            self.block = BlockKind::Heading(level);
        } else if BLOCKS.contains(&name) {
            self.end_block();
            match name {
                b"li" | b"dd" => self.block = BlockKind::Item,
                b"tr" => self.block = BlockKind::Row,
                b"pre" => {
                    self.block = BlockKind::Code;
                    self.pre += 1;
                }
                _ => {}
            }
        } else if matches!(name, b"br") {
            self.builder.gap('\n');
        } else if matches!(name, b"td" | b"th") && !self.builder.is_blank() {
            self.builder.gap('\t');
        }
    }

    fn close(&mut self, name: &[u8]) {
        if let Some(at) = self.dropped.iter().rposition(|open| open == name) {
            self.dropped.truncate(at);
            return;
        }
        if self.dropped.is_empty() && (heading(name).is_some() || BLOCKS.contains(&name)) {
            self.end_block();
            if name == b"pre" {
                self.pre = self.pre.saturating_sub(1);
            }
        }
    }

    fn end_block(&mut self) {
        let mut kind = std::mem::replace(&mut self.block, BlockKind::Text);
        if let BlockKind::Heading(level) = kind {
            kind = self.builder.heading(level);
        }
        if self.title.is_none() && kind == BlockKind::Heading(1) && !self.builder.is_blank() {
            self.title = Some(self.builder.current().to_owned());
        }
        self.builder.close(kind, 0);
    }

    fn text(&mut self, start: usize, end: usize) {
        let Some(raw) = self.html.get(start..end.min(self.html.len())) else { return };
        match self.dropped.last() {
            Some(name) if name == b"title" && self.title.is_none() => {
                let title = unescape(raw).split_whitespace().collect::<Vec<_>>().join(" ");
                self.title = (!title.is_empty()).then_some(title);
            }
            Some(_) => {}
            None => {
                if self.takes(raw.trim().len()) {
                    self.words(raw, start);
                }
            }
        }
    }

    /// Pushes text: white space collapses, entities are decoded, everything else is straight.
    fn words(&mut self, raw: &str, start: usize) {
        let verbatim = self.pre > 0;
        let mut at = 0;
        while at < raw.len() {
            let rest = &raw[at..];
            let plain = rest.find(|c: char| c == '&' || (c.is_ascii_whitespace() && !verbatim)).unwrap_or(rest.len());
            if plain > 0 {
                self.push(&rest[..plain], start + at, plain);
                at += plain;
            } else if rest.starts_with('&') {
                let len = entity_len(rest);
                let (piece, from) = (&rest[..len], start + at);
                let decoded = unescape(piece);
                if decoded == piece {
                    self.push(piece, from, len);
                } else {
                    self.builder.push_decoded(&decoded, (self.source)(from)..(self.source)(from + len));
                }
                at += len;
            } else {
                self.builder.space();
                at += rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_whitespace()).len();
            }
        }
    }

    fn push(&mut self, text: &str, at: usize, len: usize) {
        self.builder.push(text, (self.source)(at)..(self.source)(at + len));
    }
}

/// Length of what may be an entity at the start of `text`, which begins with `&`.
fn entity_len(text: &str) -> usize {
    const NAME_MAX: usize = 33;
    let name = text[1..].bytes().take(NAME_MAX).take_while(|b| b.is_ascii_alphanumeric() || *b == b'#').count();
    1 + name + usize::from(text[1 + name..].starts_with(';'))
}

/// Text of a piece of HTML without tags.
pub(crate) fn unescape(piece: &str) -> String {
    let mut text = String::new();
    for token in Tokenizer::new(piece) {
        let Ok(token) = token;
        if let Token::String(value) = token {
            text.push_str(&String::from_utf8_lossy(&value));
        }
    }
    text
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
        for run in runs {
            let words = &document.text[run.text as usize..(run.text + run.text_len) as usize];
            let source = &text[run.source as usize..(run.source + run.source_len) as usize];
            assert!(
                words == source || (!straight(&document.text, run, *encoding) && unescape(source) == words),
                "{run:?}"
            );
        }
        document
    }

    #[test]
    fn readable_text_keeps_its_place() {
        let text = "<!DOCTYPE html><html><head><title>Caf&eacute; &amp; co</title><style>p{}</style></head><body>\n\
                    <nav><a href=x>Home</a></nav><h1>Opening\n hours</h1><p>We open at <b>9&nbsp;am</b>,<!-- no -->\n\
                    caf&eacute; &unknown; R&D.<br>Next<script>var a = '<p>';</script></p>\
                    <table><tr><th>Day<td>Mon</tr><tr><td>Till<td>18:00</table><ul><li>one<li>two</ul>\
                    <pre>a  b\n c</pre>tail";
        let document = document(text);
        assert_eq!(document.title.as_deref(), Some("Café & co"));
        let shape: Vec<_> = document.blocks.iter().map(|block| (block.kind, document.block_text(block))).collect();
        assert_eq!(
            shape,
            [
                (BlockKind::Heading(1), "Opening hours"),
                (BlockKind::Text, "We open at 9\u{a0}am, café &unknown; R&D.\nNext"),
                (BlockKind::Row, "Day\tMon"),
                (BlockKind::Row, "Till\t18:00"),
                (BlockKind::Item, "one"),
                (BlockKind::Item, "two"),
                (BlockKind::Code, "a  b\n c"),
                (BlockKind::Text, "tail"),
            ]
        );
    }

    #[test]
    fn what_stands_beside_the_text_comes_behind_it_and_apart() {
        let text = "<body class='has-sidebar'><header>Acme</header><div id=cookie-banner><div>We use cookies.</div> OK</div>\
                    <main><h1>Shed</h1><p>The roof was tarred in May.</p><aside>See <i>also</i>: tar.</aside><p>It holds.</p></main>\
                    <footer><p>Imprint</p></footer></body>";
        let document = document(text);
        let words: Vec<&str> = document.blocks.iter().map(|block| document.block_text(block)).collect();
        assert_eq!(
            words,
            [
                "Shed",
                "The roof was tarred in May.",
                "It holds.",
                "",
                "Acme",
                "We use cookies.",
                "OK",
                "See also: tar.",
                "Imprint"
            ]
        );
        assert_eq!(document.blocks[3].kind, BlockKind::Part);
        let (_, rows) = crate::index::passages(&document, text.as_bytes());
        let shape: Vec<_> = rows.iter().map(|row| (row.heading.as_str(), row.text.lines().next())).collect();
        assert_eq!(shape, [("Shed", Some("Shed")), ("", Some("Acme"))]);
    }

    #[test]
    fn a_page_that_only_looks_like_furniture_is_read_as_it_stands() {
        let text = "<div class=sidebar><p>The whole text stands in an oddly named element.</p></div><p>End.</p>";
        let document = document(text);
        assert_eq!(document.blocks.len(), 2);
        assert!(document.text.starts_with("The whole text"));
        let unclosed = "<div class=cookie-banner>Cookies!<h1>Shed</h1><p>The roof was tarred in May of that year.</p>";
        assert!(self::document(unclosed).text.starts_with("Shed"));
    }

    #[test]
    fn the_head_says_who_wrote_the_page_and_when() {
        let text = "<html lang=en-GB><head><title>Shed</title><meta name=Author content='Ada &amp; Bob'>\
                    <meta property=article:author content='https://example.org/ada'>\
                    <meta property='article:published_time' content='2025-01-02T10:00:00Z'><meta name=date content=2020>\
                    <meta itemprop=dateModified content=2026-03-09 /></head><body><footer>Acme</footer><p>The roof was tarred.</p>";
        let Said { author, created, modified, language } = document(text).said;
        let said = [&author, &created, &modified, &language].map(Option::as_deref);
        assert_eq!(said, [Some("Ada & Bob"), Some("2025-01-02T10:00:00Z"), Some("2026-03-09"), Some("en-GB")]);
    }

    #[test]
    fn depth_costs_nothing() {
        let text = format!("{}deep{}", "<div>".repeat(200_000), "</div>".repeat(200_000));
        assert_eq!(document(&text).text.trim(), "deep");
    }

    #[test]
    fn elements_that_close_themselves_hold_nothing() {
        for tag in
            ["script src=\"x.js\"", "style", "iframe src=\"a.html\"", "title", "textarea", "noscript", "svg", "xmp"]
        {
            let text = format!(
                "<html><body><h1>Shed</h1><{tag}/><p>The roof was &lt;tarred&gt;.</p><p>In May.</p></body></html>"
            );
            let document = document(&text);
            let words: Vec<&str> = document.blocks.iter().map(|block| document.block_text(block)).collect();
            assert_eq!(words, ["Shed", "The roof was <tarred>.", "In May."], "{tag}");
            assert_eq!(document.title.as_deref(), Some("Shed"), "{tag}");
        }
    }

    #[test]
    fn an_unclosed_menu_does_not_swallow_the_page() {
        assert_eq!(document("<nav>menu<main><p>text</p>").text.trim(), "text");
    }
}
