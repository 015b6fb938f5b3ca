//! Finds the models at a path that a person names.

use crate::model::{Model, read_model, split_name};
use base::{Code, Fault};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const DEPTH_MAX: usize = 12;
const FILES_MAX: usize = 200_000;
const MODELS_MAX: usize = 2_000;

/// The model at a file's path, or all models below a folder's. Files that look like models and aren't
/// are told to `refused`; when nothing remains, the fault says what was found instead.
pub(crate) fn models_at(path: &Path, refused: &mut dyn FnMut(&Path, &Fault)) -> Result<Vec<Model>, Fault> {
    let path = std::path::absolute(path).map_err(|error| Fault::io("open", path, &error))?;
    let about = std::fs::metadata(&path).map_err(|error| Fault::io("open", &path, &error))?;
    if !about.is_dir() {
        return Ok(vec![read_model(&path)?]);
    }
    let found = walk(&path)?;
    let (mut models, mut first) = (Vec::new(), None);
    for candidate in &found.candidates {
        match read_model(candidate) {
            Ok(model) => models.push(model),
            Err(fault) => {
                refused(candidate, &fault);
                first.get_or_insert(fault);
            }
        }
    }
    if !models.is_empty() {
        return Ok(models);
    }
    let shown = path.display();
    Err(match (first, found.files) {
        (Some(fault), _) if found.candidates.len() == 1 => fault,
        (Some(fault), _) => Fault::new(
            Code::ModelInvalid,
            format!("none of the {} model files in `{shown}` can be used", found.candidates.len()),
        )
        .cause(fault)
        .hint("add one of them by its own path to see what is wrong with it"),
        (None, 0) => Fault::new(Code::ModelMissing, format!("`{shown}` is empty"))
            .hint("name a folder that holds GGUF files, or `freehold pull starter`"),
        (None, files) => {
            Fault::new(Code::ModelMissing, format!("`{shown}` holds {files} files, but no GGUF model among them"))
                .hint("model files end in `.gguf`; `freehold pull hf:OWNER/REPO` fetches one")
        }
    })
}

#[derive(Default)]
struct Walk {
    /// In order of name.
    candidates: Vec<PathBuf>,
    files: usize,
}

/// Looks at every file below `root`. Linked files count, linked folders aren't entered, and a folder
/// that can't be read is passed over unless it is `root` itself.
fn walk(root: &Path) -> Result<Walk, Fault> {
    let mut walk = Walk::default();
    let mut folders = vec![(root.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if folder == root => return Err(Fault::io("read", root, &error)),
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "passed over");
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                if depth < DEPTH_MAX {
                    folders.push((path, depth + 1));
                }
            } else {
                walk.files += 1;
                if is_candidate(&path) {
                    walk.candidates.push(path);
                }
            }
        }
        if walk.files > FILES_MAX || walk.candidates.len() > MODELS_MAX {
            return Err(Fault::new(
                Code::InvalidAsk,
                format!("`{}` holds more than {FILES_MAX} files or {MODELS_MAX} models", root.display()),
            )
            .hint("name a folder further down"));
        }
    }
    walk.candidates.sort();
    Ok(walk)
}

/// By name: `.gguf` (of split models the first part), or another store's content-addressed file that begins like a model.
fn is_candidate(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    if name.to_ascii_lowercase().ends_with(".gguf") {
        return split_name(name).is_none_or(|(_, number, _)| number == 1) && path.is_file();
    }
    let addressed = name.strip_prefix("sha256-").is_some_and(|hash| crate::disk::checked_hash(hash).is_ok());
    addressed && begins_like_a_model(path)
}

fn begins_like_a_model(path: &Path) -> bool {
    let mut word = [0; 4];
    path.is_file() && File::open(path).and_then(|mut file| file.read_exact(&mut word)).is_ok() && word == *b"GGUF"
}
