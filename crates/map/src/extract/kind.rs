//! What a file is, by its first bytes and its name. Pure.

use crate::document::Format;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Markdown,
    Html,
    Mail,
    Pdf,
    Docx,
    /// Text whose words are the file, verbatim.
    Lines(Format),
    /// Something that this version can't read, in words.
    Foreign(&'static str),
}

impl Kind {
    /// The only format that a document of this kind can have; `None` when it can't be read.
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Kind::Markdown => Some(Format::Markdown),
            Kind::Html => Some(Format::Html),
            Kind::Mail => Some(Format::Mail),
            Kind::Pdf => Some(Format::Pdf),
            Kind::Docx => Some(Format::Docx),
            Kind::Lines(format) => Some(format),
            Kind::Foreign(_) => None,
        }
    }
}

fn extension(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

const FOREIGN: [(&str, &[&str]); 9] = [
    (
        "a picture",
        &["png", "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "heic", "avif", "ico", "psd", "raw", "xcf"],
    ),
    ("sound or video", &["mp3", "mp4", "m4a", "wav", "flac", "ogg", "opus", "mkv", "mov", "avi", "webm", "aac"]),
    ("an archive", &["zip", "gz", "tgz", "bz2", "xz", "zst", "7z", "rar", "tar", "jar", "iso", "dmg", "deb", "rpm"]),
    ("a program or library", &["exe", "dll", "so", "dylib", "o", "a", "rlib", "class", "pyc", "wasm", "bin", "img"]),
    ("a font", &["ttf", "otf", "woff", "woff2"]),
    ("a database", &["db", "sqlite", "sqlite3", "mdb", "parquet"]),
    ("a spreadsheet or slides, which this version doesn't read", &["xlsx", "xls", "ods", "pptx", "ppt", "odp", "key"]),
    (
        "an older or other word processor's file, which this version doesn't read",
        &["doc", "odt", "pages", "epub", "mobi"],
    ),
    ("a model's weights", &["gguf", "safetensors", "pt", "onnx", "npz", "npy"]),
];

/// Names that needn't be opened to know that no text can be read from them.
pub(crate) fn unreadable(name: &str) -> Option<&'static str> {
    let extension = extension(name);
    FOREIGN.iter().find(|(_, names)| names.contains(&extension.as_str())).map(|(what, _)| *what)
}

const CODE: [&str; 46] = [
    "rs", "py", "js", "mjs", "ts", "tsx", "jsx", "c", "h", "cc", "cpp", "hpp", "cxx", "java", "kt", "kts", "go", "rb",
    "php", "swift", "scala", "sh", "bash", "zsh", "fish", "ps1", "lua", "pl", "pm", "r", "jl", "hs", "ml", "ex", "exs",
    "erl", "clj", "lisp", "el", "vim", "sql", "css", "scss", "cs", "nix", "zig",
];
const DATA: [&str; 18] = [
    "csv",
    "tsv",
    "json",
    "jsonl",
    "ndjson",
    "toml",
    "yaml",
    "yml",
    "ini",
    "cfg",
    "conf",
    "log",
    "xml",
    "properties",
    "ics",
    "vcf",
    "lock",
    "geojson",
];

pub(crate) fn kind(name: &str, bytes: &[u8]) -> Kind {
    const HEAD_BYTES: usize = 1024;
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let extension = extension(name);
    if is_pdf(head, &extension) {
        return Kind::Pdf;
    }
    if head.starts_with(b"PK\x03\x04") {
        return if extension == "docx" { Kind::Docx } else { Kind::Foreign("an archive") };
    }
    match extension.as_str() {
        "pdf" => Kind::Foreign("not a PDF, whatever its name says"),
        "docx" => Kind::Foreign("not a DOCX, whatever its name says"),
        "md" | "markdown" | "mdown" | "mkd" => Kind::Markdown,
        "html" | "htm" | "xhtml" => Kind::Html,
        "eml" => Kind::Mail,
        code if CODE.contains(&code) => Kind::Lines(Format::Code),
        data if DATA.contains(&data) => Kind::Lines(Format::Data),
        _ if is_html(head) => Kind::Html,
        _ => Kind::Lines(Format::Text),
    }
}

/// Readers of PDF take its mark anywhere near the start. A text may speak of the mark, so only a file that
/// calls itself a PDF may have something else before it.
fn is_pdf(head: &[u8], extension: &str) -> bool {
    const MARK: &[u8] = b"%PDF-";
    let start = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    start.starts_with(MARK) || (extension == "pdf" && head.windows(MARK.len()).any(|window| window == MARK))
}

fn is_html(head: &[u8]) -> bool {
    let start = head.trim_ascii_start().to_ascii_lowercase();
    start.starts_with(b"<!doctype html") || start.starts_with(b"<html")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_win_over_names() {
        for (name, bytes, expected) in [
            ("a.txt", &b"%PDF-1.4"[..], Kind::Pdf),
            ("a.txt", b"\xef\xbb\xbf\r\n%PDF-1.4", Kind::Pdf),
            ("a.pdf", b"junk before it %PDF-1.4", Kind::Pdf),
            ("formats.md", b"A PDF begins with `%PDF-`.", Kind::Markdown),
            ("a.docx", b"PK\x03\x04", Kind::Docx),
            ("a.txt", b"PK\x03\x04", Kind::Foreign("an archive")),
            ("a.pdf", b"words", Kind::Foreign("not a PDF, whatever its name says")),
            ("README", b" <!DOCTYPE HTML><p>", Kind::Html),
            ("notes.MD", b"# a", Kind::Markdown),
            ("dir.d/main.rs", b"fn main() {}", Kind::Lines(Format::Code)),
            ("log", b"words", Kind::Lines(Format::Text)),
        ] {
            assert_eq!(kind(name, bytes), expected, "{name}");
        }
        assert_eq!(unreadable("holiday/IMG_1.JPG"), Some("a picture"));
        assert_eq!(unreadable("notes.md"), None);
    }
}
