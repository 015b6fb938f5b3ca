//! Known vulnerabilities among the locked packages, by the public RustSec database.
//!
//! The database is fetched with git into the cache and used for a day. Where it can't be reached
//! the check says so and is skipped: a machine without a network must still be able to build.

use super::{locked, rules};
use crate::place;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

const DATABASE: &str = "https://github.com/rustsec/advisory-db";
/// Long enough for a slow line, short enough that a build without a network isn't held up.
const FETCH_SECONDS_MAX: u64 = 60;
const FRESH_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Skipped(String),
    /// `warnings`: packages without a maintainer and the like; they don't fail the check.
    Clean {
        advisories: usize,
        warnings: Vec<String>,
    },
    Found {
        vulnerabilities: Vec<String>,
        warnings: Vec<String>,
    },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Skipped(why) => write!(f, "skipped, the database can't be reached ({why})"),
            Outcome::Clean { advisories, warnings } => {
                write!(f, "none of {advisories} known ones applies")?;
                warnings.iter().try_for_each(|line| write!(f, "\n  warning: {line}"))
            }
            Outcome::Found { vulnerabilities, warnings } => {
                write!(f, "{} found", vulnerabilities.len())?;
                vulnerabilities.iter().try_for_each(|line| write!(f, "\n  {line}"))?;
                warnings.iter().try_for_each(|line| write!(f, "\n  warning: {line}"))
            }
        }
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    advisory: Head,
    #[serde(default)]
    versions: Versions,
}

#[derive(Debug, Deserialize)]
struct Head {
    id: String,
    package: String,
    #[serde(default)]
    withdrawn: Option<String>,
    /// `unmaintained`, `unsound`, `notice`; absent for a vulnerability.
    #[serde(default)]
    informational: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Versions {
    #[serde(default)]
    patched: Vec<String>,
    #[serde(default)]
    unaffected: Vec<String>,
}

/// Looks every locked package up.
///
/// # Errors
/// When the lock file or a fetched database can't be read.
pub(crate) fn check() -> Result<Outcome> {
    let folder = match database() {
        Ok(folder) => folder,
        Err(why) => return Ok(Outcome::Skipped(why.to_string())),
    };
    let ignored: Vec<String> =
        rules()?.advisories.ignore.into_iter().filter(|i| !i.reason.is_empty()).map(|i| i.id).collect();
    judge(&folder, &locked()?, &ignored)
}

fn judge(folder: &Path, locked: &BTreeMap<String, Vec<semver::Version>>, ignored: &[String]) -> Result<Outcome> {
    let mut vulnerabilities = Vec::new();
    let mut warnings = Vec::new();
    let mut advisories = 0;
    let crates = folder.join("crates");
    for package in std::fs::read_dir(&crates).with_context(|| format!("can't read `{}`", crates.display()))? {
        for file in std::fs::read_dir(package?.path())? {
            let path = file?.path();
            if path.extension().is_none_or(|end| end != "md") {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let page = front_matter(&text).with_context(|| format!("can't read `{}`", path.display()))?;
            advisories += 1;
            let versions = locked.get(&page.advisory.package).map(Vec::as_slice).unwrap_or_default();
            if page.advisory.withdrawn.is_some() || ignored.contains(&page.advisory.id) {
                continue;
            }
            for version in versions.iter().filter(|version| page.versions.affects(version)) {
                let title = text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or("no title");
                let line = format!("{} {version}: {}: {title}", page.advisory.package, page.advisory.id);
                match &page.advisory.informational {
                    Some(kind) => warnings.push(format!("{line} ({kind})")),
                    None => vulnerabilities.push(line),
                }
            }
        }
    }
    Ok(if vulnerabilities.is_empty() {
        Outcome::Clean { advisories, warnings }
    } else {
        Outcome::Found { vulnerabilities, warnings }
    })
}

impl Versions {
    /// A version that is neither patched nor unaffected. A requirement that can't be read counts
    /// as not fulfilled: better one alarm too many.
    fn affects(&self, version: &semver::Version) -> bool {
        !self.patched.iter().chain(&self.unaffected).any(|requirement| {
            semver::VersionReq::parse(requirement).is_ok_and(|requirement| {
                // A pre-release of a patched version counts as the version that it leads to.
                let plain = semver::Version::new(version.major, version.minor, version.patch);
                requirement.matches(version) || requirement.matches(&plain)
            })
        })
    }
}

/// The block between "```toml" and "```" at the top of an advisory.
fn front_matter(text: &str) -> Result<Page> {
    let block = text.split_once("```toml").context("no block of TOML")?.1;
    let block = block.split_once("```").context("the block of TOML has no end")?.0;
    Ok(toml::from_str(block)?)
}

/// A folder with the database, fetched when there is none of today's.
fn database() -> Result<PathBuf> {
    let folder = place::cache()?.join("advisory-db");
    let mark = folder.join(".git/fetched");
    let age = std::fs::metadata(&mark).and_then(|mark| mark.modified()).ok();
    if age.and_then(|when| SystemTime::now().duration_since(when).ok()).is_some_and(|age| age < FRESH_FOR) {
        return Ok(folder);
    }
    let source = std::env::var("FREEHOLD_ADVISORY_DB").unwrap_or_else(|_| DATABASE.into());
    let fresh = folder.with_extension("new");
    let _ = std::fs::remove_dir_all(&fresh);
    let mut command = Command::new("git");
    command
        .args(["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=10", "clone", "--quiet", "--depth", "1"])
        .args([source.as_str()])
        .arg(&fresh)
        .env("GIT_TERMINAL_PROMPT", "0");
    bounded(&mut command)?;
    std::fs::write(fresh.join(".git/fetched"), "")?;
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::rename(&fresh, &folder).context("can't put the advisories in place")?;
    Ok(folder)
}

/// Runs git for at most [`FETCH_SECONDS_MAX`]; the error is the last line that it said.
fn bounded(command: &mut Command) -> Result<()> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("no git")?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() > Duration::from_secs(FETCH_SECONDS_MAX) {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("no answer within {FETCH_SECONDS_MAX} s");
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if status.success() {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(mut pipe) = child.stderr.take() {
        std::io::Read::read_to_string(&mut pipe, &mut said)?;
    }
    anyhow::bail!("{}", said.lines().last().unwrap_or("git failed").trim_start_matches("fatal: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "```toml\n[advisory]\nid = \"RUSTSEC-2020-0001\"\npackage = \"weak\"\ndate = \"2020-01-01\"\n\
                        [versions]\npatched = [\">= 1.2.3\", \"^0.9.8\"]\nunaffected = [\"< 0.5.0\"]\n```\n\n# Falls over\n";

    #[test]
    fn affected_versions_are_told_from_others() {
        let page = front_matter(PAGE).expect("page");
        for (version, affected) in [
            ("1.2.2", true),
            ("1.2.3", false),
            ("1.2.3-beta.1", false),
            ("2.0.0", false),
            ("0.9.8", false),
            ("0.9.7", true),
            ("0.4.9", false),
        ] {
            assert_eq!(page.versions.affects(&version.parse().expect(version)), affected, "{version}");
        }
        assert!(Versions::default().affects(&"1.0.0".parse().expect("version")));
    }

    #[test]
    fn a_database_is_judged() {
        let folder = std::env::temp_dir().join(format!("advisories-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("crates/weak")).unwrap();
        std::fs::write(folder.join("crates/weak/RUSTSEC-2020-0001.md"), PAGE).unwrap();
        let unsound = PAGE.replace("2020-0001", "2020-0002").replace("date", "informational = \"unsound\"\ndate");
        std::fs::write(folder.join("crates/weak/RUSTSEC-2020-0002.md"), unsound).unwrap();
        let lock = |version: &str| BTreeMap::from([("weak".to_string(), vec![version.parse().expect("version")])]);
        let bad = judge(&folder, &lock("1.0.0"), &[]).unwrap();
        let ignored = judge(&folder, &lock("1.0.0"), &["RUSTSEC-2020-0001".to_string()]).unwrap();
        let good = judge(&folder, &lock("1.3.0"), &[]).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(
            matches!(&bad, Outcome::Found { vulnerabilities, warnings } if vulnerabilities.len() == 1 && warnings.len() == 1)
        );
        assert!(bad.to_string().contains("Falls over"));
        assert!(matches!(ignored, Outcome::Clean { warnings, .. } if warnings.len() == 1));
        assert_eq!(good, Outcome::Clean { advisories: 2, warnings: vec![] });
    }

    #[test]
    fn a_database_out_of_reach_ends_quickly() {
        let mut command = Command::new("git");
        command.args(["clone", "--quiet", "/nowhere/at/all", "/nowhere/else"]);
        assert!(bounded(&mut command).is_err());
    }
}
