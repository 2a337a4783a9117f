//! The file in which an administrator's credentials travel, for kubectl and for us.
//!
//! Text in, text out: whoever writes the file sees to its mode, since it holds a key.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

/// The name that discovery's certificate carries wherever it runs.
pub const TLS_SERVER_NAME: &str = "mesh-discovery";
/// What context, cluster and user are called in the files we write.
const NAME: &str = "mesh";
/// The namespace of a context that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// Where discovery is, whom to believe there, and with what to prove oneself.
#[derive(Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// Discovery's address, such as `https://127.0.0.1:7800`.
    pub server: String,
    /// The trust anchors, as PEM.
    pub anchors: String,
    /// The certificate and its issuers below the root, as PEM, leaf first.
    pub chain: String,
    /// The private key, as PEM.
    pub key: Zeroizing<String>,
    /// The namespace that is meant where none is said.
    pub namespace: String,
}

impl Kubeconfig {
    /// The file's text. It holds the key: write it with mode 0600.
    #[must_use]
    pub fn to_yaml(&self) -> Zeroizing<String> {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let key = Zeroizing::new(STANDARD.encode(self.key.as_bytes()));
        Zeroizing::new(format!(
            "apiVersion: v1
kind: Config
current-context: {NAME}
contexts:
- name: {NAME}
  context:
    cluster: {NAME}
    user: {NAME}
    namespace: {namespace}
clusters:
- name: {NAME}
  cluster:
    server: {server}
    tls-server-name: {TLS_SERVER_NAME}
    certificate-authority-data: {anchors}
users:
- name: {NAME}
  user:
    client-certificate-data: {chain}
    client-key-data: {key}
",
            namespace = quoted(&self.namespace),
            server = quoted(&self.server),
            anchors = STANDARD.encode(&self.anchors),
            chain = STANDARD.encode(&self.chain),
            key = *key,
        ))
    }

    /// Reads the context that is current, or the one named `context`.
    ///
    /// # Errors
    ///
    /// [`InvalidKubeconfig`] says what is missing.
    pub fn parse(text: &str, context: Option<&str>) -> Result<Self, InvalidKubeconfig> {
        let file: WireFile = serde_saphyr::from_str(text).map_err(InvalidKubeconfig::Yaml)?;
        let name = context.unwrap_or(&file.current_context);
        let context = named("context", name, &file.contexts)?;
        let cluster = named("cluster", &context.context.cluster, &file.clusters)?;
        let user = named("user", &context.context.user, &file.users)?;
        let namespace = &context.context.namespace;
        Ok(Self {
            server: cluster.cluster.server.clone(),
            anchors: decode(
                "certificate-authority-data",
                cluster.cluster.certificate_authority_data.as_deref(),
            )?
            .to_string(),
            chain: decode(
                "client-certificate-data",
                user.user.client_certificate_data.as_deref(),
            )?
            .to_string(),
            key: decode("client-key-data", user.user.client_key_data.as_deref())?,
            namespace: namespace
                .clone()
                .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        })
    }
}

/// Everything but the key.
impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubeconfig")
            .field("server", &self.server)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

fn named<'a, T: Named>(
    what: &'static str,
    name: &str,
    all: &'a [T],
) -> Result<&'a T, InvalidKubeconfig> {
    all.iter()
        .find(|entry| entry.name() == name)
        .ok_or_else(|| InvalidKubeconfig::Unknown {
            what,
            name: name.chars().take(120).collect(),
        })
}

fn decode(field: &'static str, text: Option<&str>) -> Result<Zeroizing<String>, InvalidKubeconfig> {
    let text = text.ok_or(InvalidKubeconfig::Missing { field })?;
    let bytes = STANDARD.decode(text).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or(InvalidKubeconfig::NotPem { field })?;
    Ok(Zeroizing::new(text))
}

/// A text that is no kubeconfig we can use. It never repeats what may be a key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKubeconfig {
    /// It is not YAML of the right form.
    #[error("the kubeconfig cannot be read: take the admin.kubeconfig that discovery wrote")]
    Yaml(#[source] serde_saphyr::Error),
    /// Something is named that is not there.
    #[error("the kubeconfig has no {what} {name:?}: name one that it has")]
    Unknown {
        /// `context`, `cluster` or `user`.
        what: &'static str,
        /// The name that was looked for.
        name: String,
    },
    /// A part of the credentials is absent.
    #[error("the kubeconfig lacks {field}: embed it as base64, paths of files are not followed")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A part of the credentials is damaged.
    #[error(
        "{field} of the kubeconfig is not PEM in base64: take the admin.kubeconfig that discovery wrote"
    )]
    NotPem {
        /// The field.
        field: &'static str,
    },
}

trait Named {
    fn name(&self) -> &str;
}

macro_rules! named {
    ($wire:ident) => {
        impl Named for $wire {
            fn name(&self) -> &str {
                &self.name
            }
        }
    };
}

named!(WireNamedContext);
named!(WireNamedCluster);
named!(WireNamedUser);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireFile {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<WireNamedContext>,
    #[serde(default)]
    clusters: Vec<WireNamedCluster>,
    #[serde(default)]
    users: Vec<WireNamedUser>,
}

#[derive(Deserialize)]
struct WireNamedContext {
    name: String,
    context: WireContext,
}

#[derive(Deserialize)]
struct WireContext {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

#[derive(Deserialize)]
struct WireNamedCluster {
    name: String,
    cluster: WireCluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireCluster {
    server: String,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct WireNamedUser {
    name: String,
    user: WireUser,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct WireUser {
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Kubeconfig {
        Kubeconfig {
            server: "https://127.0.0.1:7800".into(),
            anchors: "anchors\n".into(),
            chain: "chain\n".into(),
            key: Zeroizing::new("secret key\n".into()),
            namespace: "shop".into(),
        }
    }

    #[test]
    fn a_written_file_reads_back() {
        let text = config().to_yaml();
        assert_eq!(Kubeconfig::parse(&text, None).unwrap(), config());
        assert_eq!(Kubeconfig::parse(&text, Some("mesh")).unwrap(), config());
        assert!(text.contains("tls-server-name: mesh-discovery"));
    }

    #[test]
    fn a_context_is_chosen_by_name() {
        let text = config().to_yaml();
        let second = "contexts:\n- name: other\n  context: {cluster: mesh, user: mesh}";
        let text = text.replace("contexts:", second);
        let other = Kubeconfig::parse(&text, Some("other")).unwrap();
        assert_eq!(other.namespace, "default");
        assert_eq!(Kubeconfig::parse(&text, None).unwrap().namespace, "shop");
    }

    #[test]
    fn what_is_missing_is_named() {
        let whole = config().to_yaml();
        for (from, to, expected) in [
            ("current-context: mesh", "", "no context"),
            ("cluster: mesh", "cluster: x", "no cluster \"x\""),
            ("user: mesh", "user: x", "no user \"x\""),
            (
                "certificate-authority-data",
                "certificate-authority",
                "lacks certificate-authority-data",
            ),
            (
                "client-key-data: ",
                "client-key-data: '*' #",
                "client-key-data of the kubeconfig is not",
            ),
            ("apiVersion: v1", "[", "cannot be read"),
        ] {
            let text = whole.replace(from, to);
            let error = Kubeconfig::parse(&text, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{from}: {error}");
        }
    }

    #[test]
    fn s01_debug_never_shows_the_key() {
        assert!(!format!("{:?}", config()).contains("secret"));
    }
}
