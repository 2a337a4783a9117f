//! Whether what people wrote may be stored: everything that can be known of an object alone.
//!
//! What needs other objects, such as a route's backend that nobody has applied
//! yet, is no error here: files are applied in any order, and a service may come later.
//! All problems are told, not the first alone.

mod json;

use std::collections::BTreeMap;

use mesh_policy::identity::TrustDomain;
use mesh_policy::manifest::{
    self, AuthorizedClient, IdentitySpec, Manifest, Parsed, Problem, Problems, ServerAuthorization,
    Spec,
};
use serde_json::Value;

use crate::objects::{MAX_OBJECT_BYTES, ObjectName};

pub use self::json::parse as json;

/// Reads and checks a file of many objects.
///
/// `name` is how problems call the file.
///
/// # Errors
///
/// [`Problems`], all of the file's, if there is any. A file without objects is one.
pub fn file(name: &str, yaml: &str, domain: &TrustDomain) -> Result<Parsed, Problems> {
    let mut parsed = manifest::parse_yaml(name, yaml)?;
    let mut problems = Vec::new();
    if parsed.manifests.is_empty() && parsed.skipped.is_empty() {
        problems.push(problem(
            None,
            "",
            "the file holds no object",
            "write at least one, with apiVersion, kind and metadata.name",
        ));
    }
    let mut seen = BTreeMap::new();
    for (index, manifest) in parsed.manifests.iter_mut().enumerate() {
        let told = manifest.warnings.len();
        check(manifest, domain, &mut problems);
        parsed
            .warnings
            .extend_from_slice(&manifest.warnings[told..]);
        if let Some(first) = seen.insert(ObjectName::of(manifest), index) {
            let (first, second) = (first + 1, index + 1);
            problems.push(problem(
                Some(manifest),
                "metadata.name",
                &format!("objects {first} and {second} of the file are one and the same"),
                "keep one of them",
            ));
        }
    }
    match problems.as_slice() {
        [] => Ok(parsed),
        _ => Err(Problems(problems)),
    }
}

/// Checks one object.
///
/// # Errors
///
/// [`Problems`], all of the object's, if there is any.
pub fn object(object: &Value, domain: &TrustDomain) -> Result<Manifest, Problems> {
    let mut manifest = manifest::parse_json(object)?;
    let mut problems = Vec::new();
    check(&mut manifest, domain, &mut problems);
    match problems.as_slice() {
        [] => Ok(manifest),
        _ => Err(Problems(problems)),
    }
}

/// Reads the YAML of exactly one object, verbatim.
///
/// # Errors
///
/// [`Problems`] where it is not one object.
pub fn yaml(text: &str) -> Result<Value, Problems> {
    let mut parsed = manifest::parse_yaml("", text)?;
    match (parsed.manifests.pop(), parsed.manifests.len()) {
        (Some(manifest), 0) => Ok(manifest.raw),
        _ => Err(Problems(vec![problem(
            None,
            "",
            "the body does not hold exactly one object",
            "send one, or many to /v1/apply",
        )])),
    }
}

/// What an object can have wrong besides its form; what matches nobody is a warning of it.
fn check(manifest: &mut Manifest, domain: &TrustDomain, problems: &mut Vec<Problem>) {
    let bytes = manifest.raw.to_string().len();
    if bytes > MAX_OBJECT_BYTES {
        problems.push(problem(
            Some(manifest),
            "",
            &format!("the object has {bytes} bytes, of at most {MAX_OBJECT_BYTES}"),
            "split it into several",
        ));
    }
    let warnings = nobody(manifest, domain);
    manifest.warnings.extend(warnings);
}

/// Identities that nobody of the trust domain can have.
#[must_use]
pub fn nobody(manifest: &Manifest, domain: &TrustDomain) -> Vec<Problem> {
    let field = match manifest.spec {
        Spec::ServerAuthorization(_) => "spec.client.meshTLS.identities",
        _ => "spec.identities",
    };
    let identities = identities(&manifest.spec).enumerate();
    let unknown = identities.filter_map(|(index, identity)| {
        let error = identity.resolve(domain).err()?;
        let remedy = format!(
            "write an identity such as spiffe://{}/ns/shop/sa/web",
            domain.as_str()
        );
        let field = format!("{field}[{index}]");
        Some(problem(Some(manifest), &field, &error.to_string(), &remedy))
    });
    unknown.collect()
}

fn identities(spec: &Spec) -> impl Iterator<Item = &IdentitySpec> {
    let identities: &[_] = match spec {
        Spec::MeshTlsAuthentication(authentication) => &authentication.identities,
        Spec::ServerAuthorization(ServerAuthorization {
            client: AuthorizedClient::Identities(identities),
            ..
        }) => identities,
        _ => &[],
    };
    identities.iter()
}

fn problem(object: Option<&Manifest>, field: &str, message: &str, remedy: &str) -> Problem {
    Problem {
        file: None,
        line: None,
        column: None,
        object: object.map(|manifest| ObjectName::of(manifest).to_string()),
        field: field.to_owned(),
        message: message.to_owned(),
        remedy: remedy.to_owned(),
    }
}
