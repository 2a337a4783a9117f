//! The kinds that are served, and how they are called.

use crate::nearest::nearest;

/// A kind of object that people write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// policy.linkerd.io `AuthorizationPolicy`.
    AuthorizationPolicy,
    /// gateway.networking.k8s.io `HTTPRoute`.
    HttpRoute,
    /// policy.linkerd.io `MeshTLSAuthentication`.
    MeshTlsAuthentication,
    /// policy.linkerd.io `NetworkAuthentication`.
    NetworkAuthentication,
    /// policy.linkerd.io `Server`.
    Server,
    /// policy.linkerd.io `ServerAuthorization`.
    ServerAuthorization,
    /// core `Service`.
    Service,
    /// split.smi-spec.io `TrafficSplit`.
    TrafficSplit,
}

struct Names {
    group: &'static str,
    versions: &'static [&'static str],
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short: &'static [&'static str],
}

const POLICY: &str = "policy.linkerd.io";

impl Kind {
    /// Every kind.
    #[must_use]
    pub const fn all() -> &'static [Self] {
        &[
            Self::AuthorizationPolicy,
            Self::HttpRoute,
            Self::MeshTlsAuthentication,
            Self::NetworkAuthentication,
            Self::Server,
            Self::ServerAuthorization,
            Self::Service,
            Self::TrafficSplit,
        ]
    }

    const fn names(self) -> Names {
        match self {
            Self::AuthorizationPolicy => Names {
                group: POLICY,
                versions: &["v1alpha1"],
                kind: "AuthorizationPolicy",
                plural: "authorizationpolicies",
                singular: "authorizationpolicy",
                short: &["authzpolicy"],
            },
            Self::HttpRoute => Names {
                group: "gateway.networking.k8s.io",
                versions: &["v1", "v1beta1"],
                kind: "HTTPRoute",
                plural: "httproutes",
                singular: "httproute",
                short: &[],
            },
            Self::MeshTlsAuthentication => Names {
                group: POLICY,
                versions: &["v1alpha1"],
                kind: "MeshTLSAuthentication",
                plural: "meshtlsauthentications",
                singular: "meshtlsauthentication",
                short: &["meshtlsauthn"],
            },
            Self::NetworkAuthentication => Names {
                group: POLICY,
                versions: &["v1alpha1"],
                kind: "NetworkAuthentication",
                plural: "networkauthentications",
                singular: "networkauthentication",
                short: &["netauthn", "networkauthn"],
            },
            Self::Server => Names {
                group: POLICY,
                versions: &["v1beta3", "v1beta2", "v1beta1", "v1alpha1"],
                kind: "Server",
                plural: "servers",
                singular: "server",
                short: &["srv"],
            },
            Self::ServerAuthorization => Names {
                group: POLICY,
                versions: &["v1beta1", "v1alpha1"],
                kind: "ServerAuthorization",
                plural: "serverauthorizations",
                singular: "serverauthorization",
                short: &["saz", "serverauthz", "srvauthz"],
            },
            Self::Service => Names {
                group: "",
                versions: &["v1"],
                kind: "Service",
                plural: "services",
                singular: "service",
                short: &["svc"],
            },
            Self::TrafficSplit => Names {
                group: "split.smi-spec.io",
                versions: &["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"],
                kind: "TrafficSplit",
                plural: "trafficsplits",
                singular: "trafficsplit",
                short: &["ts"],
            },
        }
    }

    /// The API group; empty for core.
    #[must_use]
    pub const fn group(self) -> &'static str {
        self.names().group
    }

    /// The versions served, newest first.
    #[must_use]
    pub const fn versions(self) -> &'static [&'static str] {
        self.names().versions
    }

    /// The kind as manifests spell it.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        self.names().kind
    }

    /// The name in paths.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        self.names().plural
    }

    /// The name of one.
    #[must_use]
    pub const fn singular(self) -> &'static str {
        self.names().singular
    }

    /// What command lines also take.
    #[must_use]
    pub const fn short_names(self) -> &'static [&'static str] {
        self.names().short
    }

    /// The kind that an object says it is.
    #[must_use]
    pub fn from_api(group: &str, version: &str, kind: &str) -> Option<Self> {
        Self::find(|known| known.kind() == kind && known.is(group, version))
    }

    /// The kind that a path of the API means.
    #[must_use]
    pub fn from_path(group: &str, version: &str, plural: &str) -> Option<Self> {
        Self::find(|known| known.plural() == plural && known.is(group, version))
    }

    /// The kind that a command line means: `HTTPRoute`, `httproutes`, `svc`, in any case, and
    /// with the group behind a dot where somebody says it.
    ///
    /// # Errors
    ///
    /// [`UnknownKind`] names the nearest one.
    pub fn named(text: &str) -> Result<Self, UnknownKind> {
        let folded = text.to_ascii_lowercase();
        let (name, group) = folded.split_once('.').unwrap_or((&folded, ""));
        let found = Self::find(|known| {
            let names = [known.singular(), known.plural()];
            let called = names.iter().chain(known.short_names()).any(|n| *n == name);
            called && (group.is_empty() || group == known.group())
        });
        found.ok_or_else(|| {
            let all = Self::all().iter();
            let names = all.flat_map(|known| [known.singular(), known.plural()]);
            UnknownKind {
                name: text.chars().take(120).collect(),
                nearest: nearest(name, names),
            }
        })
    }

    /// What somebody who wrote this probably meant, as a remedy.
    pub(super) fn remedy(api_version: &str, kind: &str) -> String {
        let spelled = |known: Self, version: &str| match known.group() {
            "" => format!("{version}, kind {}", known.kind()),
            group => format!("{group}/{version}, kind {}", known.kind()),
        };
        if let Some(known) = Self::find(|known| known.kind() == kind) {
            let newest = known.versions()[0];
            return format!("write apiVersion {}", spelled(known, newest));
        }
        let names = Self::all().iter().map(|known| known.kind());
        if let Some(name) = nearest(kind, names)
            && let Some(known) = Self::find(|known| known.kind() == name)
        {
            let written = api_version.rsplit('/').next().unwrap_or_default();
            let served = known.versions().iter().find(|version| **version == written);
            let version = served.unwrap_or(&known.versions()[0]);
            return format!("write apiVersion {}", spelled(known, version));
        }
        let names: Vec<_> = Self::all().iter().map(|known| known.kind()).collect();
        format!("the kinds served are {}", names.join(", "))
    }

    fn is(self, group: &str, version: &str) -> bool {
        self.group() == group && self.versions().contains(&version)
    }

    fn find(fits: impl Fn(Self) -> bool) -> Option<Self> {
        Self::all().iter().copied().find(|kind| fits(*kind))
    }
}

/// A word that no kind is called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no kind that is served: write {}", self.meant())]
pub struct UnknownKind {
    name: String,
    nearest: Option<&'static str>,
}

impl UnknownKind {
    fn meant(&self) -> String {
        match self.nearest {
            Some(nearest) => nearest.to_owned(),
            None => {
                let all: Vec<_> = Kind::all().iter().map(|kind| kind.singular()).collect();
                format!("one of {}", all.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_names_kinds_in_many_ways() {
        for (text, expected) in [
            ("svc", Kind::Service),
            ("Services", Kind::Service),
            ("HTTPRoute", Kind::HttpRoute),
            ("httproutes.gateway.networking.k8s.io", Kind::HttpRoute),
            ("ts", Kind::TrafficSplit),
        ] {
            assert_eq!(Kind::named(text), Ok(expected), "{text}");
        }
        let typo = Kind::named("htproute").unwrap_err().to_string();
        assert!(typo.ends_with("write httproute"), "{typo}");
        let other = Kind::named("httproute.example.com").unwrap_err();
        assert!(other.to_string().contains("write httproute"), "{other}");
        let nothing = Kind::named("gateway-of-something").unwrap_err().to_string();
        assert!(nothing.contains("one of authorizationpolicy"), "{nothing}");
    }
}
