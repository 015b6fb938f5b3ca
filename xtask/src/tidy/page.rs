//! `docs/errors.md` against the table of fault codes: every code has its row, with the same numbers.

use super::files::File;
use super::{Finding, guard};

const CODES: &str = "crates/base/src/fault.rs";
const PAGE: &str = "docs/errors.md";
/// Columns of the page: code, HTTP status, exit status, may be sent again, when, what to do.
const COLUMNS: usize = 6;

#[derive(Debug, PartialEq, Eq)]
struct Code {
    text: String,
    http: String,
    exit: String,
    retry: bool,
}

pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    let text = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    let (Some(source), Some(page)) = (text(CODES), text(PAGE)) else {
        findings.push(Finding::new("errors page", PAGE, format!("this page or `{CODES}` is missing")));
        return;
    };
    let codes = codes(source);
    if codes.is_empty() {
        findings.push(Finding::new("errors page", CODES, "holds no line like `Name = \"text\", 400, 2, false;`"));
    }
    let rows = rows(page);
    for code in &codes {
        match rows.iter().find(|(row, _)| row.text == code.text) {
            None => findings.push(Finding::new("errors page", PAGE, format!("has no row for `{}`", code.text))),
            Some((row, place)) if row != code => {
                let message = format!(
                    "`{}` is {}, exit {}, retry {} in the code; the page says {}, {}, {}",
                    code.text, code.http, code.exit, code.retry, row.http, row.exit, row.retry
                );
                findings.push(Finding::new("errors page", place.clone(), message));
            }
            Some(_) => {}
        }
    }
    for (row, place) in rows.iter().filter(|(row, _)| codes.iter().all(|code| code.text != row.text)) {
        let message = format!("has a row for `{}`, which is no fault code", row.text);
        findings.push(Finding::new("errors page", place.clone(), message));
    }
}

/// The lines `Name = "text", http, exit, retry;` of the macro's table.
fn codes(source: &str) -> Vec<Code> {
    source
        .lines()
        .filter_map(|line| {
            let (_, row) = line.trim().strip_suffix(';')?.split_once(" = \"")?;
            let parts: Vec<&str> = row.split(',').map(str::trim).collect();
            let [text, http, exit, retry] = parts.as_slice() else { return None };
            let retry = retry.parse().ok()?;
            Some(Code { text: text.trim_end_matches('"').into(), http: (*http).into(), exit: (*exit).into(), retry })
        })
        .collect()
}

fn rows(page: &str) -> Vec<(Code, String)> {
    let mut found = Vec::new();
    for (at, line) in page.lines().enumerate() {
        let cells = guard::cells(line);
        let is_row =
            cells.len() == COLUMNS && cells[0].starts_with('`') && cells[4..].iter().all(|cell| !cell.is_empty());
        if is_row {
            let retry = cells[3] == "yes";
            let code = Code { text: cells[0].replace('`', ""), http: cells[1].clone(), exit: cells[2].clone(), retry };
            found.push((code, format!("{PAGE}:{}", at + 1)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str =
        "codes! {\n    /// x\n    Busy = \"busy\", 429, 7, true;\n    Bad = \"bad\", 400, 2, false;\n}\n";

    fn found(page: &str) -> Vec<String> {
        let files = [File { path: CODES.into(), text: SOURCE.into() }, File { path: PAGE.into(), text: page.into() }];
        let mut findings = Vec::new();
        check(&files, &mut findings);
        findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn page_and_table_must_agree_both_ways() {
        let good = "| `busy` | 429 | 7 | yes | when | do |\n| `bad` | 400 | 2 | no | when | do |\n";
        assert!(found(good).is_empty());
        assert!(found(&good.replace("429", "500"))[0].contains("429"));
        assert!(found(&good.replace("| yes |", "| no |"))[0].contains("retry true"));
        assert!(found(&format!("{good}| `gone` | 1 | 1 | no | when | do |\n"))[0].contains("no fault code"));
        assert!(
            found("| `busy` | 429 | 7 | yes | when | do |\n| `bad` | 400 | 2 | no | when |  |\n")[0].contains("`bad`")
        );
    }
}
