//! Who we are to discovery: the kubeconfig, and the namespace that is meant.

use std::path::{Path, PathBuf};

use mesh_discovery::client::Client;
use mesh_discovery::client::kubeconfig::Kubeconfig;
use mesh_policy::name::Label;

use crate::args::Global;
use crate::failure::Failure;

/// Where mesh-discovery leaves the credentials, seen from where it was started.
const DEFAULT_KUBECONFIG: &str = "./mesh-data/admin.kubeconfig";
/// The variable that names the credentials where the command line does not.
const VARIABLE: &str = "MESH_KUBECONFIG";
/// The largest kubeconfig, in bytes: certificates of very many clusters.
const MAX_KUBECONFIG_BYTES: usize = 4 * 1024 * 1024;

/// An administrator's way to discovery.
#[derive(Debug)]
pub(crate) struct Access {
    /// The connection.
    pub(crate) client: Client,
    /// The namespace that is meant where an object or a name says none.
    pub(crate) namespace: Label,
}

impl Access {
    /// Reads the credentials that the command line names.
    pub(crate) fn new(global: &Global) -> Result<Self, Failure> {
        let kubeconfig = kubeconfig(global)?;
        let namespace = match &global.namespace {
            Some(namespace) => namespace.clone(),
            None => kubeconfig.namespace.parse().map_err(|error| {
                Failure::Usage(format!(
                    "the namespace of the kubeconfig's context cannot be used: {error}; say another with -n"
                ))
            })?,
        };
        let client = Client::from_context(&kubeconfig)?;
        Ok(Self { client, namespace })
    }

    /// The namespace to list; `None` for all.
    pub(crate) fn listed<'a>(&'a self, global: &Global) -> Option<&'a str> {
        (!global.all_namespaces).then_some(self.namespace.as_str())
    }
}

/// The context that the command line names.
pub(crate) fn kubeconfig(global: &Global) -> Result<Kubeconfig, Failure> {
    let said = global.kubeconfig.clone();
    // A variable that is set to nothing is as good as absent.
    let variable = || std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    let path = said.or_else(|| variable().map(PathBuf::from));
    let path = path.unwrap_or_else(|| PathBuf::from(DEFAULT_KUBECONFIG));
    let text = read(&path).map_err(|source| Failure::NoCredentials { path, source })?;
    Ok(Kubeconfig::parse(&text, global.context.as_deref())?)
}

fn read(path: &Path) -> std::io::Result<String> {
    let file = std::fs::File::open(path)?;
    let bytes = crate::files::take(file, MAX_KUBECONFIG_BYTES)?;
    let too_large = || std::io::Error::other("it is larger than 4 MiB");
    let bytes = bytes.ok_or_else(too_large)?;
    String::from_utf8(bytes).map_err(std::io::Error::other)
}
