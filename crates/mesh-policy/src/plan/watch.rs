//! The one stream between a process and discovery: `POST /v1/watch`.
//!
//! Every event is one line of JSON and carries the cursor it leads to. A reader
//! that comes back with its cursor gets what has changed since, from any
//! replica, or a whole picture if that is no longer known.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::endpoint::EndpointDelta;
use super::inbound::InboundPlan;
use super::outbound::ServicePlan;
use super::part::Part;
use crate::name::{ServiceAddress, ServiceName, ServicePort};

/// Where in the store's history something stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Which store; another one means that nothing remembered counts.
    pub store: String,
    /// The store's monotonic version.
    pub revision: u64,
}

/// Opens a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRequest {
    /// [`super::PROTOCOL_VERSION`].
    pub version: u32,
    /// [`super::CAPABILITIES`].
    pub capabilities: BTreeSet<String>,
    /// The library's own version, for the fleet view.
    pub library: String,
    /// The workload's name.
    pub workload: String,
    /// The instance's name.
    pub instance: String,
    /// What pod selectors select.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where the process shows its metrics, as `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// Where the reader stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<Cursor>,
    /// What to tell.
    pub subscriptions: Subscriptions,
}

/// What a watch is about; `PUT /v1/watch/{id}` replaces it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriptions {
    /// Services that the process calls. Each brings the endpoints of all its backends.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub services: BTreeSet<ServiceName>,
    /// What the process serves, spelled as it registers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub inbound: BTreeSet<ServiceAddress>,
    /// Endpoint sets whose delta did not fit: send them whole.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub resend: BTreeSet<ServicePort>,
}

/// One line of a watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Where the reader stands once it has applied this.
    #[serde(flatten)]
    pub cursor: Cursor,
    /// What happened.
    #[serde(flatten)]
    pub change: Change,
}

/// What a line of a watch says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Change {
    /// The first line.
    Welcome {
        /// The name of this watch, for `PUT` and registrations.
        watch: String,
        /// The replica that holds it.
        replica: String,
        /// Discovery's clock, in seconds since the Unix epoch.
        now: u64,
        /// Whether the reader's cursor was unknown: what is not told now is gone.
        reset: bool,
    },
    /// The routes of a service; `None` if discovery does not know the name.
    Service {
        /// The service.
        service: ServiceName,
        /// Its routes.
        plan: Option<ServicePlan>,
    },
    /// The endpoints of a backend.
    Endpoints {
        /// Whose endpoints.
        port: ServicePort,
        /// What changed.
        delta: EndpointDelta,
    },
    /// The policy of what the process serves.
    Inbound {
        /// The subscription this answers.
        serves: ServiceAddress,
        /// The policy; one that is not understood closes the listener.
        plan: Part<InboundPlan>,
    },
    /// Nothing happened for a while, and the connection lives.
    Heartbeat {
        /// Discovery's clock, in seconds since the Unix epoch.
        now: u64,
    },
    /// Something a newer discovery says; older readers pass it over, since
    /// whatever must be understood is marked inside the plans.
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::outbound::PortPlan;

    const EVERY_KIND_OF_EVENT: [&str; 6] = [
        include_str!("../../tests/golden/event-welcome.json"),
        include_str!("../../tests/golden/event-service.json"),
        include_str!("../../tests/golden/event-service-unknown.json"),
        include_str!("../../tests/golden/event-endpoints-whole.json"),
        include_str!("../../tests/golden/event-inbound.json"),
        include_str!("../../tests/golden/event-heartbeat.json"),
    ];

    #[test]
    fn a_field_of_tomorrow_is_passed_over() {
        for document in EVERY_KIND_OF_EVENT {
            let today: Event = serde_json::from_str(document).unwrap();
            let mut json: serde_json::Value = serde_json::from_str(document).unwrap();
            json["tomorrow"] = serde_json::json!({"a": [1]});
            let read: Event = serde_json::from_value(json).unwrap();
            assert_eq!(read, today);
        }
    }

    #[test]
    fn an_event_that_lacks_what_it_needs_is_an_error_and_never_unknown() {
        for json in [
            r#"{"store":"k3v9","revision":42}"#,
            r#"{"store":"k3v9","event":"heartbeat","now":1}"#,
            r#"{"store":"k3v9","revision":42,"event":"heartbeat"}"#,
            r#"{"store":"k3v9","revision":42,"event":"endpoints","port":"api.shop:80"}"#,
            r#"{"store":"k3v9","revision":42,"event":"inbound","serves":"api.shop"}"#,
        ] {
            assert!(serde_json::from_str::<Event>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn z16_a_requirement_of_tomorrow_closes_the_part_that_has_it_and_no_other() {
        let document = include_str!("../../tests/golden/event-service.json");
        let newer = document.replacen("\"route/1\"", "\"route/1\", \"route/9\"", 1);
        let read: Event = serde_json::from_str(&newer).unwrap();
        let Change::Service {
            plan: Some(plan), ..
        } = read.change
        else {
            panic!("the event is no service: {:?}", read.change);
        };
        let understood = |port: &PortPlan| port.routes[0].understood().is_ok();
        let closed: Vec<_> = plan.ports.iter().map(|port| !understood(port)).collect();
        assert_eq!(closed, [true, false]);
    }
}
