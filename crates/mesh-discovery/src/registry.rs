//! What processes serve: `PUT` and `DELETE /v1/endpoints/{id}`.
//!
//! A registration is a lease that lives as long as its watch plus a grace. Its id is
//! the process's own choice and is kept apart by identity, so that nobody can
//! overwrite another's; what is registered must be what the identity may serve (C20).

use std::collections::BTreeSet;

use axum::extract::{Path, Request, State};
use axum::routing::put;
use axum::{Extension, Router};
use http::StatusCode;
use mesh_policy::identity::{Identity, TrustDomain};
use mesh_policy::name::{ServiceName, ServicePort};
use mesh_policy::plan::registration::Registration;

use crate::caller::Caller;
use crate::compile::Registered;
use crate::identity::grant;
use crate::refused::{Refused, read_json};
use crate::server::Shared;
use crate::settle::{WrittenAt, written_at};
use crate::store::{CommitError, Expect, OBJECTS, Store, Write, decode};

/// The prefix of registrations: `endpoints/<namespace>/<account>/<id>`.
pub(crate) const ENDPOINTS: &str = "endpoints/";
/// The prefix of services that were ever served: `services/<namespace>/<name>`.
const SERVICES: &str = "services/";

const MAX_REGISTRATION_BYTES: usize = 64 * 1024;
const MAX_ID_BYTES: usize = 128;
const MAX_TEXT_BYTES: usize = 253;
const MAX_LABELS: usize = 64;
const MAX_WEIGHT: u32 = 10_000;
/// Endpoints of one identity, so that one workload cannot fill the store: as many processes as
/// can watch, with two services each and some to spare. Those that come at the same moment may
/// exceed it by their number.
const MAX_ENDPOINTS_OF_ONE: usize = 5_000;
/// Ports on which one service was ever served.
const MAX_PORTS: usize = 256;
/// Services of one namespace that were ever served.
const MAX_SERVICES: usize = 10_000;
/// How often a commit that lost against another registration is decided anew.
const ATTEMPTS: usize = 16;

pub(crate) fn routes() -> Router<Shared> {
    Router::new().route("/v1/endpoints/{id}", put(register).delete(deregister))
}

/// The service whose served ports are under `key`.
pub(crate) fn service_of(key: &str) -> Option<ServiceName> {
    let (namespace, name) = key.strip_prefix(SERVICES)?.split_once('/')?;
    Some(ServiceName {
        namespace: namespace.parse().ok()?,
        name: name.parse().ok()?,
    })
}

/// Refuses what `identity` may not serve.
pub(crate) async fn check_may_serve(
    shared: &Shared,
    identity: &Identity,
    service: &ServiceName,
) -> Result<(), Refused> {
    let grant = grant::find(&*shared.store, identity, &shared.domain).await?;
    let remedy = match grant {
        Some(grant) if grant.allows(identity, service) => return Ok(()),
        Some(_) => "join with a token that names it, made with `--serves`",
        None => {
            "this identity is not known here (a memory store forgets when discovery restarts): join again with a token"
        }
    };
    tracing::warn!(%identity, %service, "may not serve this");
    let message = format!("{identity} may not serve {service}: {remedy}");
    Err(Refused::new(
        StatusCode::FORBIDDEN,
        "may-not-serve",
        message,
    ))
}

/// An endpoint's id in the mesh: unlike any of another identity. An identity of another trust
/// domain has none, since it is another's, whatever its path.
fn scoped(identity: &Identity, id: &str, domain: &TrustDomain) -> Result<String, Refused> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if !(1..=MAX_ID_BYTES).contains(&id.len()) || !id.bytes().all(allowed) {
        let message = "an endpoint's id has 1 to 128 letters, digits, '-', '.' or '_'";
        return Err(Refused::bad_request(message));
    }
    let own = identity.trust_domain() == domain.as_str();
    let workload = identity.workload().filter(|_| own);
    let (namespace, account) = workload.ok_or_else(|| {
        let message = format!("{identity} is of no form that can serve: join with a token");
        Refused::new(StatusCode::FORBIDDEN, "may-not-serve", message)
    })?;
    Ok(format!("{namespace}/{account}/{id}"))
}

/// Where the ports are kept on which `service` was ever served.
pub(crate) fn service_key(service: &ServiceName) -> String {
    let ServiceName { namespace, name } = service;
    format!("{SERVICES}{namespace}/{name}")
}

/// The service whose object is under `key`.
pub(crate) fn service_of_object(key: &str) -> Option<ServiceName> {
    // The group of core objects is empty.
    let path = key.strip_prefix(OBJECTS)?.strip_prefix("/services/")?;
    let (namespace, name) = path.split_once('/')?;
    Some(ServiceName {
        namespace: namespace.parse().ok()?,
        name: name.parse().ok()?,
    })
}

async fn register(
    State(shared): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<(Extension<WrittenAt>, StatusCode), Refused> {
    let identity = caller.require_workload()?;
    let id = scoped(identity, &id, &shared.domain)?;
    let registration: Registration = read_json(request, MAX_REGISTRATION_BYTES).await?;
    check(&registration)?;
    let session = shared.sessions.find(&registration.watch, identity)?;
    check_may_serve(&shared, identity, &registration.serves.service).await?;
    check_room(&*shared.store, &id).await?;
    let served = shared.worlds.latest().resolve(&registration.serves);
    let registered = Registered {
        id: id.clone(),
        identity: identity.clone(),
        registration,
    };
    let json = serde_json::to_vec(&registered).expect("a registration has string keys");
    for _ in 0..ATTEMPTS {
        let lease = Write::put(format!("{ENDPOINTS}{id}"), json.clone()).leased(session.lease());
        let mut writes = vec![lease];
        writes.extend(remember(&*shared.store, &served).await?);
        match shared.store.commit(writes).await {
            Ok(revision) => {
                tracing::info!(%identity, id, serves = %served, revision, "registered");
                return Ok((written_at(revision), StatusCode::NO_CONTENT));
            }
            Err(CommitError::Conflict(_)) => {}
            // The watch ended between the look and the write.
            Err(CommitError::UnknownLease { .. }) => return Err(crate::watch::unknown_watch()),
            Err(error) => return Err(refused(error)),
        }
    }
    let message = "others served this for the first time at the same moment: try again";
    Err(Refused::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        message,
    ))
}

/// Refuses an endpoint that would be one too many of its identity.
async fn check_room(store: &dyn Store, id: &str) -> Result<(), Refused> {
    let key = format!("{ENDPOINTS}{id}");
    if store.get(&key).await?.is_some() {
        return Ok(());
    }
    let own = key.rfind('/').map_or(&*key, |end| &key[..=end]);
    if store.list(own).await?.records.len() < MAX_ENDPOINTS_OF_ONE {
        return Ok(());
    }
    let message = format!(
        "this identity has {MAX_ENDPOINTS_OF_ONE} endpoints: let some go, or give another identity to some of its processes"
    );
    Err(Refused::too_many(message))
}

/// What has to be written for a port to stay known once nobody serves it any more.
async fn remember(store: &dyn Store, served: &ServicePort) -> Result<Option<Write>, Refused> {
    let key = service_key(&served.service);
    let found = decode::find::<BTreeSet<u16>>(store, &key).await?;
    let (mut ports, expect) = match found {
        None => {
            let own = format!("{SERVICES}{}/", served.service.namespace);
            if store.list(&own).await?.records.len() >= MAX_SERVICES {
                return Err(Refused::too_many(format!(
                    "{MAX_SERVICES} services of this namespace were served already: apply and delete a Service for each that nobody serves any more"
                )));
            }
            (BTreeSet::new(), Expect::Absent)
        }
        Some((ports, revision)) => (ports, Expect::Revision(revision)),
    };
    if !ports.insert(served.port) {
        return Ok(None);
    }
    if ports.len() > MAX_PORTS {
        return Err(Refused::too_many(format!(
            "{} was served on {MAX_PORTS} ports already: apply and delete a Service of its name to forget them",
            served.service
        )));
    }
    let json = serde_json::to_vec(&ports).expect("numbers serialise");
    Ok(Some(Write::put(key, json).expecting(expect)))
}

/// What no process can mean.
fn check(registration: &Registration) -> Result<(), Refused> {
    let refuse = |message: &str| Err(Refused::bad_request(message));
    let address = registration.address;
    if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        return refuse("nobody can call this address: register the one that others reach");
    }
    if registration.weight > MAX_WEIGHT {
        return refuse("the weight is a share between 0 and 10000; 100 is the usual one");
    }
    let texts = [Some(&registration.workload), Some(&registration.instance)];
    let texts = texts.into_iter().chain([registration.zone.as_ref()]);
    if !texts.flatten().all(|text| is_text(text)) || !are_labels(&registration.labels) {
        return refuse(
            "names, zones and labels are 1 to 253 printable characters; 64 labels at most",
        );
    }
    Ok(())
}

/// Whether `text` can stand in a metric label and a log line.
pub(crate) fn is_text(text: &str) -> bool {
    (1..=MAX_TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether these can be a process's labels.
pub(crate) fn are_labels(labels: &std::collections::BTreeMap<String, String>) -> bool {
    labels.len() <= MAX_LABELS
        && labels
            .iter()
            .all(|(key, value)| is_text(key) && (value.is_empty() || is_text(value)))
}

async fn deregister(
    State(shared): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(Extension<WrittenAt>, StatusCode), Refused> {
    let identity = caller.require_workload()?;
    let key = format!("{ENDPOINTS}{}", scoped(identity, &id, &shared.domain)?);
    if shared.store.get(&key).await?.is_none() {
        let message = "no such endpoint is registered: it may have left already";
        return Err(Refused::new(
            StatusCode::NOT_FOUND,
            "unknown-endpoint",
            message,
        ));
    }
    let deleted = shared.store.commit(vec![Write::delete(key)]).await;
    let revision = deleted.map_err(refused)?;
    tracing::info!(%identity, id, "deregistered");
    Ok((written_at(revision), StatusCode::NO_CONTENT))
}

fn refused(error: CommitError) -> Refused {
    match error {
        CommitError::Unavailable(error) => error.into(),
        error => {
            tracing::error!(%error, "the store refused a registration");
            let message = "the store refused the registration: try again";
            Refused::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::Memory;
    use crate::store::object_key;

    #[tokio::test]
    async fn one_identity_cannot_fill_the_store() {
        let store = Memory::new();
        let puts = |keys: Vec<String>| {
            let writes = keys.into_iter().map(|key| Write::put(key, "[1]"));
            store.commit(writes.collect())
        };
        let many = 0..MAX_ENDPOINTS_OF_ONE;
        let endpoints = many.map(|n| format!("endpoints/shop/web/{n}"));
        puts(endpoints.collect()).await.unwrap();
        assert!(check_room(&store, "shop/web/one-more").await.is_err());
        assert!(check_room(&store, "shop/web/7").await.is_ok(), "renewed");
        assert!(check_room(&store, "shop/we/1").await.is_ok());

        let port = |text: &str| text.parse::<ServicePort>().unwrap();
        let ports: Vec<usize> = (1..=MAX_PORTS).collect();
        let write = Write::put("services/shop/api", serde_json::to_vec(&ports).unwrap());
        store.commit(vec![write]).await.unwrap();
        assert!(remember(&store, &port("api.shop:999")).await.is_err());
        assert_eq!(remember(&store, &port("api.shop:1")).await, Ok(None));

        let write = Write::put("services/shop/later", r#"{"ports":[1]}"#);
        store.commit(vec![write]).await.unwrap();
        let refused = remember(&store, &port("later.shop:1")).await.unwrap_err();
        assert!(format!("{refused:?}").contains("services/shop/later"));

        let services = (2..MAX_SERVICES).map(|n| format!("services/shop/s{n}"));
        puts(services.collect()).await.unwrap();
        assert!(remember(&store, &port("new.shop:80")).await.is_err());
        assert!(remember(&store, &port("new.bank:80")).await.is_ok());
        assert!(remember(&store, &port("s2.shop:80")).await.is_ok());
    }

    #[test]
    fn c20_ids_of_two_identities_never_meet() {
        let domain: TrustDomain = "mesh.local".parse().unwrap();
        let scope = |account: &str, id: &str| {
            let identity = format!("spiffe://mesh.local/ns/shop/sa/{account}");
            scoped(&identity.parse().unwrap(), id, &domain)
        };
        let foreign = "spiffe://other.local/ns/shop/sa/web".parse().unwrap();
        assert!(scoped(&foreign, "1", &domain).is_err());
        assert_eq!(scope("web", "1").as_deref(), Ok("shop/web/1"));
        assert_ne!(scope("web", "1"), scope("api", "1"));
        for id in ["", "../api/1", "a/b", "a b", "ä", &"a".repeat(129)] {
            assert!(scope("web", id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn addresses_that_nobody_can_call_are_refused() {
        let registration = |address: &str| Registration {
            watch: "w".into(),
            serves: "api.shop".parse().unwrap(),
            address: address.parse().unwrap(),
            workload: "api".into(),
            instance: "api-1".into(),
            labels: [("app".to_owned(), String::new())].into(),
            zone: None,
            weight: 100,
        };
        assert_eq!(check(&registration("10.0.0.1:80")), Ok(()));
        for address in ["0.0.0.0:80", "[::]:80", "10.0.0.1:0", "224.0.0.1:80"] {
            assert!(check(&registration(address)).is_err(), "{address}");
        }
        let good = registration("10.0.0.1:80");
        let heavy = Registration {
            weight: 10_001,
            ..good.clone()
        };
        assert!(check(&heavy).is_err());
        let nameless = Registration {
            instance: String::new(),
            ..good.clone()
        };
        assert!(check(&nameless).is_err());
        let zone = Some("a\n".to_owned());
        assert!(check(&Registration { zone, ..good }).is_err());
    }

    #[test]
    fn the_key_of_a_served_service_names_it() {
        let service = service_of("services/shop/api").unwrap();
        assert_eq!(service.to_string(), "api.shop");
        assert_eq!(service_key(&service), "services/shop/api");
        assert_eq!(service_of("objects//services/shop/api"), None);
        let object = object_key("", "services", "shop", "api");
        assert_eq!(service_of_object(&object), Some(service));
        let route = object_key("gateway.networking.k8s.io", "httproutes", "shop", "api");
        assert_eq!(service_of_object(&route), None);
    }
}
