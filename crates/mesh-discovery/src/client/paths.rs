//! The paths of the resource API, as the client writes them.

use mesh_policy::manifest::Kind;

use super::ClientError;
use crate::objects::ObjectName;

pub(super) fn collection_path(kind: Kind, namespace: Option<&str>) -> Result<String, ClientError> {
    let newest = kind.versions().first().copied().unwrap_or_default();
    let root = match kind.group() {
        "" => format!("/api/{newest}"),
        group => format!("/apis/{group}/{newest}"),
    };
    let plural = kind.plural();
    Ok(match namespace {
        None => format!("{root}/{plural}"),
        Some(namespace) => format!("{root}/namespaces/{}/{plural}", segment(namespace)?),
    })
}

pub(super) fn object_path(name: &ObjectName) -> Result<String, ClientError> {
    let collection = collection_path(name.kind, Some(&name.namespace))?;
    Ok(format!("{collection}/{}", segment(&name.name)?))
}

/// A name as a segment of a path. One that would need escaping names nothing.
pub(super) fn segment(name: &str) -> Result<&str, ClientError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        let name: String = name.chars().take(120).collect();
        let message =
            format!("nothing is called {name:?}: names hold letters, digits, '-' and '.'");
        return Err(ClientError::NotFound { message });
    }
    Ok(name)
}
