//! Which texts a task is done with: files, lines, rows of a table, objects of JSON Lines.

use super::args::{Common, Each};
use super::journal::companions;
use base::{Bytes, Code, Fault};
use serde_json::{Map, Value};
use std::io::Read;
use std::path::{Path, PathBuf};

/// LIMIT: bytes of one file of rows, lines or objects, which is held in memory.
const TABLE_BYTES_MAX: u64 = 1 << 30;
/// LIMIT: bytes of one text; the daemon takes no more.
const TEXT_BYTES_MAX: u64 = 16 << 20;

/// One text, and what belongs to it.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// `notes/a.md`, `in.csv:17`
    pub(crate) source: String,
    pub(crate) text: String,
    pub(crate) carried: Carried,
}

/// What stood beside a text and goes out with its result.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Carried {
    Nothing,
    /// The cells of its row.
    Row(Vec<String>),
    /// The object that it is a field of.
    Object(Map<String, Value>),
}

/// A text that can't be had. It is told when its turn comes, and the others go on.
#[derive(Debug, Clone)]
pub(crate) struct Bad {
    pub(crate) source: String,
    pub(crate) carried: Carried,
    pub(crate) fault: Fault,
}

/// A text that is read when its turn comes, or stands here already.
#[derive(Debug, Clone)]
enum Pending {
    File(PathBuf),
    Ready(Item),
    Bad(Box<Bad>),
}

/// All texts of a run, in their order.
#[derive(Debug)]
pub(crate) struct Inputs {
    pending: Vec<Pending>,
    /// Of the tables, where there are some: names of the columns, and what stands between two cells.
    pub(crate) head: Option<Head>,
    /// What they are; the first file's, where files differ.
    pub(crate) each: Each,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) names: Vec<String>,
    pub(crate) mark: u8,
}

impl Inputs {
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    /// The text with this number, from 0.
    pub(crate) fn get(&self, at: usize) -> Result<Item, Box<Bad>> {
        match &self.pending[at] {
            Pending::Ready(item) => Ok(item.clone()),
            Pending::Bad(bad) => Err(bad.clone()),
            Pending::File(path) => {
                let source = path.display().to_string();
                match read_text(path) {
                    Ok(text) => Ok(Item { source, text, carried: Carried::Nothing }),
                    Err(fault) => Err(Box::new(Bad { source, carried: Carried::Nothing, fault })),
                }
            }
        }
    }

    /// Whether there is one text alone, as from a pipe or a file.
    pub(crate) fn is_single(&self) -> bool {
        self.pending.len() == 1 && self.each == Each::File
    }
}

/// Reads what the arguments name.
///
/// # Errors
/// A pattern that matches nothing, a table that can't be read, a column that isn't there.
pub(crate) fn read(common: &Common) -> Result<Inputs, Fault> {
    let mut inputs = Inputs { pending: Vec::new(), head: None, each: common.each.unwrap_or(Each::File) };
    let named: Vec<String> = if common.files.is_empty() { vec!["-".into()] } else { common.files.clone() };
    let own = OwnFiles::of(common);
    let mut first = true;
    for name in &named {
        if name == "-" {
            let each = common.each.unwrap_or(Each::File);
            let text = standard_input()?;
            inputs.each = if first { each } else { inputs.each };
            inputs.add("stdin", text, each, common)?;
            first = false;
            continue;
        }
        for path in matching(name, &own)? {
            let each = common.each.unwrap_or_else(|| by_name(&path));
            inputs.each = if first { each } else { inputs.each };
            first = false;
            if each == Each::File {
                inputs.pending.push(Pending::File(path));
            } else {
                let text = read_whole(&path, TABLE_BYTES_MAX)?;
                inputs.add(&path.display().to_string(), text, each, common)?;
            }
        }
    }
    if inputs.pending.is_empty() {
        return Err(
            Fault::new(Code::InvalidAsk, "there is no text in these inputs").hint("check that they aren't empty")
        );
    }
    Ok(inputs)
}

fn by_name(path: &Path) -> Each {
    let end = path.extension().map(|end| end.to_string_lossy().to_lowercase()).unwrap_or_default();
    match end.as_str() {
        "csv" | "tsv" => Each::Row,
        "jsonl" | "ndjson" => Each::Object,
        _ => Each::File,
    }
}

/// Files that the run itself writes, or has written: no texts for it, though a pattern may match them.
struct OwnFiles {
    out: Option<PathBuf>,
    companions: Vec<PathBuf>,
    /// The output is what an earlier run made of the same inputs.
    is_result: bool,
}

impl OwnFiles {
    fn of(common: &Common) -> Self {
        // What isn't there can't be matched.
        let real = |path: &Path| path.canonicalize().ok();
        let out = common.output.as_deref();
        let companions = out.map(companions).unwrap_or_default();
        Self {
            out: out.and_then(real),
            companions: companions.iter().filter_map(|path| real(path)).collect(),
            is_result: common.retry_failed,
        }
    }

    /// A shell may have made names of a pattern, so that companions are none even by name; an output may be an input
    /// that is to be replaced.
    fn holds(&self, path: &Path, by_pattern: bool) -> bool {
        let Ok(path) = path.canonicalize() else { return false };
        self.companions.contains(&path) || ((by_pattern || self.is_result) && self.out.as_ref() == Some(&path))
    }
}

/// The file of this name, or those that it is a pattern of, in order; without the run's own.
fn matching(name: &str, own: &OwnFiles) -> Result<Vec<PathBuf>, Fault> {
    let path = Path::new(name);
    // A file may have brackets in its name.
    if path.exists() || !name.contains(['*', '?', '[']) {
        return match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => Err(Fault::new(Code::InvalidAsk, format!("`{name}` is a folder"))
                .hint(format!("name its files: '{}/*'", name.trim_end_matches('/')))),
            Ok(_) if own.holds(path, false) => Ok(Vec::new()),
            Ok(_) => Ok(vec![path.to_owned()]),
            Err(error) => Err(Fault::io("read", path, &error)),
        };
    }
    let wrong = |error: &dyn std::fmt::Display| {
        Fault::new(Code::InvalidAsk, format!("`{name}` is no pattern")).cause(error).hint("write it like 'notes/*.md'")
    };
    let mut found = Vec::new();
    for entry in glob::glob(name).map_err(|error| wrong(&error))? {
        let path = entry.map_err(|error| Fault::io("read", error.path(), error.error()))?;
        if path.is_file() && !own.holds(&path, true) {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(Fault::new(Code::FileMissing, format!("`{name}` matches no file")).hint("check the pattern"));
    }
    Ok(found)
}

fn read_text(path: &Path) -> Result<String, Fault> {
    read_whole(path, TEXT_BYTES_MAX)
}

fn read_whole(path: &Path, most: u64) -> Result<String, Fault> {
    let file = std::fs::File::open(path).map_err(|error| Fault::io("read", path, &error))?;
    utf8(file, &path.display().to_string(), most, |error| Fault::io("read", path, error))
}

fn standard_input() -> Result<String, Fault> {
    let name = Path::new("the standard input");
    utf8(std::io::stdin().lock(), "the standard input", TABLE_BYTES_MAX, |error| Fault::io("read", name, error))
}

fn utf8(from: impl Read, name: &str, most: u64, failed: impl Fn(&std::io::Error) -> Fault) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > most {
        return Err(Fault::new(Code::BodyTooLarge, format!("`{name}` has more than {}", Bytes(most)))
            .hint("cut it into several files"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        Fault::new(Code::InvalidAsk, format!("`{name}` is not UTF-8 text"))
            .cause(error.utf8_error())
            .hint("convert it first: `iconv -t utf-8`; documents such as PDF are read by `freehold index`")
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

impl Inputs {
    fn add(&mut self, name: &str, text: String, each: Each, common: &Common) -> Result<(), Fault> {
        match each {
            Each::File => {
                let item = Item { source: name.to_owned(), text, carried: Carried::Nothing };
                self.pending.push(Pending::Ready(item));
                Ok(())
            }
            Each::Line => {
                for (at, line) in text.lines().enumerate() {
                    let source = format!("{name}:{}", at + 1);
                    self.pending.push(Pending::Ready(Item {
                        source,
                        text: line.to_owned(),
                        carried: Carried::Nothing,
                    }));
                }
                Ok(())
            }
            Each::Row => self.add_rows(name, &text, common.column.as_deref()),
            Each::Object => {
                self.add_objects(name, &text, common.column.as_deref());
                Ok(())
            }
        }
    }

    fn add_rows(&mut self, name: &str, text: &str, column: Option<&str>) -> Result<(), Fault> {
        let mark = mark(text, name);
        let mut reader = csv::ReaderBuilder::new().delimiter(mark).flexible(true).from_reader(text.as_bytes());
        let broken = |error: csv::Error| {
            Fault::new(Code::InvalidAsk, format!("`{name}` can't be read as a table"))
                .cause(error)
                .hint("check its quotes")
        };
        let names: Vec<String> = reader.headers().map_err(broken)?.iter().map(str::to_owned).collect();
        let at = place(&names, column, name)?;
        let head = Head { names, mark };
        match &self.head {
            Some(other) if other.names != head.names => {
                return Err(Fault::new(
                    Code::InvalidAsk,
                    format!("`{name}` has other columns than the tables before it"),
                )
                .hint("run it by itself"));
            }
            Some(_) => {}
            None => self.head = Some(head.clone()),
        }
        for record in reader.into_records() {
            let record = record.map_err(broken)?;
            let line = record.position().map_or(0, csv::Position::line);
            let source = format!("{name}:{line}");
            let mut cells: Vec<String> = record.iter().map(str::to_owned).collect();
            cells.resize(head.names.len(), String::new());
            let (text, carried) = (cells[at].clone(), Carried::Row(cells));
            self.pending.push(if record.len() > head.names.len() {
                // Which of its cells are one is not to be guessed.
                let words = format!("the row has {} cells, and the head has {}", record.len(), head.names.len());
                let hint = format!("put quotes around a cell that has `{}` in it", char::from(mark));
                let fault = Fault::new(Code::InvalidAsk, words).hint(hint);
                Pending::Bad(Box::new(Bad { source, carried, fault }))
            } else {
                Pending::Ready(Item { source, text, carried })
            });
        }
        Ok(())
    }

    fn add_objects(&mut self, name: &str, text: &str, column: Option<&str>) {
        let field = column.unwrap_or("text");
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let source = format!("{name}:{}", at + 1);
            let bad = |words: String| {
                let hint = "each line is an object; `--column` names the field that holds the text";
                let fault = Fault::new(Code::InvalidAsk, words).hint(hint);
                Pending::Bad(Box::new(Bad { source: source.clone(), carried: Carried::Nothing, fault }))
            };
            self.pending.push(match serde_json::from_str::<Map<String, Value>>(line) {
                Ok(object) => match object.get(field).and_then(Value::as_str).map(str::to_owned) {
                    Some(text) => {
                        Pending::Ready(Item { source: source.clone(), text, carried: Carried::Object(object) })
                    }
                    None => bad(format!("the object has no text in `{field}`")),
                },
                Err(error) => bad(format!("the line is no JSON object: {error}")),
            });
        }
    }
}

/// The column that holds the text: by name, by number, or the only one.
fn place(names: &[String], column: Option<&str>, file: &str) -> Result<usize, Fault> {
    let missing = |words: String| {
        Fault::new(Code::InvalidAsk, words).hint(format!("name one with `--column`: {}", names.join(", ")))
    };
    let Some(column) = column else {
        let usual = names.iter().position(|name| name.eq_ignore_ascii_case("text"));
        return match (usual, names.len()) {
            (Some(at), _) => Ok(at),
            (None, 1) => Ok(0),
            (None, count) => Err(missing(format!("`{file}` has {count} columns, and none is called `text`"))),
        };
    };
    if let Some(at) = names.iter().position(|name| name == column) {
        return Ok(at);
    }
    match column.parse::<usize>() {
        Ok(number) if (1..=names.len()).contains(&number) => Ok(number - 1),
        _ => Err(missing(format!("`{file}` has no column `{column}`"))),
    }
}

/// What stands between two cells: what the first line has most of, outside of quotes.
fn mark(text: &str, name: &str) -> u8 {
    if name.to_ascii_lowercase().ends_with(".tsv") {
        return b'\t';
    }
    let (mut counts, mut quoted) = ([(b',', 0_usize), (b';', 0), (b'\t', 0), (b'|', 0)], false);
    for byte in text.bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => break,
            byte if !quoted => counts.iter_mut().filter(|(mark, _)| *mark == byte).for_each(|(_, count)| *count += 1),
            _ => {}
        }
    }
    // Of equals the first.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(mark, _)| mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::TempHome;

    fn common(files: Vec<String>, output: Option<PathBuf>) -> Common {
        Common {
            files,
            each: None,
            column: None,
            output,
            format: None,
            jobs: 1,
            fresh: false,
            retry_failed: false,
            model: None,
            json: false,
        }
    }

    fn inputs(text: &str, each: Each, column: Option<&str>) -> Result<Inputs, Fault> {
        let mut inputs = Inputs { pending: Vec::new(), head: None, each };
        let common = Common { column: column.map(str::to_owned), ..common(Vec::new(), None) };
        inputs.add("in", text.to_owned(), each, &common)?;
        Ok(inputs)
    }

    fn texts(inputs: &Inputs) -> Vec<String> {
        (0..inputs.len()).map(|at| inputs.get(at).map_or_else(|bad| bad.fault.message, |item| item.text)).collect()
    }

    #[test]
    fn rows_have_their_text_in_a_column() {
        let table = "id;text\n1;\"a; b\nc\"\n2;d\n3\n";
        let found = inputs(table, Each::Row, None).expect("a table");
        assert_eq!(texts(&found), ["a; b\nc", "d", ""]);
        assert_eq!(found.get(1).expect("there").source, "in:4");
        assert_eq!(found.get(2).expect("there").carried, Carried::Row(vec!["3".into(), String::new()]));
        assert_eq!(texts(&inputs(table, Each::Row, Some("1")).expect("by number")), ["1", "2", "3"]);
        for bad in [Some("3"), Some("other")] {
            assert!(inputs(table, Each::Row, bad).expect_err("no such").hints[0].contains("id, text"));
        }
        assert!(inputs("a,b\n1,2\n", Each::Row, None).is_err());
    }

    #[test]
    fn a_row_longer_than_the_head_is_bad_and_the_others_are_not() {
        let found = inputs("id,text\n1,hello, world\n2,good\n", Each::Row, None).expect("a table");
        assert_eq!(texts(&found), ["the row has 3 cells, and the head has 2", "good"]);
        let bad = found.get(0).expect_err("bad");
        assert_eq!((bad.source.as_str(), bad.fault.code), ("in:2", Code::InvalidAsk));
        assert_eq!(bad.carried, Carried::Row(vec!["1".into(), "hello".into()]));
    }

    #[test]
    fn a_run_does_not_read_its_own_files() {
        let home = TempHome::new();
        let out = home.join("titles.csv");
        let mut names = vec![home.join("a.txt"), out.clone()];
        names.extend(companions(&out));
        for name in &names {
            std::fs::write(name, "x").expect("writes");
        }
        let written = |path: &Path| path.to_str().expect("utf-8").to_owned();
        let sources = |common: &Common| -> Vec<String> {
            let found = read(common).expect("inputs");
            (0..found.len()).map(|at| found.get(at).expect("there").source).collect()
        };
        // By a pattern, and with the output written in another way.
        let around = home.join("..").join(home.path().file_name().expect("a name")).join("titles.csv");
        let pattern = common(vec![written(&home.join("*"))], Some(around));
        assert_eq!(sources(&Common { each: Some(Each::File), ..pattern }), [written(&names[0])]);
        // By a shell that made names of the pattern, which has the output of an earlier run only for a retry.
        let by_name =
            Common { each: Some(Each::File), ..common(names.iter().map(|it| written(it)).collect(), Some(out)) };
        assert_eq!(sources(&by_name), [written(&names[0]), written(&names[1])]);
        assert_eq!(sources(&Common { retry_failed: true, ..by_name }), [written(&names[0])]);
    }

    #[test]
    fn a_bad_line_is_told_in_its_turn() {
        let found = inputs("{\"text\":\"a\"}\nnot json\n\n{\"x\":1}\n", Each::Object, None).expect("lines");
        let texts = texts(&found);
        assert_eq!(texts.len(), 3);
        assert!(texts[0] == "a" && texts[1].contains("no JSON object") && texts[2].contains("`text`"), "{texts:?}");
    }
}
