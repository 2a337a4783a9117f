//! The yardstick: hyper, tokio-rustls and client certificates, and no line more than that takes.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::cell::Protocol;
use crate::load::{self, Outcome};
use crate::{BoxError, ClientOptions, ServerOptions, process};

/// Certificates of both ends, as PEM in the environment of the children.
pub const PEM: &str = "BENCH_PEM";

/// Makes a CA and one certificate that both ends use.
pub fn certificates() -> Result<String, BoxError> {
    let ca_key = rcgen::KeyPair::generate()?;
    let mut ca = rcgen::CertificateParams::new(Vec::<String>::new())?;
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let root = ca.self_signed(&ca_key)?;
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate()?;
    let leaf = rcgen::CertificateParams::new(vec!["localhost".into()])?.signed_by(&key, &issuer)?;
    Ok([leaf.pem(), root.pem(), key.serialize_pem()].join("\n"))
}

struct Keys {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    roots: Arc<rustls::RootCertStore>,
}

fn keys() -> Result<Keys, BoxError> {
    let pem = std::env::var(PEM)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>()?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain[1].clone())?;
    Ok(Keys {
        chain,
        key: PrivateKeyDer::from_pem_slice(pem.as_bytes())?,
        roots: Arc::new(roots),
    })
}

fn alpn(protocol: Protocol) -> Vec<Vec<u8>> {
    vec![match protocol {
        Protocol::Http1 => b"http/1.1".to_vec(),
        Protocol::Http2 => b"h2".to_vec(),
    }]
}

fn server_config(protocol: Protocol) -> Result<rustls::ServerConfig, BoxError> {
    let Keys { chain, key, roots } = keys()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = alpn(protocol);
    Ok(config)
}

fn client_config(protocol: Protocol) -> Result<rustls::ClientConfig, BoxError> {
    let Keys { chain, key, roots } = keys()?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = alpn(protocol);
    Ok(config)
}

/// Serves until the parent lets go.
pub async fn serve(options: &ServerOptions) -> Result<(), BoxError> {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(options.cell.protocol)?));
    let body = Bytes::from(vec![b'x'; options.cell.bytes]);
    let mut addresses = Vec::new();
    for _ in 0..options.endpoints {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?.to_string());
        let acceptor = acceptor.clone();
        let (body, protocol) = (body.clone(), options.cell.protocol);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, acceptor.clone(), body.clone(), protocol));
            }
        });
    }
    process::announce(&addresses.join(","));
    process::parent_lets_go().await;
    Ok(())
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    body: Bytes,
    protocol: Protocol,
) -> Result<(), BoxError> {
    stream.set_nodelay(true)?;
    let io = TokioIo::new(acceptor.accept(stream).await?);
    let service = service_fn(move |_: Request<Incoming>| {
        let body = body.clone();
        async move { Ok::<_, Infallible>(Response::new(Full::new(body))) }
    });
    match protocol {
        Protocol::Http1 => {
            hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(io, service)
                .await?;
        }
        Protocol::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .serve_connection(io, service)
                .await?;
        }
    }
    Ok(())
}

enum Connection {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

struct Caller {
    connection: Connection,
}

impl load::Caller for Caller {
    async fn call(&mut self) -> Result<usize, BoxError> {
        let request = |uri: &str| Request::get(uri).header("host", "localhost");
        let response = match &mut self.connection {
            Connection::Http1(sender) => {
                sender.ready().await?;
                sender
                    .send_request(request("/").body(Empty::new())?)
                    .await?
            }
            Connection::Http2(sender) => {
                let request = Request::get("https://localhost/").body(Empty::new())?;
                sender.send_request(request).await?
            }
        };
        Ok(response.into_body().collect().await?.to_bytes().len())
    }
}

/// Drives the bare server.
pub async fn call(options: &ClientOptions) -> Result<Outcome, BoxError> {
    let connector = TlsConnector::from(Arc::new(client_config(options.cell.protocol)?));
    let mut shared = Vec::new();
    if options.cell.protocol == Protocol::Http2 {
        for address in &options.addresses {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = connector.connect(name()?, stream).await?;
            let (sender, driver) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(driver);
            shared.push(sender);
        }
    }
    let mut callers = Vec::new();
    for index in 0..options.cell.in_flight {
        let connection = if shared.is_empty() {
            let address = options.addresses[index % options.addresses.len()];
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = connector.connect(name()?, stream).await?;
            let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(driver);
            Connection::Http1(sender)
        } else {
            Connection::Http2(shared[index % shared.len()].clone())
        };
        callers.push(Caller { connection });
    }
    load::run(callers, options.limit(), options.server).await
}

fn name() -> Result<ServerName<'static>, BoxError> {
    Ok(ServerName::try_from("localhost")?)
}
