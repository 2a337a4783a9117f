//! From the start to the end: join, listen, say so, drain.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use mesh_core::{Config, Mesh};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing_subscriber::EnvFilter;

use crate::echo::{self, Echo};
use crate::failure::Failure;
use crate::flags::Flags;

/// How long the program waits until it is ready before it says where it listens all the same.
const UNTIL_READY: Duration = Duration::from_secs(3);
/// How long requests without a mesh may take to finish once the program is told to end; those in
/// a mesh have `Limits::drain`. A second signal ends both at once.
const DRAIN: Duration = Duration::from_secs(5);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(5);

/// Runs until it is told to end.
pub(crate) async fn run(flags: &Flags) -> Result<(), Failure> {
    log();
    if let Err(error) = mesh_tls::accept::descriptors::raise() {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let stop = Stop::new().map_err(Failure::Signals)?;
    let address = flags.listen;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| Failure::Listen { address, source })?;
    if flags.plaintext {
        without_mesh(flags, listener, stop).await
    } else {
        in_mesh(flags, listener, stop).await
    }
}

async fn in_mesh(flags: &Flags, listener: TcpListener, mut stop: Stop) -> Result<(), Failure> {
    let config = flags.over(Config::from_env()?)?;
    let services = config.services.clone();
    let address = listener.local_addr().map_err(Failure::Plaintext)?;
    let mut listening = Listening {
        address,
        said: false,
    };
    let mesh = tokio::select! {
        mesh = joined(config, &mut listening) => mesh?,
        () = stop.heard() => return Ok(()),
    };
    let app = app(Echo {
        services,
        pod: mesh.workload().pod.clone(),
        fail_rate: flags.fail_rate,
        latency: flags.latency,
    });
    let serving = mesh.serve(listener, app);
    tokio::pin!(serving);
    let ended = async {
        tokio::select! {
            () = ready(&mesh) => {
                let admin = mesh.admin_address();
                let admin = admin.map_or_else(|| "off".to_owned(), |admin| admin.to_string());
                listening.say();
                say(&format!("admin {admin}\n"));
                stop.heard().await;
            }
            () = stop.heard() => {}
        }
        tokio::select! {
            () = mesh.drain() => {}
            () = stop.heard() => {}
        }
    };
    tokio::select! {
        served = &mut serving => Ok(served?),
        () = ended => Ok(()),
    }
}

async fn without_mesh(flags: &Flags, listener: TcpListener, mut stop: Stop) -> Result<(), Failure> {
    let pod = flags.name.clone();
    let app = app(Echo {
        services: flags.services.clone(),
        pod: pod.unwrap_or_else(|| format!("mesh-echo-{}", std::process::id())),
        fail_rate: flags.fail_rate,
        latency: flags.latency,
    });
    let address = listener.local_addr().map_err(Failure::Plaintext)?;
    say(&format!("listening {address}\n"));
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "answers may be held back");
        }
    });
    let (end, ended) = oneshot::channel::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async {
        // The sender lives until it has sent.
        drop(ended.await);
    });
    let limit = async {
        stop.heard().await;
        // Who serves no more need not hear it.
        end.send(()).ok();
        drop(timeout(DRAIN, stop.heard()).await);
    };
    tokio::select! {
        served = serving => served.map_err(Failure::Plaintext),
        () = limit => Ok(()),
    }
}

fn app(echo: Echo) -> Router {
    Router::new()
        .fallback(echo::answer)
        .with_state(Arc::new(echo))
}

/// Joins the mesh. Where discovery is away, the address of the listener is printed all the same:
/// connections wait there, and a reader of standard output may go on.
async fn joined(config: Config, listening: &mut Listening) -> Result<Mesh, Failure> {
    let join = Mesh::join(config);
    tokio::pin!(join);
    match timeout(UNTIL_READY, &mut join).await {
        Ok(mesh) => Ok(mesh?),
        Err(_) => {
            tracing::warn!("not joined yet: discovery has not answered");
            listening.say();
            Ok(join.await?)
        }
    }
}

/// The line that says where the program listens, printed once.
struct Listening {
    address: SocketAddr,
    said: bool,
}

impl Listening {
    fn say(&mut self) {
        if !std::mem::replace(&mut self.said, true) {
            say(&format!("listening {}\n", self.address));
        }
    }
}

/// Waits until discovery tells callers of this process, but not for ever: who starts this
/// program waits for the line that it then prints.
async fn ready(mesh: &Mesh) {
    let ready = async {
        while !mesh.is_ready() {
            sleep(LOOK).await;
        }
    };
    if timeout(UNTIL_READY, ready).await.is_err() {
        tracing::warn!(reasons = ?mesh.not_ready(), "not ready yet");
    }
}

/// Whoever reads standard output may be gone; that is no reason to end.
fn say(lines: &str) {
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
        tracing::warn!(%error, "nobody reads standard output");
    }
}

fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
}

/// The signals that end the program; they are heard from the start, so that none is lost.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn heard(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
