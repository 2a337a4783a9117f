//! [`crate::verify`] in the forms that rustls calls during a handshake.

use std::sync::Arc;

use mesh_policy::identity::Identity;
use mesh_policy::token::RootHash;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::anchors::TrustBundles;
use crate::config::ClientCertificates;
use crate::provider::SIGNATURES;
use crate::verify::{self, Presented, RefusedCertificate, Role, system_time};

/// Proves clients.
#[derive(Debug)]
pub(crate) struct ClientVerifier {
    bundles: TrustBundles,
    clients: ClientCertificates,
}

impl ClientVerifier {
    pub(crate) fn new(bundles: TrustBundles, clients: ClientCertificates) -> Self {
        Self { bundles, clients }
    }
}

/// Proves a server that must be one identity.
#[derive(Debug)]
pub(crate) struct ServerVerifier {
    bundles: TrustBundles,
    expected: Identity,
}

impl ServerVerifier {
    pub(crate) fn new(bundles: TrustBundles, expected: Identity) -> Self {
        Self { bundles, expected }
    }
}

/// Proves discovery by the hash of its root alone.
#[derive(Debug)]
pub(crate) struct JoiningVerifier {
    root: RootHash,
}

impl JoiningVerifier {
    pub(crate) fn new(root: RootHash) -> Self {
        Self { root }
    }
}

/// The three kinds differ in whom they believe; the handshake's signature is checked alike.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signature, &SIGNATURES)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            SIGNATURES.supported_schemes()
        }
    };
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.clients == ClientCertificates::Required
    }

    /// No hints: a client has one certificate, and they would tell strangers whom we trust.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let presented = Presented { leaf, issuers };
        verify::verify(&presented, &self.bundles, Role::Client, system_time(now))
            .map(|_| ClientCertVerified::assertion())
            .map_err(refuse)
    }

    handshake_signatures!();
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = Presented { leaf, issuers };
        verify::verify_expected(&presented, &self.bundles, &self.expected, system_time(now))
            .map(|_| ServerCertVerified::assertion())
            .map_err(refuse)
    }

    handshake_signatures!();
}

impl ServerCertVerifier for JoiningVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        issuers: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = Presented { leaf, issuers };
        verify::verify_discovery(&presented, &self.root, system_time(now))
            .map(|_| ServerCertVerified::assertion())
            .map_err(refuse)
    }

    handshake_signatures!();
}

/// Gives the peer the alert it can act on where TLS has one, and keeps our reason otherwise.
fn refuse(refused: RefusedCertificate) -> Error {
    let certificate = match refused {
        RefusedCertificate::Expired => CertificateError::Expired,
        RefusedCertificate::NotYetValid => CertificateError::NotValidYet,
        RefusedCertificate::UnknownAuthority => CertificateError::UnknownIssuer,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    };
    Error::InvalidCertificate(certificate)
}

/// The way back from [`refuse`]; `None` of an error that is not ours.
pub(crate) fn refused(error: &CertificateError) -> Option<RefusedCertificate> {
    match error {
        CertificateError::Expired => Some(RefusedCertificate::Expired),
        CertificateError::NotValidYet => Some(RefusedCertificate::NotYetValid),
        CertificateError::UnknownIssuer => Some(RefusedCertificate::UnknownAuthority),
        CertificateError::Other(OtherError(reason)) => reason.downcast_ref().cloned(),
        _ => None,
    }
}
