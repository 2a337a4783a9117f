//! policy.linkerd.io `ServerAuthorization`, the older form that holds everything itself.

use super::fields::{At, each};
use super::identities::IdentitySpec;
use super::mesh_tls_authentication::workload;
use super::meta::Meta;
use super::network_authentication;
use super::selector::{self, LabelSelector};
use crate::name::Label;
use crate::plan::inbound::NetworkPlan;

/// Lets a client into the servers it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAuthorization {
    /// Which servers of its namespace.
    pub servers: ServerTarget,
    /// Where the client may be; empty means anywhere.
    pub networks: Vec<NetworkPlan>,
    /// Who the client must have proved to be.
    pub client: AuthorizedClient,
}

/// Servers by name or by label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerTarget {
    /// The one of this name.
    Name(String),
    /// All whose own labels are selected.
    Selector(LabelSelector),
}

/// Who a client must have proved to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizedClient {
    /// Nobody in particular: plaintext will do.
    Anyone,
    /// One of these; nobody where the list is empty.
    Identities(Vec<IdentitySpec>),
}

const MOST_CLIENTS: usize = 1_000;

pub(super) fn read(meta: &Meta, at: &At<'_>) -> Option<ServerAuthorization> {
    let mut fields = at.fields();
    let servers = fields.need("server", "write server with a name or a selector");
    let client = fields.need("client", "say who may call");
    fields.finish();
    let servers = servers.and_then(|at| target(&at));
    let client = client?;
    let mut fields = client.fields();
    let networks = fields.narrowing("networks");
    let unauthenticated = fields.take("unauthenticated");
    let mesh_tls = fields.take("meshTLS");
    fields.finish();
    let networks = match networks {
        Some(at) => network_authentication::list(&at),
        None => Some(Vec::new()),
    };
    let unauthenticated = match unauthenticated {
        Some(at) => at.boolean()?,
        None => false,
    };
    let who = match (unauthenticated, mesh_tls) {
        (true, None) => Some(AuthorizedClient::Anyone),
        (false, Some(at)) => mesh_tls_client(meta, &at),
        (true, Some(_)) => client.refuse("is unauthenticated and has meshTLS", "write one of them"),
        (false, None) => {
            client.warn("lets NOBODY in", "write meshTLS or unauthenticated: true");
            Some(AuthorizedClient::Identities(Vec::new()))
        }
    };
    Some(ServerAuthorization {
        servers: servers?,
        networks: networks?,
        client: who?,
    })
}

fn target(at: &At<'_>) -> Option<ServerTarget> {
    let mut fields = at.fields();
    let name = fields.take("name");
    let selector = fields.take("selector");
    fields.finish();
    match (name, selector) {
        (Some(name), None) => Some(ServerTarget::Name(name.object_name()?)),
        (None, Some(at)) => selector::read(&at).map(ServerTarget::Selector),
        _ => at.refuse("needs a name or a selector", "write one of them"),
    }
}

fn mesh_tls_client(meta: &Meta, at: &At<'_>) -> Option<AuthorizedClient> {
    const EVERY: &str = "write the identities that are meant, or identities: ['*'] for any";
    let mut fields = at.fields();
    let any = fields.take("unauthenticatedTLS");
    let written = ["identities", "serviceAccounts"].map(|name| at.node.get(name).is_some());
    let identities = fields.items("identities", MOST_CLIENTS);
    let accounts = fields.items("serviceAccounts", MOST_CLIENTS);
    fields.finish();
    let named = !identities.is_empty() || !accounts.is_empty();
    if let Some(any) = any
        && any.boolean()?
    {
        if named {
            return any.refuse(
                "stands beside identities or serviceAccounts",
                "leave it out",
            );
        }
        any.warn(
            "lets in any identity: a TLS client of the mesh always proves one",
            EVERY,
        );
        return Some(AuthorizedClient::Identities(vec![IdentitySpec::Any]));
    }
    match (named, written.contains(&true)) {
        (true, _) => {}
        (false, true) => return at.refuse("names nobody", EVERY),
        (false, false) => at.warn("lets NOBODY in", EVERY),
    }
    let identities = each(&identities, At::parse::<IdentitySpec>);
    let accounts = each(&accounts, |at| account(meta, at));
    let mut all = identities?;
    all.extend(accounts?);
    Some(AuthorizedClient::Identities(all))
}

fn account(meta: &Meta, at: &At<'_>) -> Option<IdentitySpec> {
    let mut fields = at.fields();
    let name = fields.need("name", "name the service account");
    let namespace = match fields.take("namespace") {
        Some(at) => at.parse(),
        None => Some(meta.namespace.clone()),
    };
    fields.finish();
    let name: Option<Label> = name?.parse();
    Some(workload(Some(namespace?), Some(name?)))
}
