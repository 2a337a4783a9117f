//! `mesh curl`: requests through the real client stack, and what it decided.

mod identity;
mod load;
mod request;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, Uri};
use mesh_core::Mesh;

use self::load::Load;
use self::request::Sample;
use super::Done;
use super::token::{Account, time};
use crate::args::{Global, Output};
use crate::failure::{Failure, NO};
use crate::render;

/// Requests of one run at most: each is remembered until the end.
const MAX_REQUESTS: u32 = 1_000_000;
/// Requests in flight at most.
const MAX_CONCURRENCY: u32 = 10_000;

/// Ended by Ctrl-C, as shells count it.
const INTERRUPTED: u8 = 130;

/// Send requests through the mesh, and tell what was decided.
///
/// It joins the mesh as a process of its own for as long as it takes, and serves nothing. The
/// answer goes to standard output, as `curl -i` would show it, and the decisions (route, backend,
/// endpoint, peer, TLS, attempts) to standard error. Exit code 1: a status of 400 or above.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Who calls: namespace and service account. Needs the administrator's credentials, with
    /// which a token for one use is made. Without it: mesh-curl of the namespace.
    #[arg(long = "as", value_name = "NS/SA", conflicts_with = "token_file")]
    identity: Option<Account>,
    /// A file that holds a join token to call with, or - for standard input.
    #[arg(long, value_name = "FILE|-")]
    token_file: Option<PathBuf>,
    /// Where discovery is, with --token-file; without it, where the kubeconfig says.
    #[arg(long, value_name = "URL", requires = "token_file")]
    discovery: Option<Uri>,
    /// How long joining may take: discovery may be away.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = time)]
    join_timeout: Duration,
    /// The method; GET, or POST with -d.
    #[arg(short = 'X', long = "request", value_name = "METHOD")]
    method: Option<Method>,
    /// A header; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "K: V", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The request's body.
    #[arg(short = 'd', long = "data", value_name = "DATA")]
    data: Option<String>,
    /// How many requests to send; with more than one, a summary is shown.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_REQUESTS)))]
    requests: u32,
    /// How many of them may be in flight at a time.
    #[arg(long, value_name = "C", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_CONCURRENCY)))]
    concurrency: u32,
    /// How many to begin a second; without it, as many as are answered.
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// The service and the path, such as <http://api.shop/cart>.
    #[arg(value_name = "URL", value_parser = url)]
    url: Uri,
}

pub(super) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let read = || {
        let (name, value) = text.split_once(':')?;
        Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
    };
    read().ok_or_else(|| "write name: value".to_owned())
}

fn rate(text: &str) -> Result<f64, &'static str> {
    let rate = text
        .parse()
        .ok()
        .filter(|rate| (0.001..=1e6).contains(rate));
    rate.ok_or("write requests per second, between 0.001 and 1000000")
}

/// A URL; one without a scheme means http.
fn url(text: &str) -> Result<Uri, String> {
    let whole = match text.contains("://") {
        true => text.to_owned(),
        false => format!("http://{text}"),
    };
    let remedy = "write http://name.namespace/path";
    let url: Uri = whole
        .parse()
        .map_err(|error| format!("{error}: {remedy}"))?;
    match (url.scheme_str(), url.host()) {
        (Some("http"), Some(_)) => Ok(url),
        _ => Err(format!("{remedy}; the mesh adds TLS by itself")),
    }
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<Done, Failure> {
    let form = request::Form {
        method: args.method.unwrap_or(match args.data {
            Some(_) => Method::POST,
            None => Method::GET,
        }),
        url: args.url,
        headers: args.headers,
        body: args.data,
    };
    let load = Load {
        requests: args.requests,
        concurrency: args.concurrency,
        rate: args.rate,
    };
    let who = match (args.token_file, args.identity) {
        (Some(file), _) => identity::Who::Token {
            file,
            discovery: args.discovery,
        },
        (None, account) => identity::Who::Account(account),
    };
    let mesh = identity::join(who, args.join_timeout, global).await?;
    if load.requests > 1 {
        let summary = load.run(&mesh.client(), &form, interrupt()).await;
        // Discovery hears of the last requests too.
        mesh.drain().await;
        let out = match global.output {
            Output::Table | Output::Wide => summary.to_text(),
            output => render::value(&summary.to_json(), output),
        };
        return Ok(Done {
            out: out.into(),
            notes: Vec::new(),
            exit: match summary.interrupted() {
                true => INTERRUPTED,
                false => no(summary.failed()),
            },
        });
    }
    let sample = request::send(&mesh.client(), &form).await;
    mesh.drain().await;
    Ok(one(&sample, &mesh, global.output))
}

/// Ends at Ctrl-C; where it cannot be heard, never.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn one(sample: &Sample, mesh: &Mesh, output: Output) -> Done {
    let exit = no(sample.failed());
    match output {
        Output::Table | Output::Wide => Done {
            out: show::answer(sample),
            notes: show::trace(sample, mesh.identity()),
            exit,
        },
        output => Done {
            out: render::value(&show::json(sample), output).into(),
            notes: Vec::new(),
            exit,
        },
    }
}

const fn no(failed: bool) -> u8 {
    if failed { NO } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_scheme_means_http() {
        assert_eq!(url("api.shop/x").unwrap(), "http://api.shop/x");
        assert_eq!(url("http://api/x").unwrap(), "http://api/x");
        for wrong in ["https://api.shop/", "http://", "", "ftp://x/"] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_and_rates_are_read() {
        assert_eq!(header("A-b:  c: d ").unwrap().0, "a-b");
        assert_eq!(header("A-b:  c: d ").unwrap().1, "c: d");
        assert!(header("a").is_err() && header("a b: c").is_err());
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "NaN", "inf", "x"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
