//! Filters of Gateway API that this version does not have: their fields are checked all the same.

use super::super::super::fields::{At, Fields};
use super::{host, path};
use crate::plan::outbound::MatchPlan;

/// `RequestMirror`.
pub(super) fn mirror(fields: &mut Fields<'_>) -> Option<()> {
    let at = fields.need("requestMirror", "write where copies are sent")?;
    let mut fields = at.fields();
    let backend = fields.need("backendRef", "name the Service that gets the copies");
    let percent = fields.take("percent");
    let fraction = fields.take("fraction");
    fields.finish();
    reference(&backend?)?;
    if let Some(at) = &percent {
        at.integer(0..=100)?;
    }
    if let Some(at) = &fraction {
        share(at)?;
    }
    match (percent, fraction) {
        (Some(_), Some(at)) => at.refuse("stands beside percent", "write one of them"),
        _ => Some(()),
    }
}

fn share(at: &At<'_>) -> Option<()> {
    let mut fields = at.fields();
    let numerator = fields.need("numerator", "write a whole number");
    let denominator = fields.take("denominator");
    fields.finish();
    let part = numerator?.integer(0..=i128::from(i32::MAX))?;
    let whole = match denominator {
        Some(at) => at.integer(1..=i128::from(i32::MAX))?,
        None => 100,
    };
    if part > whole {
        return at.refuse(
            "is more than the whole",
            "write a numerator up to the denominator",
        );
    }
    Some(())
}

/// A reference by group, kind, name, namespace and port.
fn reference(at: &At<'_>) -> Option<()> {
    let mut fields = at.fields();
    let name = fields.need("name", "write the name");
    for field in ["group", "kind", "namespace"] {
        if let Some(at) = fields.take(field) {
            at.text()?;
        }
    }
    let port = fields.take("port");
    fields.finish();
    name?.object_name()?;
    match port {
        Some(at) => at.port().map(drop),
        None => Some(()),
    }
}

/// `URLRewrite`.
pub(super) fn rewrite(fields: &mut Fields<'_>, matches: Option<&[MatchPlan]>) -> Option<()> {
    let at = fields.need("urlRewrite", "write what it changes")?;
    let mut fields = at.fields();
    let hostname = fields.take("hostname").map(|at| host(&at));
    let replaced = fields.take("path").map(|at| path(&at, matches));
    fields.finish();
    match (hostname, replaced) {
        (Some(None), _) | (_, Some(None)) => None,
        _ => Some(()),
    }
}

/// `CORS`.
pub(super) fn cors(fields: &mut Fields<'_>) -> Option<()> {
    const MOST: usize = 64;
    let at = fields.need("cors", "write what browsers may do")?;
    let mut fields = at.fields();
    for name in [
        "allowOrigins",
        "allowMethods",
        "allowHeaders",
        "exposeHeaders",
    ] {
        for item in fields.items(name, MOST) {
            item.text()?;
        }
    }
    let credentials = fields.take("allowCredentials");
    let max_age = fields.take("maxAge");
    fields.finish();
    if let Some(at) = credentials {
        at.boolean()?;
    }
    match max_age {
        Some(at) => at.integer(1..=i128::from(i32::MAX)).map(drop),
        None => Some(()),
    }
}

/// `ExternalAuth`, of the experimental channel.
pub(super) fn external_auth(fields: &mut Fields<'_>) -> Option<()> {
    let at = fields.need("externalAuth", "write whom to ask")?;
    let mut fields = at.fields();
    let protocol = fields.need("protocol", "write HTTP or GRPC");
    let backend = fields.need("backendRef", "name the Service that is asked");
    fields.pass(&["forwardBody", "grpc", "http"]);
    fields.finish();
    protocol?.one_of(&[("HTTP", ()), ("GRPC", ())])?;
    reference(&backend?)
}

/// `ExtensionRef`.
pub(super) fn extension(fields: &mut Fields<'_>) -> Option<()> {
    let at = fields.need("extensionRef", "name the extension")?;
    let mut fields = at.fields();
    let parts = ["group", "kind", "name"].map(|name| fields.need(name, "write it"));
    fields.finish();
    for part in parts {
        part?.text()?;
    }
    Some(())
}
