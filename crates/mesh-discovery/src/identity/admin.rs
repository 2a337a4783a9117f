//! The administrator's credentials, in the file that `kubectl` and `mesh` read.
//!
//! They are made once and kept: each further certificate would be one more that nobody can take
//! back. A disk that is full or fails keeps no server from starting.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, SystemTime};

use mesh_policy::identity::Identity;
use mesh_tls::issuer::{Issuer, Template};
use mesh_tls::pem;
use mesh_tls::request::KeyPair;

use super::certificate::OwnCertificateError;
use super::private_file;
use crate::client::kubeconfig::Kubeconfig;
use crate::client::read_credentials;

/// How long the administrator's certificate counts, unless the issuer ends sooner.
const TTL: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Sees to it that `path` holds credentials for the server at `url`, and says aloud where it cannot.
pub(crate) fn keep(
    path: &Path,
    issuer: &Issuer,
    url: &str,
    now: SystemTime,
) -> Result<(), OwnCertificateError> {
    let found = read(path, issuer, now);
    let wanted = match found {
        Some(found) if found.server == url => return Ok(()),
        Some(found) => Kubeconfig {
            server: url.to_owned(),
            ..found
        },
        None => issue(issuer, url, now)?,
    };
    if let Err(error) = private_file::replace(path, &wanted.to_yaml()) {
        tracing::error!(
            error = &error as &dyn Error,
            "the administrator's credentials cannot be written: those that are there count as long as they last"
        );
    }
    Ok(())
}

/// The credentials in `path` that are still good: made by this CA for its administrator, and not
/// so old that new ones would last twice as long.
fn read(path: &Path, issuer: &Issuer, now: SystemTime) -> Option<Kubeconfig> {
    let text = private_file::read(path).ok()?;
    let found = Kubeconfig::parse(&text, None).ok()?;
    let credentials = read_credentials(&found, now).ok()?;
    let left = |end: SystemTime| end.duration_since(now).unwrap_or_default();
    let anew = TTL.min(left(issuer.not_after()));
    let good = *credentials.identity() == Identity::admin(issuer.domain())
        && found.anchors == issuer.bundle().to_pem()
        && left(credentials.not_after()) >= anew / 2;
    good.then_some(found)
}

fn issue(issuer: &Issuer, url: &str, now: SystemTime) -> Result<Kubeconfig, OwnCertificateError> {
    let template = Template {
        ttl: TTL,
        ..Template::default()
    };
    let identity = Identity::admin(issuer.domain());
    let key = KeyPair::generate()?;
    let issued = issuer.issue(&key.signing_request()?, &identity, &template, now)?;
    Ok(Kubeconfig {
        server: url.to_owned(),
        anchors: issuer.bundle().to_pem(),
        chain: pem::write(&issued.chain),
        key: key.to_pem(),
        namespace: "default".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::identity::custody;

    const URL: &str = "https://127.0.0.1:7800";

    struct Fixture {
        dir: tempfile::TempDir,
        issuer: Issuer,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let domain = "mesh.local".parse().unwrap();
            let now = SystemTime::now();
            let issuer = custody::load_or_create(dir.path(), &domain, now).unwrap();
            Self { dir, issuer }
        }

        fn start(&self, url: &str, now: SystemTime) -> Kubeconfig {
            let path = self.dir.path().join("admin.kubeconfig");
            keep(&path, &self.issuer, url, now).unwrap();
            Kubeconfig::parse(&fs::read_to_string(path).unwrap(), None).unwrap()
        }
    }

    #[test]
    fn the_administrator_has_ninety_days_or_the_issuers_life() {
        let mesh = Fixture::new();
        let now = SystemTime::now();
        let credentials = read_credentials(&mesh.start(URL, now), now).unwrap();
        assert_eq!(
            *credentials.identity(),
            Identity::admin(mesh.issuer.domain())
        );
        assert!(credentials.not_after() <= now + TTL);
        assert!(credentials.not_after() > now + TTL / 2);
    }

    #[test]
    fn a_start_keeps_the_credentials_until_half_of_their_life_is_over() {
        let mesh = Fixture::new();
        let now = SystemTime::now();
        let first = mesh.start(URL, now);
        assert_eq!(mesh.start(URL, now), first);
        assert_eq!(mesh.start(URL, now + TTL / 3), first);
        let moved = mesh.start("https://10.0.0.1:7800", now);
        assert_eq!(
            moved.chain, first.chain,
            "another port is no reason for another one"
        );
        assert_eq!(moved.server, "https://10.0.0.1:7800");
        assert_ne!(mesh.start(URL, now + TTL * 2 / 3).chain, first.chain);
        // Shortly before the issuer's end there are no better ones.
        let late = mesh.issuer.not_after() - TTL / 4;
        let last = mesh.start(URL, late);
        assert_eq!(mesh.start(URL, late + TTL / 8), last);
    }

    #[test]
    fn credentials_that_are_no_good_are_replaced() {
        let mesh = Fixture::new();
        let now = SystemTime::now();
        let first = mesh.start(URL, now);
        let path = mesh.dir.path().join("admin.kubeconfig");
        fs::write(&path, "x").unwrap();
        assert_ne!(mesh.start(URL, now).chain, first.chain);
        // Those of another CA, though of the same domain.
        let other = Fixture::new();
        fs::copy(&path, other.dir.path().join("admin.kubeconfig")).unwrap();
        assert_eq!(
            other.start(URL, now).anchors,
            other.issuer.bundle().to_pem()
        );
    }

    #[test]
    fn c04_a_file_that_cannot_be_written_keeps_nothing_from_starting() {
        let mesh = Fixture::new();
        let nowhere = mesh.dir.path().join("none").join("admin.kubeconfig");
        assert!(keep(&nowhere, &mesh.issuer, URL, SystemTime::now()).is_ok());
    }
}
