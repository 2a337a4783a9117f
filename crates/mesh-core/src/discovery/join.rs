//! From a configuration to an open watch.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use http::Uri;
use mesh_policy::identity::Identity;
use mesh_policy::name::Label;
use mesh_policy::token::JoinToken;
use mesh_tls::credentials::Credentials;
use mesh_tls::lifetime::Lifetime;
use mesh_tls::request::KeyPair;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use super::backoff::Backoff;
use super::enrol::{EnrolFailed, assemble, enrol, token};
use super::flush::Flush;
use super::follow::Follower;
use super::link::{Link, LinkFailed};
use super::links::Links;
use super::renew::{Proof, Renewal, lifetime};
use super::served::Served;
use super::session::{Bearings, Process, Session, WatchEnded};
use super::standing::Standing;
use super::status::{Entered, Status};
use super::supervise::{Health, Task, supervise};
use super::tally::Tally;
use crate::BoxError;
use crate::admin::{self, AdminState};
use crate::causes::chain;
use crate::config::Config;
use crate::mesh::JoinError;
use crate::plans::{Outfit, Plans};
use crate::telemetry::control::ControlMetrics;
use crate::telemetry::freshness::Freshness;
use crate::telemetry::identity::IdentityMetrics;
use crate::telemetry::{self, Recorder, Workload};

/// What the control thread is started with.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) config: Arc<Config>,
    pub(crate) recorder: Recorder,
    pub(crate) draining: watch::Receiver<bool>,
    /// The last thing that went wrong, for whoever loses patience.
    pub(crate) trouble: Trouble,
}

/// The last thing that went wrong.
pub(crate) type Trouble = Arc<Mutex<Option<String>>>;

/// What a process has once it has joined.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    pub(crate) identity: Identity,
    pub(crate) proof: Proof,
    pub(crate) workload: Arc<Workload>,
    pub(crate) plans: Arc<Plans>,
    pub(crate) served: Arc<Served>,
    pub(crate) status: Arc<Status>,
    pub(crate) admin: Option<SocketAddr>,
    /// The address that others reach this process by, where a listener takes any.
    pub(crate) reached_by: IpAddr,
    /// Has discovery told what was counted.
    pub(crate) flush: Flush,
}

/// What goes on once a process has joined.
pub(super) struct Begun {
    pub(super) bearings: Bearings,
    pub(super) links: Links,
    pub(super) session: Session,
    pub(super) renewal: Renewal,
    pub(super) health: Health,
}

/// Gets an identity and opens the first watch; waits for both.
pub(super) async fn join(setup: Setup) -> Result<(Joined, Begun), JoinError> {
    let config = &setup.config;
    let health = Health::default();
    let status = Arc::new(Status::new(setup.draining.clone(), health.clone()));
    let admin = open_admin(config, &setup.recorder, (&status, &health)).await?;
    let source = config
        .token
        .as_ref()
        .expect("a checked configuration has a token");
    let (credentials, lifetime) =
        identify(&config.discovery, &token(source)?, &setup.trouble).await?;
    let not_after = credentials.not_after();
    let (joined, bearings) = equip(&setup, credentials, status, admin)?;
    health.publish(&setup.recorder, &joined.workload);
    let metrics = IdentityMetrics::new(&setup.recorder, &joined.workload);
    metrics.holds(not_after);
    let control = ControlMetrics::new(&setup.recorder, &joined.workload, &joined.identity);
    let renewal = Renewal {
        config: Arc::clone(config),
        control: control.clone(),
        proof: joined.proof.clone(),
        standing: Arc::new(Standing::new(lifetime)),
        metrics,
        generation: watch::Sender::new(0),
    };
    let links = Links::new(&config.discovery, &joined.proof.credentials, control);
    let session = first_watch(&links, &bearings, &setup.trouble).await?;
    joined.status.joined(Entered {
        served: Arc::clone(&joined.served),
        follower: Arc::clone(&bearings.follower),
        standing: Arc::clone(&renewal.standing),
    });
    let begun = Begun {
        bearings,
        links,
        session,
        renewal,
        health,
    };
    Ok((joined, begun))
}

async fn first_watch(
    links: &Links,
    bearings: &Bearings,
    trouble: &Trouble,
) -> Result<Session, JoinError> {
    let mut backoff = Backoff::new();
    loop {
        match links.open(bearings).await {
            Ok(session) => return Ok(session),
            Err(WatchEnded::Link(error)) if error.is_final() => {
                return Err(JoinError::Refused(error));
            }
            Err(error) => note(trouble, &error),
        }
        backoff.wait().await;
    }
}

/// The admin port is up before there is an identity, so that it can say what is missing.
async fn open_admin(
    config: &Config,
    recorder: &Recorder,
    (status, health): (&Arc<Status>, &Health),
) -> Result<Option<SocketAddr>, JoinError> {
    let Some(address) = config.admin else {
        return Ok(None);
    };
    let failed = |source| JoinError::Admin { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    let (readiness, plan) = (Arc::clone(status), Arc::clone(status));
    let state = AdminState {
        recorder: recorder.clone(),
        hosts: config.admin_hosts.clone(),
        reasons_not_ready: Arc::new(move || readiness.not_ready()),
        plan: Arc::new(move || plan.plan()),
    };
    let health = health.clone();
    // Ends with the thread's runtime.
    drop(tokio::spawn(async move {
        supervise(&health, Task::Admin, || {
            admin::serve(&listener, state.clone())
        })
        .await;
    }));
    Ok(Some(bound))
}

/// Asks every discovery server in turn until one gives an identity. A refusal is an answer once
/// no other server gives a better one; so is distrust, where it is of all of them.
async fn identify(
    urls: &[Uri],
    token: &JoinToken,
    trouble: &Trouble,
) -> Result<(Credentials, Lifetime), JoinError> {
    let unusable = |error: BoxError| JoinError::Identity(error);
    let key = KeyPair::generate().map_err(|error| unusable(error.into()))?;
    let mut backoff = Backoff::new();
    loop {
        let mut failures = Vec::with_capacity(urls.len());
        for url in urls {
            let link = Link::new(url, mesh_tls::config::joining(*token.root()));
            match enrol(&link, token, &key).await {
                Ok(answer) => {
                    let lifetime = lifetime(&answer);
                    let credentials = assemble(key, &answer, token);
                    return Ok((credentials.map_err(unusable)?, lifetime));
                }
                Err(EnrolFailed::Link(error)) => {
                    note(trouble, &error);
                    failures.push(error);
                }
                Err(EnrolFailed::Broken(error)) => return Err(unusable(error)),
            }
        }
        if let Some(refused) = failures.iter().position(LinkFailed::is_final) {
            return Err(JoinError::Refused(failures.swap_remove(refused)));
        }
        if failures.iter().all(LinkFailed::is_distrust)
            && let Some(error) = failures.pop()
        {
            return Err(JoinError::Distrusted(error));
        }
        backoff.wait().await;
    }
}

/// Remembers what went wrong last, for the line that says so aloud.
fn note(trouble: &Trouble, error: &(dyn std::error::Error + 'static)) {
    let error = chain(error);
    tracing::debug!(error, "not joined yet");
    *trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
}

/// Everything that follows from an identity.
fn equip(
    setup: &Setup,
    credentials: Credentials,
    status: Arc<Status>,
    admin: Option<SocketAddr>,
) -> Result<(Joined, Bearings), JoinError> {
    let config = &setup.config;
    let identity = credentials.identity().clone();
    let (namespace, account) = identity
        .workload()
        .and_then(|(namespace, account)| Some((namespace.parse().ok()?, account)))
        .ok_or_else(|| JoinError::NoWorkload(identity.clone()))?;
    let namespace: Label = namespace;
    let workload = Arc::new(Workload {
        namespace: namespace.to_string(),
        deployment: config
            .workload
            .clone()
            .unwrap_or_else(|| account.to_owned()),
        pod: config.name.clone().unwrap_or_else(instance),
    });
    let changed = Arc::new(Notify::new());
    let proof = Proof::new(credentials);
    let plans = Arc::new(Plans::new(namespace, Arc::clone(&changed)));
    let served = Arc::new(Served::new(&config.services, Arc::clone(&changed)));
    let outfit = Outfit::new(
        Arc::clone(&proof.credentials),
        setup.recorder.clone(),
        Arc::clone(&workload),
    );
    let follower = Follower::new(Arc::clone(&plans), Arc::clone(&served), outfit);
    telemetry::started(&setup.recorder, &workload);
    let reached_by = config
        .advertise
        .unwrap_or_else(|| way_out(&config.discovery));
    // Where it listens on any address, others need one of them.
    let told = admin.map(|admin| match admin.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(reached_by, admin.port()),
        _ => admin,
    });
    let process = Process {
        workload: workload.deployment.clone(),
        instance: workload.pod.clone(),
        labels: config.labels.clone(),
        zone: config.zone.clone(),
        weight: config.weight,
        admin: told.map(|address| address.to_string()),
    };
    let bearings = Bearings {
        process: Arc::new(process),
        plans: Arc::clone(&plans),
        served: Arc::clone(&served),
        follower: Arc::new(Mutex::new(follower)),
        freshness: Freshness::new(&setup.recorder, &workload),
        tally: Arc::new(Mutex::new(Tally::new(setup.recorder.clone()))),
        flush: Flush::new(Arc::clone(&changed)),
        changed,
    };
    let joined = Joined {
        identity,
        proof,
        workload,
        plans,
        served,
        status,
        admin,
        reached_by,
        flush: bearings.flush.clone(),
    };
    Ok((joined, bearings))
}

/// Host name and process id.
fn instance() -> String {
    let host = ["/proc/sys/kernel/hostname", "/etc/hostname"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok());
    let host = host
        .as_deref()
        .map(str::trim)
        .filter(|host| !host.is_empty());
    format!("{}-{}", host.unwrap_or("localhost"), std::process::id())
}

/// The address that packets to discovery leave from; loopback where that cannot be known.
fn way_out(urls: &[Uri]) -> IpAddr {
    let found = urls.iter().find_map(|url| {
        let host = url.host()?.trim_matches(['[', ']']);
        let port = url.port_u16().unwrap_or(443);
        // Connecting a datagram socket sends nothing: it only asks the routing table.
        let any: SocketAddr = match host.parse() {
            Ok(IpAddr::V6(_)) => SocketAddr::from(([0_u16; 8], 0)),
            _ => SocketAddr::from(([0; 4], 0)),
        };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect((host, port)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    });
    found.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}
