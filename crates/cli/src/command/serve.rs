//! `freehold serve`

use crate::Context;
use crate::ending::{Ending, Outcome};
use crate::screen::Screen;
use api::{Doors, Stop};
use base::{Code, Fault};
use runtime::{Runtime, Settings};
use tokio::signal::unix::{SignalKind, signal};

const EXAMPLES: &str = "\
Other commands start the daemon in the background by themselves; this keeps
it in view, with its log on stderr and its address on stdout. Ctrl-C lets
running answers finish, a second one cuts them.

Examples:
  freehold serve
  freehold serve --port 0                 any free port
  FREEHOLD_LOG=debug freehold serve       every request, never its text";

/// Run the daemon in the foreground
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Port on 127.0.0.1 for the API; 0 takes any free one [default: 7777]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Report to the command that starts this daemon
    #[arg(long, hide = true)]
    background: bool,
}

pub(crate) fn run(args: Args, context: Context) -> Outcome {
    let Context { mut settings, screen, .. } = context;
    if let Some(port) = args.port {
        settings.port = port;
    }
    let result = serve(settings, &screen, args.background);
    if let (true, Err(Ending::Failed(fault))) = (args.background, &result) {
        runtime::report_failure(fault);
    }
    result
}

fn serve(settings: Settings, screen: &Screen, background: bool) -> Outcome {
    // Whatever this process writes is its owner's alone.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    runtime::start_logs(&settings.log)?;
    let mut claim = runtime::claim(&settings)?;
    let tokio = tokio::runtime::Builder::new_multi_thread()
        // It only hands words on: what waits for a disk has threads of its own. A second thread would be
        // woken for every token, and take a processor from the model each time.
        .worker_threads(1)
        .thread_name("freehold")
        .enable_all()
        .build()
        .map_err(|error| Fault::new(Code::Internal, "the daemon can't set itself up").cause(error))?;
    let outcome = tokio.block_on(async {
        let stop = Stop::default();
        stop_on_signals(&stop)?;
        let doors = Doors::bind(&settings).await?;
        let address = doors.address();
        let runtime = Runtime::open(settings.clone())?;
        runtime.set_address(address.clone());
        claim.ready(background)?;
        if !background {
            screen.data(&address)?;
            screen.talk(&format!(
                "Freehold {} serves OpenAI's dialect at {address}/v1\nand its own commands at {}; Ctrl-C ends it",
                runtime::VERSION,
                settings.socket.display()
            ))?;
        }
        let watchers = doors.serve(runtime.clone(), stop).await;
        runtime.shutdown().await;
        Ok(watchers)
    });
    // The lock goes before the connections of those who wait for our end: when they see it, the
    // next daemon can start.
    drop(claim);
    outcome.map(drop)
}

/// The first SIGINT or SIGTERM drains, the second cuts.
fn stop_on_signals(stop: &Stop) -> Result<(), Fault> {
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals =
            signal(kind).map_err(|error| Fault::new(Code::Internal, "signals can't be received").cause(error))?;
        let stop = stop.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                stop.ask();
            }
        });
    }
    Ok(())
}
