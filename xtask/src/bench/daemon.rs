//! A Freehold of the benchmark's own: built in release, in a home of its own, on a free port.

use super::group::Group;
use crate::{native, place};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Off unless a benchmark sets it: steps are compared token by token, and small models fall into loops that drafts
/// would make look fast. `bench speculate` measures drafts themselves.
pub(super) const DRAFTS: &str = "FREEHOLD_DRAFTS";
/// Daemons of this process: each has a home of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);
const START_SECONDS_MAX: u64 = 30;
const STOP_SECONDS_MAX: u64 = 20;

/// The built programs and where the starter models lie.
#[derive(Debug)]
pub(crate) struct Freehold {
    pub(crate) program: PathBuf,
    pub(crate) worker: PathBuf,
    pub(crate) native: native::NativeDir,
}

/// Files of the starter models.
#[derive(Debug, Clone)]
pub(crate) struct Starter {
    pub(crate) chat: PathBuf,
    pub(crate) embed: PathBuf,
}

/// How fast the programs were compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

impl Freehold {
    /// Builds what isn't built yet.
    ///
    /// # Errors
    /// When a build fails.
    pub(crate) fn build(profile: Profile) -> Result<Self> {
        Self::build_beside(profile, native::ensure()?)
    }

    /// Builds what isn't built yet beside a worker that is.
    ///
    /// # Errors
    /// When the build fails.
    pub(crate) fn build_beside(profile: Profile, native: native::NativeDir) -> Result<Self> {
        let mut cargo = place::cargo();
        cargo.args(["build", "--quiet", "--locked", "--package", "freehold"]);
        if profile == Profile::Release {
            cargo.arg("--release");
        }
        place::output(&mut cargo)?;
        Self::built(profile, native)
    }

    /// The programs that stand in the target directory.
    ///
    /// # Errors
    /// When there are none.
    pub(crate) fn built(profile: Profile, native: native::NativeDir) -> Result<Self> {
        let folder = match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        };
        let program = place::target()?.join(folder).join(format!("freehold{}", std::env::consts::EXE_SUFFIX));
        if !program.is_file() {
            bail!("`{}` wasn't built", program.display());
        }
        Ok(Self { program, worker: native.worker.clone(), native })
    }

    /// One call of the program with this home; nothing else of Freehold's settings is passed on.
    pub(crate) fn command(&self, home: &Path) -> Command {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FREEHOLD_")) {
            command.env_remove(name);
        }
        command.env("FREEHOLD_HOME", home).env("FREEHOLD_WORKER", &self.worker).env("FREEHOLD_PORT", "0");
        command.stdin(Stdio::null());
        command
    }

    /// The object that a command prints with `--json`.
    ///
    /// # Errors
    /// When the command fails or prints something else.
    pub(crate) fn json(&self, home: &Path, args: &[&str]) -> Result<Value> {
        json(&mut self.command(home), args)
    }

    /// The starter models in a home that only chores use, pulled once.
    ///
    /// # Errors
    /// When they can't be pulled.
    pub(crate) fn starter(&self) -> Result<Starter> {
        let home = place::cache()?.join("check-home");
        let find = |kind: &str| -> Result<Option<PathBuf>> {
            let models = self.json(&home, &["models"])?;
            let rows = models["models"].as_array().or(models.as_array()).context("`freehold models` lists nothing")?;
            let row = rows.iter().find(|row| row["kind"] == kind && row["default"] == true);
            Ok(row.and_then(|row| row["path"].as_str()).map(PathBuf::from))
        };
        let starter = || -> Result<Starter> {
            // Does nothing where they are there already; without a network those of an earlier version will do.
            let pulled = place::output(self.command(&home).args(["pull", "starter"]));
            if let (Some(chat), Some(embed)) = (find("chat")?, find("embed")?) {
                if let Err(error) = pulled {
                    eprintln!("the starter models that are here already are used: {error:#}");
                }
                return Ok(Starter { chat, embed });
            }
            pulled?;
            bail!("the starter models were pulled, but `freehold models` doesn't list them")
        };
        let starter = starter();
        // Commands start a daemon; nobody needs this one any longer.
        let stopped = place::output(self.command(&home).arg("stop"));
        starter.and_then(|starter| stopped.map(|_| starter))
    }
}

fn json(command: &mut Command, args: &[&str]) -> Result<Value> {
    let text = place::output(command.args(args).arg("--json"))?;
    serde_json::from_str(&text).with_context(|| format!("`freehold {} --json` printed no JSON", args.join(" ")))
}

/// Where daemons of benchmarks write what they say.
fn log() -> Result<PathBuf> {
    Ok(place::cache()?.join("logs/bench-daemon.log"))
}

/// A daemon in this home, in a control group or in none.
fn serve(freehold: &Freehold, home: &Path, settings: &[(String, String)], group: Option<&Group>) -> Result<Child> {
    std::fs::create_dir_all(place::cache()?.join("logs"))?;
    let out = File::create(log()?)?;
    let mut serve = freehold.command(home);
    serve.arg("serve").envs(settings.iter().cloned());
    let mut serve = match group {
        Some(group) => group.enter(&serve),
        None => serve,
    };
    Ok(serve.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn()?)
}

/// A running daemon; dropping it stops it.
#[derive(Debug)]
pub(crate) struct Daemon<'a> {
    freehold: &'a Freehold,
    home: PathBuf,
    /// Every command must name what the daemon was started with.
    settings: Vec<(String, String)>,
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl<'a> Daemon<'a> {
    /// Starts a daemon in an empty home and adds the starter models in place.
    ///
    /// # Errors
    /// When it doesn't serve within its time; its log is named.
    pub(crate) fn start(freehold: &'a Freehold, starter: &Starter) -> Result<Self> {
        Self::start_with(freehold, &[&starter.chat, &starter.embed], &[])
    }

    /// Starts a daemon with these settings in an empty home and adds models in place.
    ///
    /// # Errors
    /// When it doesn't serve within its time; its log is named.
    pub(crate) fn start_with(freehold: &'a Freehold, models: &[&Path], settings: &[(&str, String)]) -> Result<Self> {
        Self::start_in(freehold, models, settings, None)
    }

    /// As [`Self::start_with`], in a control group.
    ///
    /// # Errors
    /// As [`Self::start_with`].
    pub(super) fn start_in(
        freehold: &'a Freehold,
        models: &[&Path],
        settings: &[(&str, String)],
        group: Option<&Group>,
    ) -> Result<Self> {
        // Others may be at it too: a check runs while a benchmark waits.
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let home = place::cache()?.join("bench-home").join(format!("{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&home);
        std::fs::create_dir_all(&home)?;
        let mut settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_string(), value.clone())).collect();
        if settings.iter().all(|(name, _)| name != DRAFTS) {
            settings.push((DRAFTS.to_string(), "0".to_string()));
        }
        let child = serve(freehold, &home, &settings, group)?;
        let mut daemon = Self { freehold, home, settings, child, address: String::new() };
        daemon.wait()?;
        for model in models {
            let model = model.to_str().context("a model's path isn't UTF-8")?;
            daemon.json(&["models", "add", model])?;
        }
        Ok(daemon)
    }

    /// Until it tells its address.
    fn wait(&mut self) -> Result<()> {
        let start = Instant::now();
        self.address = loop {
            if let Some(address) = self.status().ok().and_then(|status| Some(status["address"].as_str()?.to_string())) {
                break address;
            }
            if start.elapsed() > Duration::from_secs(START_SECONDS_MAX) || self.child.try_wait()?.is_some() {
                bail!("the daemon doesn't serve; its log: {}", log()?.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        Ok(())
    }

    /// Ends it with `kill -9`, and starts another one in its home, with these settings in place of those of the same name.
    ///
    /// # Errors
    /// As [`Self::start_with`].
    pub(super) fn kill_and_start(&mut self, changed: &[(&str, String)]) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        for (name, value) in changed {
            self.settings.retain(|(known, _)| known != name);
            self.settings.push(((*name).to_string(), value.clone()));
        }
        self.child = serve(self.freehold, &self.home, &self.settings, None)?;
        self.wait()
    }

    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// # Errors
    /// When it doesn't answer.
    pub(crate) fn status(&self) -> Result<Value> {
        self.json(&["status"])
    }

    /// # Errors
    /// When the command fails or prints no JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Result<Value> {
        json(&mut self.command(), args)
    }

    /// What the model in this file is called.
    ///
    /// # Errors
    /// When it isn't listed.
    pub(super) fn model_name(&self, model: &Path) -> Result<String> {
        let models = self.json(&["models"])?;
        let rows = models["models"].as_array().or(models.as_array()).context("`freehold models` lists nothing")?;
        let path = model.to_str().context("a model's path isn't UTF-8")?;
        let row = rows.iter().find(|row| row["path"] == path).context("the model isn't listed")?;
        Ok(row["name"].as_str().context("a model has a name")?.to_string())
    }

    /// What `status` says of the loaded model in this file.
    ///
    /// # Errors
    /// When it isn't loaded.
    pub(crate) fn loaded(&self, model: &Path) -> Result<Loaded> {
        let name = self.model_name(model)?;
        let status = self.status()?;
        let mut loaded = status["models"].as_array().into_iter().flatten();
        let facts = loaded.find(|one| one["name"] == name.as_str());
        let facts = facts.with_context(|| format!("`{}` isn't loaded", model.display()))?;
        Ok(Loaded { facts: facts.clone() })
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = self.freehold.command(&self.home);
        command.envs(self.settings.clone());
        command
    }
}

/// A loaded model, as `freehold status --json` tells it.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) facts: Value,
}

impl Loaded {
    /// # Errors
    /// When `status` has no such number.
    pub(crate) fn number(&self, name: &str) -> Result<u32> {
        let number = self.facts[name].as_u64().and_then(|number| u32::try_from(number).ok());
        number.with_context(|| format!("`freehold status` names no `{name}`"))
    }

    /// A list as words.
    pub(crate) fn words(&self, name: &str) -> String {
        self.facts[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = place::output(self.command().arg("stop"));
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > Duration::from_secs(STOP_SECONDS_MAX) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
