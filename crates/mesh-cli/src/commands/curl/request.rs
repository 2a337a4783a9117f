//! One request, and all that is learnt from it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Limited};
use mesh_core::outbound::{Decided, Trace};
use mesh_core::{Body, BoxError, Client};
use tokio::time::Instant;

/// The largest answer that is shown.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;
/// The header in which the mesh says why it answered by itself.
const MESH_ERROR: &str = "x-mesh-error";
/// The header in which it says who denied the request.
const DENIED_BY: &str = "x-mesh-denied-by";

/// What every request of a run is made from.
#[derive(Clone, Debug)]
pub(super) struct Form {
    pub(super) method: Method,
    pub(super) url: Uri,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Option<String>,
}

/// An answer, and what was decided on the way to it.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) version: Version,
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// Why the body is not whole.
    pub(super) broken: Option<String>,
    pub(super) decided: Decided,
    /// From the call to the end of the body.
    pub(super) latency: Duration,
}

impl Sample {
    /// Whether the answer is no.
    pub(super) fn failed(&self) -> bool {
        self.status.as_u16() >= 400 || self.broken.is_some()
    }

    /// Why the mesh answered by itself.
    pub(super) fn reason(&self) -> Option<&str> {
        self.headers.get(MESH_ERROR)?.to_str().ok()
    }

    /// Which `Server` denied the request, and why, as the mesh says.
    pub(super) fn denied_by(&self) -> Option<(&str, &str)> {
        if self.reason() != Some("denied") {
            return None;
        }
        let said = self.headers.get(DENIED_BY)?.to_str().ok()?;
        said.split_once("; reason=")
    }
}

/// Sends one request and reads the whole answer.
pub(super) async fn send(client: &Client, form: &Form) -> Sample {
    read(client, form, Keep::Whole).await
}

/// Sends one request and lets its answer go by, however long it is.
pub(super) async fn count(client: &Client, form: &Form) -> Sample {
    read(client, form, Keep::Nothing).await
}

/// What is kept of a body.
#[derive(Clone, Copy)]
enum Keep {
    Whole,
    Nothing,
}

async fn read(client: &Client, form: &Form, keep: Keep) -> Sample {
    let trace = Trace::default();
    let started = Instant::now();
    let Ok(response) = client.send(form.request(&trace)).await;
    let (head, body) = response.into_parts();
    let read = match keep {
        Keep::Whole => collect(body).await,
        Keep::Nothing => discard(body).await,
    };
    let (body, broken) = match read {
        Ok(body) => (body, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    Sample {
        version: head.version,
        status: head.status,
        headers: head.headers,
        body,
        broken,
        decided: trace.decided(),
        latency: started.elapsed(),
    }
}

async fn collect(body: Body) -> Result<Vec<u8>, BoxError> {
    let body = Limited::new(body, MAX_BODY_BYTES).collect().await?;
    Ok(body.to_bytes().to_vec())
}

async fn discard(mut body: Body) -> Result<Vec<u8>, BoxError> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(Vec::new())
}

impl Form {
    fn request(&self, trace: &Trace) -> Request<Body> {
        let body = self.body.clone().map_or_else(Body::empty, Body::from);
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.clone();
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        request.extensions_mut().insert(trace.clone());
        request
    }
}
