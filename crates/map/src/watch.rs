//! The system's word on what changes in folders. What it can't watch is said, so that somebody walks there.
//!
//! On Linux each folder takes one of a limited number of watches, so only folders that a walk lists are watched,
//! not caches and version control. Elsewhere the system watches a source with all below it.

use crate::settle::Note;
use crate::walk::DECIDING;
use base::{Code, Fault};
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::{Path, PathBuf};

/// Whether each folder is watched by itself.
const EACH_FOLDER: bool = cfg!(target_os = "linux");

/// Watched folders. Nothing wakes this process while nothing happens in them.
pub struct Watch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("folders", &self.folders.len()).finish_non_exhaustive()
    }
}

/// What a watcher heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    pub notes: Vec<Note>,
    /// Paths that are no longer where they were: if they were folders, their watches mean nothing now.
    pub left: Vec<PathBuf>,
}

impl Watch {
    /// Starts watching nothing yet. `on` is called on a thread of the watcher's and mustn't block.
    ///
    /// # Errors
    /// When the system gives no watcher, with its reason.
    pub fn start(mut on: impl FnMut(Heard) + Send + 'static) -> Result<Self, Fault> {
        let watcher = notify::recommended_watcher(move |event| {
            let heard = heard(event);
            if !heard.notes.is_empty() {
                on(heard);
            }
        })
        .map_err(|error| Fault::new(Code::Internal, "the system gives no watcher of files").cause(error))?;
        Ok(Self { watcher, folders: BTreeSet::new() })
    }

    /// Watches folders as well. Returns those that are new, and why others can't be watched.
    pub fn follow(&mut self, folders: impl IntoIterator<Item = PathBuf>) -> (Vec<PathBuf>, Option<String>) {
        let (mut added, mut trouble) = (Vec::new(), None);
        let mode = if EACH_FOLDER { RecursiveMode::NonRecursive } else { RecursiveMode::Recursive };
        for folder in folders {
            let watched = if EACH_FOLDER {
                self.folders.contains(&folder)
            } else {
                folder.ancestors().any(|above| self.folders.contains(above))
            };
            if watched {
                continue;
            }
            match self.watcher.watch(&folder, mode) {
                Ok(()) => {
                    self.folders.insert(folder.clone());
                    added.push(folder);
                }
                Err(error) => match error.kind {
                    // It went before it could be watched; its parent's watch has said so.
                    ErrorKind::PathNotFound => {}
                    ErrorKind::MaxFilesWatch => {
                        let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches");
                        let most = most.map_or_else(|_| "its limit of".to_owned(), |most| most.trim().to_owned());
                        trouble = Some(format!(
                            "the system allows {most} watched folders for all programs of a user, and they are used up; \
                             raise fs.inotify.max_user_watches to have changes seen at once"
                        ));
                        break;
                    }
                    _ => trouble = Some(format!("`{}` can't be watched: {error}", folder.display())),
                },
            }
        }
        (added, trouble)
    }

    /// Lets go of a folder and all below it.
    pub fn leave(&mut self, path: &Path) {
        let below: Vec<PathBuf> = self
            .folders
            .range::<Path, _>((Bound::Included(path), Bound::Unbounded))
            .take_while(|folder| folder.starts_with(path))
            .cloned()
            .collect();
        for folder in below {
            // The system may have let go of it already.
            let _ = self.watcher.unwatch(&folder);
            self.folders.remove(&folder);
        }
    }
}

/// What an event means for what is read. Losing track and not knowing mean looking at everything.
fn heard(event: notify::Result<Event>) -> Heard {
    let everything = Heard { notes: vec![Note::Everything], left: Vec::new() };
    let Ok(event) = event else { return everything };
    if event.need_rescan() {
        return everything;
    }
    let left = match event.kind {
        // Reading changes nothing; the end of writing does.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Vec::new(),
        EventKind::Access(_) => return Heard { notes: Vec::new(), left: Vec::new() },
        EventKind::Any | EventKind::Other => return everything,
        EventKind::Remove(_) => event.paths.clone(),
        EventKind::Modify(ModifyKind::Name(RenameMode::From | RenameMode::Both | RenameMode::Any)) => {
            event.paths.first().cloned().into_iter().collect()
        }
        EventKind::Create(_) | EventKind::Modify(_) => Vec::new(),
    };
    if event.paths.is_empty() {
        return everything;
    }
    Heard { notes: event.paths.into_iter().map(|path| Note::Path(deciding(path))).collect(), left }
}

/// An ignore file decides about its whole folder.
fn deciding(path: PathBuf) -> PathBuf {
    let decides = path.file_name().is_some_and(|name| DECIDING.iter().any(|deciding| name == *deciding));
    match path.parent() {
        Some(folder) if decides => folder.to_path_buf(),
        _ => path,
    }
}

/// Why changes in this folder can't be heard of: another machine makes them, or another system.
pub fn is_deaf(folder: &Path) -> Option<&'static str> {
    #[cfg(target_os = "linux")]
    {
        const DEAF: [(i64, &str); 8] = [
            (0x6969, "NFS"),
            (0x517b, "SMB"),
            (0xfe53_4d42, "SMB"),
            (0xff53_4d42, "CIFS"),
            (0x6573_5546, "FUSE"),
            (0x0102_1997, "9P"),
            (0x7461_636f, "OCFS2"),
            (0x5346_414f, "AFS"),
        ];
        let kind = rustix::fs::statfs(folder).ok()?.f_type;
        // Its width differs between systems.
        let kind = (kind as i64) & 0xffff_ffff;
        DEAF.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = folder;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, Flag, RemoveKind};

    fn notes(kind: EventKind, paths: &[&str]) -> Vec<Note> {
        let event = paths.iter().fold(Event::new(kind), |event, path| event.add_path(PathBuf::from(path)));
        heard(Ok(event)).notes
    }

    fn path(path: &str) -> Vec<Note> {
        vec![Note::Path(PathBuf::from(path))]
    }

    #[test]
    fn what_is_not_understood_means_looking_at_everything() {
        let everything = vec![Note::Everything];
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        assert_eq!(heard(Ok(lost)).notes, everything);
        let lost = Event::new(EventKind::Create(CreateKind::File)).add_path("/a".into()).set_flag(Flag::Rescan);
        assert_eq!(heard(Ok(lost)).notes, everything);
        assert_eq!(heard(Err(notify::Error::generic("lost"))).notes, everything);
        for kind in [EventKind::Any, EventKind::Other] {
            assert_eq!(notes(kind, &["/a"]), everything);
        }
        assert_eq!(notes(EventKind::Create(CreateKind::Any), &[]), everything);
    }

    #[test]
    fn reading_is_no_change_and_an_ignore_file_is_its_folders() {
        assert_eq!(notes(EventKind::Access(AccessKind::Open(AccessMode::Any)), &["/a"]), []);
        assert_eq!(notes(EventKind::Access(AccessKind::Close(AccessMode::Write)), &["/a"]), path("/a"));
        assert_eq!(notes(EventKind::Modify(ModifyKind::Data(DataChange::Any)), &["/a/b"]), path("/a/b"));
        assert_eq!(notes(EventKind::Remove(RemoveKind::File), &["/a/.gitignore"]), path("/a"));
    }

    #[test]
    fn what_left_its_place_is_told() {
        let both = Event::new(EventKind::Modify(ModifyKind::Name(RenameMode::Both)));
        let heard = heard(Ok(both.add_path("/old".into()).add_path("/new".into())));
        assert_eq!(heard.left, [PathBuf::from("/old")]);
        assert_eq!(heard.notes.len(), 2);
    }
}
