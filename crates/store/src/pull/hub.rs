//! Pulls a model from a hub that speaks Hugging Face's protocol.

use super::fetch::{Came, Wanted};
use super::listing::{About, Choice, Item, choices, choose};
use super::{Job, PullStep};
use crate::entry::{Entry, Source};
use crate::model::read_parts;
use base::{Bytes, Code, Fault};
use gateway::{Pass, Purpose, Request};
use std::path::PathBuf;

const ABOUT_BYTES_MAX: u64 = 16 << 20;
/// Pages of a listing, at about a thousand files each.
const PAGES_MAX: u32 = 20;

pub(super) fn pull(job: &mut Job<'_>, repo: &str, quant: Option<&str>) -> Result<Vec<Entry>, Fault> {
    let hub = job.gateway.policy().hub.trim_end_matches('/').to_owned();
    let pass = job.gateway.consent(Purpose::ModelDownload, &hub, job.given_by.clone())?;
    let about: About = parsed(repo, &job.text(&pass, &format!("{hub}/api/models/{repo}"), repo)?.0)?;
    let items = job.tree(&pass, &hub, repo, about.revision())?;
    let choice = choose(repo, &choices(&items), quant)?;
    let license = about.license();
    plan(job, &hub, repo, &choice, &license);
    let mut parts = Vec::new();
    for item in &choice.files {
        let url = format!("{hub}/{repo}/resolve/{}/{}", about.revision(), encoded(&item.path));
        parts.push(job.part(&pass, item, url)?);
    }
    let source = Source::Hub {
        hub: hub.trim_start_matches("https://").to_owned(),
        repo: repo.to_owned(),
        files: choice.files.iter().map(|item| item.path.clone()).collect(),
    };
    let entry = job.enter(&parts, &choice, source, &license)?;
    Ok(vec![entry])
}

/// Everything that will be fetched is said before the first of it is.
fn plan(job: &mut Job<'_>, hub: &str, repo: &str, choice: &Choice, license: &str) {
    for item in &choice.files {
        job.tell(PullStep::Plan {
            what: item.path.clone(),
            source: format!("{hub}/{repo}"),
            bytes: Some(Bytes(item.bytes())),
            license: license.to_owned(),
            sha256: item.sha256(),
        });
    }
    if license.is_empty() {
        job.notice(format!("`{repo}` states no licence: it is unknown what you may do with the model"));
    }
}

/// A pulled file that may still have to be moved to its place.
enum Pulled {
    Here { path: PathBuf, sha256: String },
    Came(Came),
}

impl Pulled {
    fn path(&self) -> &PathBuf {
        match self {
            Self::Here { path, .. } => path,
            Self::Came(came) => &came.path,
        }
    }

    fn sha256(&self) -> &str {
        match self {
            Self::Here { sha256, .. } => sha256,
            Self::Came(came) => &came.sha256,
        }
    }
}

impl Job<'_> {
    fn part(&mut self, pass: &Pass, item: &Item, url: String) -> Result<Pulled, Fault> {
        let (bytes, sha256) = (item.bytes(), item.sha256());
        match &sha256 {
            Some(sha256) => {
                if let Some(path) = self.blob(&item.path, sha256)? {
                    self.notice(format!("{} is already here", item.path));
                    return Ok(Pulled::Here { path, sha256: sha256.clone() });
                }
            }
            None => self.notice(format!("the hub states no SHA-256 for {}: it can't be verified", item.path)),
        }
        self.fetch(pass, &Wanted { what: item.path.clone(), url, bytes: Some(bytes), sha256 }).map(Pulled::Came)
    }

    /// Checks the headers, then gives the files their place and the model its name.
    fn enter(&mut self, pulled: &[Pulled], choice: &Choice, source: Source, license: &str) -> Result<Entry, Fault> {
        let checked = read_parts(pulled.iter().map(|part| part.path().clone()).collect());
        let mut model = checked.map_err(|fault| {
            // What came is what the hub has, byte for byte: it is of no use to keep it.
            pulled.iter().for_each(|part| drop(std::fs::remove_file(part.path())));
            fault.hint("the repository itself holds this file: choose another one")
        })?;
        let mut parts = Vec::new();
        for part in pulled {
            parts.push(match part {
                Pulled::Here { path, .. } => path.clone(),
                Pulled::Came(came) => self.settle(&came.path, &came.sha256)?,
            });
        }
        model.parts = parts;
        let file = PathBuf::from(&choice.files[0].path);
        let name = crate::name::name_of(&file, &model.header, &model.facts);
        let sha256 = match pulled {
            [one] => Some(one.sha256().to_owned()),
            _ => None,
        };
        self.store.change(|index| {
            let mut entry = index.adopt(model, source.clone(), Some(&name));
            entry.source = source;
            entry.sha256 = sha256;
            if !license.is_empty() {
                entry.license = license.to_owned();
            }
            index.put(entry.clone());
            Ok(entry)
        })
    }

    fn tree(&mut self, pass: &Pass, hub: &str, repo: &str, revision: &str) -> Result<Vec<Item>, Fault> {
        let mut url = format!("{hub}/api/models/{repo}/tree/{revision}?recursive=true");
        let mut items: Vec<Item> = Vec::new();
        for _ in 0..PAGES_MAX {
            let (text, next) = self.text(pass, &url, repo)?;
            items.extend(parsed::<Vec<Item>>(repo, &text)?);
            match next {
                Some(next) => url = next,
                None => return Ok(items),
            }
        }
        Err(Fault::new(Code::DownloadFailed, format!("`{repo}` lists more than {PAGES_MAX} pages of files")))
    }

    /// A small text, and the address of its next page.
    fn text(&mut self, pass: &Pass, url: &str, repo: &str) -> Result<(String, Option<String>), Fault> {
        self.check_cancel()?;
        let request = Request { url, range_from: 0, if_range: None, cancel: self.cancel };
        let mut download = self.gateway.get(pass, &request)?;
        match download.status() {
            200 => {}
            // The hub doesn't tell strangers whether a repository exists or is private.
            401 | 403 | 404 => {
                return Err(Fault::new(
                    Code::ModelMissing,
                    format!("the hub has no `{repo}`, or keeps it private ({})", download.status()),
                )
                .hint("check the spelling: OWNER/REPO as in the address of its page"));
            }
            status => {
                return Err(Fault::new(Code::DownloadFailed, format!("the hub answered {status} for `{repo}`"))
                    .hint("try again in a while"));
            }
        }
        let next = download.header("link").and_then(next_page).map(str::to_owned);
        let text = download.read_text(ABOUT_BYTES_MAX).map_err(|error| {
            Fault::new(Code::DownloadFailed, format!("the hub's answer about `{repo}` broke off")).cause(error)
        })?;
        Ok((text, next))
    }
}

fn parsed<T: serde::de::DeserializeOwned>(repo: &str, text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|error| {
        Fault::new(Code::DownloadFailed, format!("the hub's answer about `{repo}` can't be understood")).cause(error)
    })
}

/// `<https://…>; rel="next"` among the links of a header.
fn next_page(header: &str) -> Option<&str> {
    header.split(',').find_map(|link| {
        let (address, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
        rest.contains("rel=\"next\"").then_some(address)
    })
}

/// A path for an address: everything but unreserved characters and slashes is escaped.
fn encoded(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_pages() {
        assert_eq!(encoded("a b/ü?.gguf"), "a%20b/%C3%BC%3F.gguf");
        assert_eq!(next_page("<https://h/x?cursor=1>; rel=\"next\""), Some("https://h/x?cursor=1"));
        assert_eq!(next_page("<https://h/0>; rel=\"prev\", <https://h/2>; rel=\"next\""), Some("https://h/2"));
        assert_eq!(next_page("<https://h/0>; rel=\"prev\""), None);
        assert_eq!(next_page("nonsense"), None);
    }
}
