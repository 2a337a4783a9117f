//! Which resource a path of the API names.
//!
//! ```text
//! /api/v1/services                                       every Service
//! /api/v1/namespaces/shop/services                       those of a namespace
//! /api/v1/namespaces/shop/services/api                   one
//! /apis/<group>/<version>[/namespaces/<ns>]/<plural>[/<name>]
//! ```

use mesh_policy::manifest::Kind;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The kind.
    pub(super) kind: Kind,
    /// The version the caller speaks.
    pub(super) version: String,
    /// The namespace; `None` means all of them.
    pub(super) namespace: Option<String>,
    /// The object; `None` means the collection.
    pub(super) name: Option<String>,
}

impl Target {
    /// Reads a path, without its query. `None` if nothing is served there.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut segments = path.strip_prefix('/')?.split('/');
        let group = match segments.next()? {
            "api" => "",
            // The core group has its own root and no other.
            "apis" => segments.next().filter(|group| !group.is_empty())?,
            _ => return None,
        };
        let version = segments.next()?;
        let rest: Vec<&str> = segments.collect();
        let (namespace, plural, name) = match *rest.as_slice() {
            [plural] => (None, plural, None),
            ["namespaces", namespace, plural] => (Some(namespace), plural, None),
            ["namespaces", namespace, plural, name] => (Some(namespace), plural, Some(name)),
            _ => return None,
        };
        if namespace == Some("") || name == Some("") {
            return None;
        }
        Some(Self {
            kind: Kind::from_path(group, version, plural)?,
            version: version.to_owned(),
            namespace: namespace.map(str::to_owned),
            name: name.map(str::to_owned),
        })
    }

    /// The `apiVersion` of what is shown here: `v1`, or `group/version`.
    pub(super) fn api_version(&self) -> String {
        match self.kind.group() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_served_version_of_every_kind_has_its_paths() {
        for kind in Kind::all() {
            for version in kind.versions() {
                let root = match kind.group() {
                    "" => format!("/api/{version}"),
                    group => format!("/apis/{group}/{version}"),
                };
                let plural = kind.plural();
                for (path, namespace, name) in [
                    (format!("{root}/{plural}"), None, None),
                    (
                        format!("{root}/namespaces/shop/{plural}"),
                        Some("shop"),
                        None,
                    ),
                    (
                        format!("{root}/namespaces/shop/{plural}/api"),
                        Some("shop"),
                        Some("api"),
                    ),
                ] {
                    let target = Target::parse(&path).unwrap_or_else(|| panic!("{path}"));
                    assert_eq!(target.kind, *kind, "{path}");
                    assert_eq!(target.version, *version);
                    assert_eq!(target.namespace.as_deref(), namespace);
                    assert_eq!(target.name.as_deref(), name);
                }
            }
        }
    }

    #[test]
    fn nothing_else_is_served() {
        for path in [
            "",
            "/",
            "/api",
            "/apis",
            "/api/v1",
            "/api/v2/services",
            "/api/v1/services/",
            "/api/v1/services/api",
            "/api/v1/pods",
            "/api//services",
            "/apis//v1/services",
            "/apis/v1/services",
            "/api/v1/namespaces/shop",
            "/api/v1/namespaces//services",
            "/api/v1/namespaces/shop/services/",
            "/api/v1/namespaces/shop/services/api/status",
            "/api/v1/namespaces/shop/pods/api",
            "/api/v1/Services",
            "/api/v1/%73ervices",
            "/apis/gateway.networking.k8s.io/v9/httproutes",
            "/apis/policy.linkerd.io/v1/httproutes/x/y/z",
            "/v1/services",
            "api/v1/services",
        ] {
            assert_eq!(Target::parse(path), None, "{path:?} is served");
        }
    }
}
