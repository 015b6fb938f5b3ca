//! What a file is, by its first bytes and its name. Pure.

use super::mail::{begins_with_header, is_mbox};
use super::picture::{Picture, picture};
use crate::document::Format;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Mail,
    Pdf,
    Docx,
    Pptx,
    Xlsx,
    Epub,
    /// OpenDocument.
    Open(Format),
    /// Its words can be recognised.
    Picture(Picture),
    /// Text, whatever stands in it.
    Lines(Format),
    /// Something that this version can't read, in words.
    Foreign(&'static str),
}

impl Kind {
    /// The only format that a document of this kind can have; `None` when it can't be read.
    pub(crate) fn format(self) -> Option<Format> {
        match self {
            Kind::Mail => Some(Format::Mail),
            Kind::Pdf => Some(Format::Pdf),
            Kind::Docx => Some(Format::Docx),
            Kind::Pptx => Some(Format::Pptx),
            Kind::Xlsx => Some(Format::Xlsx),
            Kind::Epub => Some(Format::Epub),
            Kind::Picture(_) => Some(Format::Picture),
            Kind::Open(format) | Kind::Lines(format) => Some(format),
            Kind::Foreign(_) => None,
        }
    }
}

fn extension(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

/// What a picture is said to be.
pub(crate) const PICTURE: &str = "a picture";

const FOREIGN: [(&str, &[&str]); 9] = [
    (PICTURE, &["png", "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "heic", "avif", "ico", "psd", "raw", "xcf"]),
    ("sound or video", &["mp3", "mp4", "m4a", "wav", "flac", "ogg", "opus", "mkv", "mov", "avi", "webm", "aac"]),
    ("an archive", &["zip", "gz", "tgz", "bz2", "xz", "zst", "7z", "rar", "tar", "jar", "iso", "dmg", "deb", "rpm"]),
    ("a program or library", &["exe", "dll", "so", "dylib", "o", "a", "rlib", "class", "pyc", "wasm", "bin", "img"]),
    ("a font", &["ttf", "otf", "woff", "woff2"]),
    ("a database", &["db", "sqlite", "sqlite3", "mdb", "parquet"]),
    ("an older spreadsheet or slides, which this version doesn't read", &["xls", "xlsb", "ppt", "key", "numbers"]),
    (
        "an older or other word processor's file, which this version doesn't read",
        &["doc", "rtf", "pages", "mobi", "azw3"],
    ),
    ("a model's weights", &["gguf", "safetensors", "pt", "onnx", "npz", "npy"]),
];

/// Names that needn't be opened to know that no text can be read from them.
pub(crate) fn unreadable(name: &str) -> Option<&'static str> {
    let extension = extension(name);
    FOREIGN.iter().find(|(_, names)| names.contains(&extension.as_str())).map(|(what, _)| *what)
}

/// Names of pictures whose words can be recognised.
pub(crate) fn is_picture(name: &str) -> bool {
    const NAMES: [&str; 8] = ["png", "jpg", "jpeg", "jfif", "webp", "bmp", "tif", "tiff"];
    NAMES.contains(&extension(name).as_str())
}

const CODE: [&str; 46] = [
    "rs", "py", "js", "mjs", "ts", "tsx", "jsx", "c", "h", "cc", "cpp", "hpp", "cxx", "java", "kt", "kts", "go", "rb",
    "php", "swift", "scala", "sh", "bash", "zsh", "fish", "ps1", "lua", "pl", "pm", "r", "jl", "hs", "ml", "ex", "exs",
    "erl", "clj", "lisp", "el", "vim", "sql", "css", "scss", "cs", "nix", "zig",
];
const DATA: [&str; 11] = ["toml", "yaml", "yml", "ini", "cfg", "conf", "log", "xml", "properties", "vcf", "lock"];

pub(crate) fn kind(name: &str, bytes: &[u8]) -> Kind {
    const HEAD_BYTES: usize = 1024;
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let extension = extension(name);
    if is_pdf(head, &extension) {
        return Kind::Pdf;
    }
    if head.starts_with(b"PK\x03\x04") {
        return packed(&extension).unwrap_or(Kind::Foreign("an archive"));
    }
    if let Some(picture) = picture(bytes) {
        return Kind::Picture(picture);
    }
    match extension.as_str() {
        _ if is_picture(name) => Kind::Foreign("not a picture, whatever its name says"),
        "pdf" => Kind::Foreign("not a PDF, whatever its name says"),
        _ if head.starts_with(b"\xd0\xcf\x11\xe0") => {
            Kind::Foreign("an Office document of before 2007 or one with a password, which this version doesn't read")
        }
        // Open documents may be one plain XML file; that isn't read as such.
        _ if packed(&extension).is_some() => Kind::Foreign("not what its name says: it is no ZIP file"),
        "md" | "markdown" | "mdown" | "mkd" => Kind::Lines(Format::Markdown),
        "html" | "htm" | "xhtml" => Kind::Lines(Format::Html),
        "csv" | "tsv" => Kind::Lines(Format::Csv),
        "json" | "jsonl" | "ndjson" | "geojson" => Kind::Lines(Format::Json),
        "ics" => Kind::Lines(Format::Calendar),
        "eml" => Kind::Mail,
        "mbox" | "mbx" | "" if is_mbox(head) => Kind::Mail,
        _ if in_maildir(name) && begins_with_header(head) => Kind::Mail,
        code if CODE.contains(&code) => Kind::Lines(Format::Code),
        data if DATA.contains(&data) => Kind::Lines(Format::Data),
        _ if is_html(head) => Kind::Lines(Format::Html),
        _ => Kind::Lines(Format::Text),
    }
}

/// Whether a file lies where a Maildir keeps its messages, one in each file.
fn in_maildir(name: &str) -> bool {
    let mut path = name.rsplit(['/', '\\']).skip(1);
    matches!(path.next(), Some("cur" | "new"))
}

/// Documents that are ZIP files. Those with macros are the same without them: none is looked at.
fn packed(extension: &str) -> Option<Kind> {
    Some(match extension {
        "docx" | "docm" | "dotx" => Kind::Docx,
        "pptx" | "pptm" | "ppsx" => Kind::Pptx,
        "xlsx" | "xlsm" | "xltx" => Kind::Xlsx,
        "epub" => Kind::Epub,
        "odt" | "ott" => Kind::Open(Format::Odt),
        "ods" | "ots" => Kind::Open(Format::Ods),
        "odp" | "otp" => Kind::Open(Format::Odp),
        _ => return None,
    })
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
            ("formats.md", b"A PDF begins with `%PDF-`.", Kind::Lines(Format::Markdown)),
            ("a.docx", b"PK\x03\x04", Kind::Docx),
            ("a.txt", b"PK\x03\x04", Kind::Foreign("an archive")),
            ("a.pdf", b"words", Kind::Foreign("not a PDF, whatever its name says")),
            ("README", b" <!DOCTYPE HTML><p>", Kind::Lines(Format::Html)),
            ("notes.MD", b"# a", Kind::Lines(Format::Markdown)),
            ("table.ods", b"PK\x03\x04", Kind::Open(Format::Ods)),
            ("macros.XLSM", b"PK\x03\x04", Kind::Xlsx),
            ("dir.d/main.rs", b"fn main() {}", Kind::Lines(Format::Code)),
            ("Mail/Inbox", b"From a@b Mon\nSubject: x\n\nbody", Kind::Mail),
            ("letter", b"From here on\nit is a letter", Kind::Lines(Format::Text)),
            ("Mail/cur/1736.M1P2.host:2,S", b"Subject: x\n\nbody", Kind::Mail),
            ("cur/notes", b"words", Kind::Lines(Format::Text)),
            ("log", b"words", Kind::Lines(Format::Text)),
            ("scan", b"\x89PNG\r\n\x1a\n", Kind::Picture(Picture::Png)),
            ("scan.TIF", b"\xff\xd8\xff\xe0", Kind::Picture(Picture::Jpeg)),
            ("scan.png", b"words", Kind::Foreign("not a picture, whatever its name says")),
        ] {
            assert_eq!(kind(name, bytes), expected, "{name}");
        }
        assert_eq!(unreadable("holiday/IMG_1.JPG"), Some("a picture"));
        assert_eq!(unreadable("notes.md"), None);
    }
}
