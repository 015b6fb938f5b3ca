//! Relative links in the project's Markdown lead somewhere, to the heading that they name.

use super::files::File;
use super::{Finding, line_of};
use std::path::{Component, Path, PathBuf};

pub(super) fn check(files: &[File], root: &Path, findings: &mut Vec<Finding>) {
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let text = without_code(&file.text);
        for (at, target) in links(&text) {
            let place = || format!("{}:{}", file.path, line_of(&text, at));
            let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
            let wanted = if path.is_empty() { file.path.clone() } else { below(&file.path, path) };
            if wanted.starts_with("..") || !root.join(&wanted).exists() {
                findings.push(Finding::new("links", place(), format!("`{target}` leads nowhere")));
            } else if let Some(anchor) = anchor.filter(|anchor| !anchor.is_empty()) {
                let page = files.iter().find(|other| other.path == wanted);
                if page.is_some_and(|page| {
                    page.path.ends_with(".md") && !anchors(&page.text).contains(&anchor.to_string())
                }) {
                    findings.push(Finding::new("links", place(), format!("`{wanted}` has no heading `#{anchor}`")));
                }
            }
        }
    }
}

/// The targets of `[text](target)` that stay within the project.
fn links(text: &str) -> Vec<(usize, &str)> {
    text.match_indices("](")
        .filter_map(|(at, _)| {
            let rest = &text[at + 2..];
            let target = rest[..rest.find(')')?].split_whitespace().next()?;
            let outside = target.contains("://") || target.starts_with("mailto:");
            (!outside).then_some((at, target))
        })
        .collect()
}

/// The text with fenced blocks and code spans blanked out, line breaks kept.
fn without_code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut fenced = false;
    for line in text.split_inclusive('\n') {
        let fence = line.trim_start().starts_with("```");
        let mut in_span = false;
        for c in line.chars() {
            in_span ^= c == '`';
            out.push(if c != '\n' && (fenced || fence || in_span || c == '`') { ' ' } else { c });
        }
        fenced ^= fence;
    }
    out
}

/// `target` as seen from the file at `from`, both below the root.
fn below(from: &str, target: &str) -> String {
    let mut path = PathBuf::from(from);
    path.pop();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => {
                if !path.pop() {
                    return "..".into();
                }
            }
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return "..".into(),
        }
    }
    path.to_string_lossy().into_owned()
}

/// What a heading is called in a link: lower case, blanks to `-`, other signs dropped.
fn anchors(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim())
        .map(|heading| {
            heading
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let text = "[a](good.md) [b](gone.md) [c](good.md#first-head) [d](good.md#none) [e](https://x.y/z)\n\
                    `[f](code.md)` [g](../../out.md)\n```\n[h](fence.md)\n```\n[i](#here) [j](sub/)\n## Here!\n";
        let folder = std::env::temp_dir().join(format!("tidy-link-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        for name in ["page.md", "good.md"] {
            std::fs::write(folder.join(name), "").unwrap();
        }
        let files = [
            File { path: "good.md".into(), text: "# First head\n".into() },
            File { path: "page.md".into(), text: text.into() },
        ];
        let mut findings = Vec::new();
        check(&files, &folder, &mut findings);
        std::fs::remove_dir_all(&folder).unwrap();
        let got: Vec<String> =
            findings.into_iter().map(|finding| format!("{} {}", finding.place, finding.message)).collect();
        assert_eq!(
            got,
            [
                "page.md:1 `gone.md` leads nowhere",
                "page.md:1 `good.md` has no heading `#none`",
                "page.md:2 `../../out.md` leads nowhere"
            ]
        );
    }
}
