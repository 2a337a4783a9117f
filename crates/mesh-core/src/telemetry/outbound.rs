//! The labels of what a process sends.

use std::net::SocketAddr;
use std::sync::Arc;

use mesh_policy::identity::Identity;
use mesh_policy::name::ServicePort;
use mesh_policy::report::traffic::{Direction, FlowKey};
use metrics::Label;

use super::tcp::TransportMetrics;
use super::{Recorder, RequestMetrics, Workload};

/// One endpoint as the metrics name it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The logical destination that the caller named; label `authority`.
    pub authority: ServicePort,
    /// The backend that it serves; labels `dst_service` and `dst_namespace`.
    pub backend: ServicePort,
    /// Its socket.
    pub address: SocketAddr,
    /// Who is expected there; `None` for plaintext.
    pub identity: Option<Identity>,
    /// Its workload; label `dst_deployment`.
    pub workload: String,
    /// Its instance; label `dst_pod`.
    pub instance: String,
    /// Its zone; label `dst_zone`, absent without one.
    pub zone: Option<String>,
}

/// The series of one endpoint.
pub type EndpointMetrics = RequestMetrics;

impl Endpoint {
    /// Registers the endpoint's series.
    #[must_use]
    pub fn register(&self, recorder: &Recorder, workload: &Workload) -> Arc<EndpointMetrics> {
        let flow = FlowKey {
            direction: Direction::Outbound,
            service: self.authority.clone(),
            backend: Some(self.backend.clone()),
            peer: self.identity.clone(),
        };
        Arc::new(RequestMetrics::new(recorder, self.labels(workload)).reported(flow))
    }

    /// Registers the series of its connections, which are the backend's whoever names it.
    #[must_use]
    pub fn register_connections(
        &self,
        recorder: &Recorder,
        workload: &Workload,
    ) -> Arc<TransportMetrics> {
        let mut labels = self.labels(workload);
        labels.push(Label::from_static_parts("peer", "dst"));
        Arc::new(TransportMetrics::new(recorder, labels))
    }

    fn labels(&self, workload: &Workload) -> Vec<Label> {
        let service = &self.authority.service;
        let authority = format!("{service}.svc.cluster.local:{}", self.authority.port);
        let mut labels = workload.labels();
        labels.push(Label::from_static_parts("direction", "outbound"));
        labels.push(Label::new("authority", authority));
        labels.extend(super::inbound::target(self.address));
        match &self.identity {
            Some(identity) => {
                labels.push(Label::from_static_parts("tls", "true"));
                labels.push(Label::new("server_id", identity.to_string()));
            }
            None => {
                labels.push(Label::from_static_parts("tls", "no_identity"));
                labels.push(Label::from_static_parts(
                    "no_tls_reason",
                    "not_provided_by_service_discovery",
                ));
            }
        }
        let backend = &self.backend.service;
        labels.push(Label::new("dst_namespace", backend.namespace.to_string()));
        labels.push(Label::new("dst_service", backend.name.to_string()));
        labels.push(Label::new("dst_pod", self.instance.clone()));
        labels.push(Label::new("dst_deployment", self.workload.clone()));
        if let Some((_, account)) = self.identity.as_ref().and_then(Identity::workload) {
            labels.push(Label::new("dst_serviceaccount", account.to_owned()));
        }
        if let Some(zone) = &self.zone {
            labels.push(Label::new("dst_zone", zone.clone()));
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn an_endpoint_carries_linkerds_labels() {
        let endpoint = Endpoint {
            authority: "api.shop:80".parse().expect("a port"),
            backend: "api-canary.shop:80".parse().expect("a port"),
            address: "10.0.0.7:4000".parse().expect("an address"),
            identity: Some(
                "spiffe://mesh.local/ns/shop/sa/api"
                    .parse()
                    .expect("an identity"),
            ),
            workload: "api-canary".into(),
            instance: "api-canary-1".into(),
            zone: None,
        };
        let workload = Workload {
            namespace: "shop".into(),
            deployment: "web".into(),
            pod: "web-1".into(),
        };
        let recorder = Recorder::new(Metrics::Own).expect("an own recorder is always there");
        endpoint.register(&recorder, &workload).count_request();
        let text = recorder.render();
        let line = r#"request_total{namespace="shop",deployment="web",pod="web-1",direction="outbound",authority="api.shop.svc.cluster.local:80",target_addr="10.0.0.7:4000",target_ip="10.0.0.7",target_port="4000",tls="true",server_id="spiffe://mesh.local/ns/shop/sa/api",dst_namespace="shop",dst_service="api-canary",dst_pod="api-canary-1",dst_deployment="api-canary",dst_serviceaccount="api"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}
