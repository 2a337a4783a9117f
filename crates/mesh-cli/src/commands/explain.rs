//! `mesh explain`: why a request goes where it goes, and whether it may, from files alone.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mesh_discovery::compile::offline::Offline;
use mesh_policy::authorize::Client;
use mesh_policy::explain::Question;
use mesh_policy::explain::answer::{Backend, Explanation};
use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::name::{ServiceAddress, ServicePort};
use serde_json::Value;

use super::Done;
use super::curl::header;
use crate::args::{Global, Output};
use crate::failure::{Failure, NO};
use crate::manifests::{Knowledge, Manifests, refused};
use crate::render;

/// Explain why a request goes where it goes, and whether it may.
///
/// From files alone, by the code that serves live traffic. -n is the namespace of the caller.
/// Exit code 1: a share of the request is refused, or goes nowhere, or the answer rests on a guess.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file, a directory (its *.yaml, *.yml and *.json, by name), or - for standard input.
    #[arg(short, long = "filename", value_name = "FILE|DIR|-")]
    filename: Vec<PathBuf>,
    /// The service that is called.
    #[arg(long, value_name = "NAME.NS[:PORT]")]
    to: ServiceAddress,
    /// A port that processes serve though no Service of the files lists it; may be repeated.
    #[arg(long, value_name = "NAME.NS:PORT")]
    served: Vec<ServicePort>,
    /// Who calls, as `spiffe://TRUST-DOMAIN/ns/NS/sa/SA`; without it, authorization is not evaluated.
    #[arg(long, value_name = "IDENTITY")]
    from: Option<Identity>,
    /// The address of the caller, for policies that name networks.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    from_address: IpAddr,
    /// Method and path.
    #[arg(long, value_name = "METHOD PATH", default_value = "GET /", value_parser = request)]
    request: Request,
    /// A header; may be repeated.
    #[arg(short = 'H', long = "header", value_name = "K: V", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A request's first line.
#[derive(Clone, Debug)]
struct Request {
    method: Method,
    path: String,
    query: String,
}

fn request(text: &str) -> Result<Request, &'static str> {
    let remedy = "write a method and a path, such as 'GET /cart?page=2'";
    let (method, target) = text.trim().split_once(' ').ok_or(remedy)?;
    let target: PathAndQuery = target.trim().parse().map_err(|_| remedy)?;
    Ok(Request {
        method: method.parse().map_err(|_| remedy)?,
        path: target.path().to_owned(),
        query: target.query().unwrap_or_default().to_owned(),
    })
}

pub(crate) fn run(args: Args, global: &Global) -> Result<Done, Failure> {
    if args.filename.is_empty() {
        let later = "explain reads files: name them with -f; of what is applied it cannot tell yet";
        return Err(Failure::Usage(later.to_owned()));
    }
    let domain = args.from.as_ref().map(Identity::trust_domain);
    let domain = domain.map(|name| {
        let domain: TrustDomain = name.parse().expect("an identity holds a trust domain");
        domain
    });
    let known = Knowledge {
        domain: domain.as_ref(),
        ..Knowledge::default()
    };
    let manifests = Manifests::read(&args.filename, known)
        .map_err(|problems| refused(&problems, "mend them and ask again"))?;
    let notes = manifests.notes();
    let workload = args.from.as_ref().and_then(Identity::workload);
    let namespace = match (&global.namespace, workload) {
        (Some(namespace), _) => namespace.as_str(),
        (None, Some((namespace, _))) => namespace,
        (None, None) => args.to.service.namespace.as_str(),
    };
    let question = Question {
        to: args.to.clone(),
        method: args.request.method,
        path: &args.request.path,
        query: &args.request.query,
        headers: args.headers.into_iter().collect::<HeaderMap>(),
        client: args.from.as_ref().map(|identity| Client {
            identity: Some(identity),
            address: args.from_address,
        }),
    };
    let domain = domain.unwrap_or_else(|| "mesh.local".parse().expect("it is a trust domain"));
    let offline = Offline::new(domain, manifests.into_manifests()).serving(args.served);
    let told = offline.explain(&question, namespace);
    let out = match global.output {
        Output::Table | Output::Wide => text(&told),
        output => render::value(&value(&told), output),
    };
    Ok(Done {
        out: out.into(),
        notes,
        exit: if told.arrives() { 0 } else { NO },
    })
}

fn value(told: &Explanation) -> Value {
    serde_json::to_value(told).expect("an explanation has string keys only")
}

/// The explanation for people: what governs, where it goes, and what else was looked at.
fn text(told: &Explanation) -> String {
    let json = value(told);
    let said = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let object = |object: &Value| match object {
        Value::Null => "default".to_owned(),
        object => format!(
            "{} {}/{}",
            said(&object["kind"]),
            said(&object["namespace"]),
            said(&object["name"])
        ),
    };
    let rule = |rule: &Value| match &rule["name"] {
        Value::Null => format!("rule {}", said(&rule["index"])),
        name => format!("rule {} ({})", said(&rule["index"]), said(name)),
    };
    let request = &told.request;
    let mut text = format!("{} {}{}\n", request.method, request.authority, request.path);
    text.push_str(&match &told.rule {
        None => "route      none\n".to_owned(),
        Some(_) => format!(
            "route      {}, {}\n",
            object(&json["route"]),
            rule(&json["rule"])
        ),
    });
    text.push_str(&format!("outcome    {}", said(&json["outcome"])));
    if let Some(response) = &told.response {
        let headers = response.headers.iter();
        let headers = headers.map(|(name, values)| format!(", {name}: {}", values.join(", ")));
        let headers: String = headers.collect();
        text.push_str(&format!(" {}{headers}", response.status));
    }
    text.push('\n');
    if !told.backends.is_empty() {
        let head = ["BACKEND", "WEIGHT", "AUTHORIZATION", "REASON"];
        let rows: Vec<_> = told.backends.iter().map(row).collect();
        text.push_str(&format!("\n{}", render::table(&head, &rows)));
    }
    if let Some(others) = json["considered"].as_array().filter(|all| !all.is_empty()) {
        let rows = others.iter().map(|other| {
            vec![
                object(&other["route"]),
                rule(&other["rule"]),
                said(&other["why_not"]),
            ]
        });
        let head = ["NOT", "RULE", "BECAUSE"];
        let rows: Vec<_> = rows.collect();
        text.push_str(&format!("\n{}", render::table(&head, &rows)));
    }
    if !told.certain {
        text.push_str("\nThis rests on guesses:\n");
        let guesses = told.guesses.iter();
        text.extend(guesses.map(|guess| format!("- {guess}\n")));
    }
    text
}

fn row(backend: &Backend) -> Vec<String> {
    let port = backend.port.map(|port| format!(":{port}"));
    let name = format!(
        "{}.{}{}",
        backend.name,
        backend.namespace,
        port.unwrap_or_default()
    );
    let authorization = backend.authorization.as_ref();
    let verdict = authorization.map(|one| {
        let by = one.by.as_ref().map(|by| match by.namespace.as_str() {
            "" => format!(" by {} {}", by.kind, by.name),
            namespace => format!(" by {} {namespace}/{}", by.kind, by.name),
        });
        let verdict = format!("{:?}", one.verdict).to_ascii_lowercase();
        format!("{verdict}{}", by.unwrap_or_default())
    });
    let denied = authorization.and_then(|one| one.reason.clone());
    let reason = backend.reason.clone().or(denied);
    vec![
        name,
        backend.weight.to_string(),
        verdict.unwrap_or_else(|| "-".to_owned()),
        reason.unwrap_or_else(|| "-".to_owned()),
    ]
}
