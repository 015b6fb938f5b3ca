//! The entry points over a corpus with random changes. The seed is fixed, so that a failure comes again.

use super::*;
use crate::extract::tests::{epub, pptx, xlsx, zipped};
use std::io::{Cursor, Read};
use std::panic::catch_unwind;

/// Changed copies that are tried of each file of the corpus.
const COPIES: usize = 150;

/// A small generator of numbers (xorshift*).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end.max(1)
    }
}

/// Pieces that mean something to one reader or another.
const PIECES: [&[u8]; 34] = [
    b"\"",
    b"\"\"",
    b"'",
    b"\\",
    b"\\u",
    b"\\ud83d",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b";",
    b":",
    b"\r\n",
    b"\n ",
    b"\n\n",
    b"&amp;",
    b"&#0;",
    b"<!--",
    b"<![CDATA[",
    b"]]>",
    b"</",
    b"<x>",
    b"=?utf-8?Q?=",
    b"=\r\n",
    b"=C3",
    b"\xc3",
    b"\xff\xfe",
    b"\0",
    b"From a\nX: y\n",
    b"BEGIN:VEVENT\r\n",
    b"--zz--\r\n",
    b"4294967295",
    b"-1",
];

fn changed(numbers: &mut Numbers, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=numbers.below(4) {
        let (at, len) = (numbers.below(bytes.len() + 1), numbers.below(32));
        let end = (at + len).min(bytes.len());
        match numbers.below(6) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, PIECES[numbers.below(PIECES.len())].iter().copied())),
            2 => {
                let piece = bytes[at..end].to_vec();
                let times = numbers.below(20);
                bytes.splice(at..at, piece.repeat(times));
            }
            3 => {
                let from = numbers.below(other.len() + 1);
                let to = (from + len * 4).min(other.len());
                bytes.splice(at..end, other[from..to].iter().copied());
            }
            4 => bytes.truncate(bytes.len() - numbers.below(bytes.len() / 2 + 1)),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << numbers.below(8);
                }
            }
        }
    }
    bytes
}

/// Runs an entry and names what broke it.
fn try_on(name: &str, bytes: &[u8]) {
    if catch_unwind(|| read(name, bytes)).is_err() {
        panic!("{name} breaks a promise with {:?}", String::from_utf8_lossy(bytes));
    }
}

const TEXTS: [(&str, &str); 9] = [
    (
        "a.md",
        "# Title\n\nWords *of* a `page` &amp; [more](x).\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- item\n\n```rs\nfn x() {}\n```\n",
    ),
    (
        "a.html",
        "<html><head><title>T &eacute;</title></head><body><nav>menu</nav><aside>see <b>also</b></aside><h1>One</h1><p>Words&nbsp;of <b>a</b> page.<pre>a\n b</pre><table><tr><td>1<td>2</table>",
    ),
    ("a.csv", "name,price,note\nsoap,2,\"say \"\"hands\"\", twice\"\nrice,3,\"two\nlines\"\n"),
    (
        "a.json",
        "{\"title\": \"Caf\\u00e9 \\\"x\\\"\", \"items\": [{\"a\": 1.5, \"b\": null}, [true, \"\\ud83d\\ude00\"]]}\n{\"b\": {}}\n",
    ),
    (
        "a.ics",
        "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART;TZID=X:20250310T093000Z\r\nSUMMARY:Dentist\\, Dr. B\r\n olt\r\nDESCRIPTION:a\\nb\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
    ),
    (
        "a.eml",
        "From: a@example.org\r\nSubject: =?utf-8?Q?K=C3=BCche?=\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=zz\r\n\r\n--zz\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ncaf=C3=A9 is=\r\n open\r\n--zz\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename=\"t.csv\"\r\nContent-Transfer-Encoding: base64\r\n\r\ndGFwLHByaWNlCmJyYXNzLDM1Cg==\r\n--zz\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nwords\r\n--zz--\r\n",
    ),
    (
        "a.mbox",
        "From a Mon\nSubject: x\n\nOne.\n\nFrom b Tue\nSubject: y\nContent-Type: text/html\n\n<p>Two &amp; three</p>\n",
    ),
    (
        "a.rs",
        "//! Doc.\nmod a {\n    /// Adds.\n    pub fn add(a: u8) -> u8 { a + 1 }\n}\nimpl X {\n    fn y() {}\n}\n",
    ),
    ("a.py", "class A:\n    \"\"\"Doc.\"\"\"\n    def b(self):\n        return 1\n\n@x\nasync def c():\n    pass\n"),
];

#[test]
fn changed_texts_break_no_promise() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for (i, (name, words)) in TEXTS.iter().enumerate() {
        try_on(name, words.as_bytes());
        for _ in 0..COPIES {
            let other = TEXTS[(i + numbers.below(TEXTS.len())) % TEXTS.len()].1;
            let bytes = changed(&mut numbers, words.as_bytes(), other.as_bytes());
            try_on(name, &bytes);
            text(&[&[numbers.below(256) as u8], &bytes[..]].concat());
        }
    }
}

/// The parts of a package that are text.
fn parts(bytes: &[u8]) -> Vec<(String, String)> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("a package");
    (0..archive.len())
        .map(|i| {
            let mut file = archive.by_index(i).expect("a part");
            let mut text = String::new();
            file.read_to_string(&mut text).expect("it is text");
            (file.name().to_owned(), text)
        })
        .collect()
}

#[test]
fn changed_packages_break_no_promise() {
    let open = zipped(&[(
        "content.xml",
        "<o:body xmlns:o='o' xmlns:t='t' xmlns:b='b'><t:h t:outline-level='2'>H</t:h><t:p>Words<t:s t:c='9'/>of it</t:p>\
         <b:table b:name='S'><b:table-row b:number-rows-repeated='3'><b:table-cell b:number-columns-repeated='2'><t:p>x</t:p></b:table-cell></b:table-row></b:table></o:body>",
    )]);
    let word = zipped(&[(
        "word/document.xml",
        "<w:p xmlns:w='w'><w:pPr><w:pStyle w:val='Heading1'/></w:pPr><w:r><w:t>One &amp; two</w:t></w:r></w:p>",
    )]);
    let corpus = [
        ("a.xlsx", xlsx()),
        ("a.pptx", pptx()),
        ("a.epub", epub()),
        ("a.odt", open.clone()),
        ("a.ods", open.clone()),
        ("a.odp", open),
        ("a.docx", word),
    ];
    let mut numbers = Numbers(0x1234_5678_9abc_def1);
    for (name, bytes) in corpus {
        try_on(name, &bytes);
        let whole = parts(&bytes);
        for _ in 0..COPIES {
            // The bytes of the ZIP file itself, and those of a part within a sound one.
            let broken = changed(&mut numbers, &bytes, &bytes);
            try_on(name, &broken);
            package(&[&[numbers.below(256) as u8], &broken[..]].concat());
            let mut parts = whole.clone();
            let at = numbers.below(parts.len());
            let part = changed(&mut numbers, parts[at].1.as_bytes(), whole[0].1.as_bytes());
            parts[at].1 = String::from_utf8_lossy(&part).into_owned();
            let parts: Vec<(&str, &str)> = parts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
            try_on(name, &zipped(&parts));
        }
    }
}

#[test]
fn changed_answers_of_a_reader_are_refused_or_harmless() {
    let mut numbers = Numbers(0x0fed_cba9_8765_4321);
    for (name, words) in TEXTS {
        let document = extract::read(name, words.as_bytes()).expect("it reads");
        let mut wire = Vec::new();
        extract::send(&mut wire, &extract::Reply::Document(Box::new(document))).expect("it writes");
        reply(&wire);
        for _ in 0..COPIES {
            let mut body = changed(&mut numbers, &wire[4..], &wire);
            let size = (body.len() as u32).to_le_bytes();
            body.splice(0..0, size);
            reply(&body);
        }
    }
}
