//! policy.linkerd.io `MeshTLSAuthentication`: a list of identities.

use super::authorization_policy::{AuthenticationKind, reference};
use super::fields::At;
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
    let remedy = "write identities: ['*'] for any identity";
    let (at, specs): (_, Vec<_>) = match (identities, references) {
        (Some(at), None) => {
            let specs = at.list(MOST_IDENTITIES).iter().map(At::parse).collect();
            (at, specs)
        }
        (None, Some(at)) => {
            let items = at.list(MOST_IDENTITIES);
            let specs = items.iter().map(|at| referenced(meta, at)).collect();
            (at, specs)
        }
        (Some(_), Some(_)) => {
            return at.refuse("has identities and identityRefs", "write one of them");
        }
        (None, None) => return at.refuse("names nobody", remedy),
    };
    if specs.is_empty() {
        return at.refuse(
            "is empty, which could be read as nobody or everybody",
            remedy,
        );
    }
    Some(MeshTlsAuthentication {
        identities: specs.into_iter().collect::<Option<_>>()?,
    })
}

/// A service account, or every one of a namespace.
fn referenced(meta: &Meta, at: &At<'_>) -> Option<IdentitySpec> {
    if at.node.text("kind") == Some("Namespace") {
        let mut fields = at.fields();
        fields.pass(&["group", "kind"]);
        let name = fields.need("name", "name the namespace");
        fields.finish();
        let namespace: Label = name?.parse()?;
        return Some(workload(Some(namespace), None));
    }
    let found = reference(meta, at)?;
    if found.kind != AuthenticationKind::ServiceAccount {
        return at.refuse("names no identity", "name a ServiceAccount or a Namespace");
    }
    Some(workload(Some(found.namespace), found.name.parse().ok()))
}

/// An identity of the mesh's own domain.
pub(super) fn workload(namespace: Option<Label>, account: Option<Label>) -> IdentitySpec {
    IdentitySpec::Workload {
        namespace,
        account,
        domain: "cluster.local".to_owned(),
    }
}
