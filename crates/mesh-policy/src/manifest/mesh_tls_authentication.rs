//! policy.linkerd.io `MeshTLSAuthentication`: a list of identities.

use super::authorization_policy::{AuthenticationKind, reference};
use super::fields::{At, each};
use super::identities::IdentitySpec;
use super::meta::Meta;
use crate::name::Label;

const MOST_IDENTITIES: usize = 1_000;

/// Any of these identities will do; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshTlsAuthentication {
    /// The identities.
    pub identities: Vec<IdentitySpec>,
}

pub(super) fn read(meta: &Meta, at: &At<'_>) -> Option<MeshTlsAuthentication> {
    let mut fields = at.fields();
    let identities = fields.take("identities");
    let references = fields.take("identityRefs");
    fields.finish();
    let remedy = "write the identities that are meant, or identities: ['*'] for any";
    let (at, identities) = match (identities, references) {
        (Some(at), None) => (at.clone(), each(&at.list(MOST_IDENTITIES)?, At::parse)?),
        (None, Some(at)) => {
            let items = at.list(MOST_IDENTITIES)?;
            (at, each(&items, |at| referenced(meta, at))?)
        }
        (Some(_), Some(_)) => {
            return at.refuse("has identities and identityRefs", "write one of them");
        }
        (None, None) => return at.refuse("names nobody", remedy),
    };
    if identities.is_empty() {
        return at.refuse(
            "is empty, which could be read as nobody or everybody",
            remedy,
        );
    }
    Some(MeshTlsAuthentication { identities })
}

/// A service account, or every one of a namespace.
fn referenced(meta: &Meta, at: &At<'_>) -> Option<IdentitySpec> {
    if at.node.text("kind") == Some("Namespace") {
        let mut fields = at.fields();
        fields.pass(&["kind"]);
        let group = fields.take("group");
        let name = fields.need("name", "name the namespace");
        fields.finish();
        let namespace: Option<Label> = name.and_then(|at| at.parse());
        if let Some(at) = group
            && !["", "core"].contains(&at.text()?)
        {
            return at.refuse("is not the group of a Namespace", "write group: \"\"");
        }
        return Some(workload(Some(namespace?), None));
    }
    let found = reference(meta, at)?;
    if found.kind != AuthenticationKind::ServiceAccount {
        return at.refuse("names no identity", "name a ServiceAccount or a Namespace");
    }
    Some(workload(
        Some(found.namespace),
        Some(found.name.parse().ok()?),
    ))
}

/// An identity of the mesh's own domain.
pub(super) fn workload(namespace: Option<Label>, account: Option<Label>) -> IdentitySpec {
    IdentitySpec::Workload {
        namespace,
        account,
        domain: "cluster.local".to_owned(),
    }
}
