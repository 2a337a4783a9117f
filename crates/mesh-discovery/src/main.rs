//! The program `mesh-discovery`: flags, log, signals; the server is in the library.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program talks on its terminal"
)]

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use mesh_discovery::config::StoreKind;
use mesh_discovery::identity::token::MAX_TTL;
use mesh_discovery::wire::TokenRequest;
use mesh_discovery::{Config, Server, TaskEnded};
use mesh_policy::identity::TrustDomain;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Wrong usage, as in `sysexits.h`.
const EX_USAGE: u8 = 64;
/// Bad configuration.
const EX_CONFIG: u8 = 78;
/// A defect: what looks after the program starts it anew.
const EX_FAILED: u8 = 1;
/// How long a server that cannot go on may take to end.
const FAILED_SHUTDOWN: Duration = Duration::from_secs(10);
/// How many processes can join with the token of `--dev`.
const DEV_USES: u32 = 1000;

/// The small server of the mesh: policy, certificates, and who serves what.
///
/// Policy, tokens, grants and registrations live in the data directory, on the disk before a
/// write is acknowledged, beside the CA. One server at a time uses a directory.
#[derive(Debug, Parser)]
#[command(name = "mesh-discovery", version)]
struct Flags {
    /// Where processes and administrators connect (HTTPS).
    #[arg(long, default_value = "127.0.0.1:7800")]
    listen: SocketAddr,
    /// Names and addresses by which others reach this server, for its certificate.
    #[arg(long, value_name = "HOST,...", value_delimiter = ',')]
    advertise: Vec<String>,
    /// Where /metrics, /ready and /live are shown (plain HTTP).
    #[arg(long, default_value = "127.0.0.1:7801")]
    admin: SocketAddr,
    /// Where the CA, the records and admin.kubeconfig lie.
    #[arg(long, default_value = "./mesh-data")]
    data_dir: PathBuf,
    /// Where records are kept: `redb` (a file in the data directory), or `memory`, which
    /// forgets all but the CA when the server ends.
    #[arg(long, default_value = "redb", value_parser = store)]
    store: StoreKind,
    /// The realm of the identities that are issued.
    #[arg(long, default_value = "mesh.local")]
    trust_domain: TrustDomain,
    /// How long a process's certificate counts.
    #[arg(long, default_value = "24h", value_parser = duration)]
    leaf_ttl: Duration,
    /// The form of the log, on stderr. `RUST_LOG` chooses what is logged.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Print a join token and the variables to paste. Not for production.
    #[arg(long)]
    dev: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn duration(text: &str) -> Result<Duration, mesh_policy::duration::InvalidDuration> {
    mesh_policy::duration::parse(text)
}

fn store(text: &str) -> Result<StoreKind, String> {
    match text {
        "redb" => Ok(StoreKind::Redb),
        "memory" => Ok(StoreKind::Memory),
        "etcd" | "kubernetes" => Err(format!(
            "{text} is not in this version: write redb, or memory"
        )),
        _ => Err("write redb, or memory".to_owned()),
    }
}

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) => {
            // Help and version are no errors. If the terminal is gone, nobody is there to tell.
            drop(error.print());
            let code = if error.use_stderr() { EX_USAGE } else { 0 };
            return ExitCode::from(code);
        }
    };
    log(flags.log_format);
    if let Err(error) = mesh_tls::accept::descriptors::raise() {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(flags)),
        Err(error) => Err(error.into()),
    };
    match ended {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(ended)) => {
            eprintln!("mesh-discovery: {ended}");
            ExitCode::from(EX_FAILED)
        }
        Err(error) => {
            eprintln!("mesh-discovery: {}", chain(&*error));
            ExitCode::from(EX_CONFIG)
        }
    }
}

/// Runs the server until a signal ends it, or until it cannot go on, which is returned.
async fn run(flags: Flags) -> Result<Option<TaskEnded>, Box<dyn std::error::Error>> {
    // Before anything is made: a signal during the start must not kill it half-way.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = Server::start(Config {
        listen: flags.listen,
        advertise: flags.advertise,
        admin: flags.admin,
        data_dir: flags.data_dir,
        store: flags.store,
        trust_domain: flags.trust_domain,
        leaf_ttl: flags.leaf_ttl,
        ..Config::default()
    })
    .await?;
    if flags.dev {
        welcome(&server).await?;
    }
    eprintln!(
        "ready listen={} admin={} trust-domain={} anchors-sha256={}",
        server.address(),
        server.admin_address(),
        server.trust_domain(),
        hex(server.root_hash())
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = server.failed() => {
            // Its tasks may hang; the process ends all the same.
            drop(tokio::time::timeout(FAILED_SHUTDOWN, server.shutdown()).await);
            return Ok(Some(ended));
        }
    }
    tokio::select! {
        () = server.shutdown() => {}
        _ = terminate.recv() => tracing::warn!("a second signal ends the drain at once"),
        _ = interrupt.recv() => tracing::warn!("a second signal ends the drain at once"),
    }
    Ok(None)
}

/// What a person who tries it out needs next.
async fn welcome(server: &Server) -> Result<(), Box<dyn std::error::Error>> {
    let request = TokenRequest {
        ttl_seconds: MAX_TTL.as_secs(),
        uses: DEV_USES,
        ..TokenRequest::new("default".parse()?, "app".parse()?)
    };
    let token = server.create_token(&request).await?;
    eprintln!(
        "Not for production: this token lets {DEV_USES} processes join as default/app within 24 h. Paste:"
    );
    println!("export MESH_DISCOVERY=https://{}", server.address());
    println!("export MESH_TOKEN={}", token.reveal());
    // The terminal that the exports are pasted into may stand in another folder.
    let kubeconfig = std::path::absolute(server.kubeconfig_path())?;
    println!("export MESH_KUBECONFIG={}", kubeconfig.display());
    Ok(())
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

/// An error with its causes: what failed, why, what to do.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_flags_it_is_the_library_s_default() {
        let flags = Flags::try_parse_from(["mesh-discovery"]).unwrap();
        let config = Config::default();
        assert_eq!(flags.listen, config.listen);
        assert_eq!(flags.admin, config.admin);
        assert_eq!(flags.data_dir, config.data_dir);
        assert_eq!(flags.trust_domain, config.trust_domain);
        assert_eq!(flags.leaf_ttl, config.leaf_ttl);
        assert!(!flags.dev);
        // A server that is embedded is mostly a test's; a program is mostly meant to stay.
        assert_eq!(flags.store, StoreKind::Redb);
    }

    #[test]
    fn a_store_of_a_later_version_is_refused_with_the_remedy() {
        for store in ["etcd", "kubernetes", "x"] {
            let error = Flags::try_parse_from(["mesh-discovery", "--store", store]).unwrap_err();
            assert!(error.to_string().contains("redb"), "{error}");
        }
        let flags = Flags::try_parse_from(["mesh-discovery", "--store=memory"]).unwrap();
        assert_eq!(flags.store, StoreKind::Memory);
    }
}
