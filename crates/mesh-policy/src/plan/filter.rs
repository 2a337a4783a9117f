//! What is done to requests and responses on their way.

use serde::{Deserialize, Serialize};

/// One thing that is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum FilterPlan {
    /// Changes the headers of the request.
    RequestHeaders(HeaderEditPlan),
    /// Changes the headers of the response.
    ResponseHeaders(HeaderEditPlan),
    /// Answers with another address instead of sending the request on.
    Redirect(RedirectPlan),
}

/// How headers are changed: first set, then added to, then removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderEditPlan {
    /// Headers that have this one value afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderValuePlan>,
    /// Values beside those that are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderValuePlan>,
    /// Headers that are gone afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// A header and a value for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderValuePlan {
    /// Its name, in lower case.
    pub name: String,
    /// The value.
    pub value: String,
}

/// Where a caller is sent instead; what is absent stays as the caller wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedirectPlan {
    /// The scheme, `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The host, without a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path; the query stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathEditPlan>,
    /// The status of the answer: 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// How a path is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PathEditPlan {
    /// This path instead.
    Full(String),
    /// Another start.
    Prefix {
        /// What the path starts with, in whole segments.
        from: String,
        /// What stands there afterwards.
        to: String,
    },
}
