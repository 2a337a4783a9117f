//! What a rule changes of requests and responses, and where it sends callers instead.
//!
//! Filters change what an application wrote, never what the mesh relies on: the
//! headers that carry identity, deadlines and framing are refused where a filter
//! is written and again where a plan is read. Set, add and remove are done in
//! that order, as in the Gateway API's own implementations; the order in which
//! filters of different kinds stand means nothing.

mod redirect;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::plan::outbound::{FilterPlan, HeaderEditPlan, HeaderValuePlan};
pub use redirect::{Redirect, Target};
pub(crate) use redirect::{is_host, is_path};

/// What is done on a request's way, compiled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    /// Changes of the request's headers, in their order.
    pub request: Vec<HeaderEdit>,
    /// Changes of the response's headers, in their order.
    pub response: Vec<HeaderEdit>,
    /// Where the caller is sent instead.
    pub redirect: Option<Redirect>,
}

impl Filters {
    /// Compiles the filters of a rule or a backend.
    ///
    /// # Errors
    ///
    /// [`InvalidFilter`] for a header that no filter may touch, and for what HTTP cannot carry.
    pub fn compile(plans: &[FilterPlan]) -> Result<Self, InvalidFilter> {
        let mut filters = Self::default();
        for plan in plans {
            match plan {
                FilterPlan::RequestHeaders(edit) => filters.request.push(HeaderEdit::new(edit)?),
                FilterPlan::ResponseHeaders(edit) => filters.response.push(HeaderEdit::new(edit)?),
                FilterPlan::Redirect(plan) => filters.redirect = Some(Redirect::new(plan)?),
            }
        }
        Ok(filters)
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.request.is_empty() && self.response.is_empty() && self.redirect.is_none()
    }
}

/// How headers are changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEdit {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl HeaderEdit {
    fn new(plan: &HeaderEditPlan) -> Result<Self, InvalidFilter> {
        let pairs = |pairs: &[HeaderValuePlan]| -> Result<Vec<_>, InvalidFilter> {
            pairs
                .iter()
                .map(|pair| Ok((name(&pair.name)?, value(&pair.value)?)))
                .collect()
        };
        Ok(Self {
            set: pairs(&plan.set)?,
            add: pairs(&plan.add)?,
            remove: plan
                .remove
                .iter()
                .map(|one| name(one))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Changes the headers of a request or a response.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

/// Headers that no filter may touch: where a message goes, how it is framed, and what the
/// mesh says of it.
const RESERVED: [&str; 13] = [
    "connection",
    "content-length",
    "grpc-timeout",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];
const RESERVED_PREFIXES: [&str; 2] = ["x-mesh-", "l5d-"];

/// Reads the name of a header that a filter may touch.
///
/// # Errors
///
/// [`InvalidFilter`] for what is no name, and for the names that are the mesh's or HTTP's own.
pub fn name(text: &str) -> Result<HeaderName, InvalidFilter> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| InvalidFilter::new("header name", text))?;
    let spelled = name.as_str();
    let reserved = RESERVED.contains(&spelled)
        || RESERVED_PREFIXES
            .iter()
            .any(|prefix| spelled.starts_with(prefix));
    if reserved {
        let name = spelled.to_owned();
        return Err(InvalidFilter::Reserved { name });
    }
    Ok(name)
}

/// Reads the value of a header: visible characters with single spaces or tabs inside.
///
/// # Errors
///
/// [`InvalidFilter`] for what HTTP cannot carry.
pub fn value(text: &str) -> Result<HeaderValue, InvalidFilter> {
    let plain = text.trim() == text;
    let value = HeaderValue::from_str(text).ok().filter(|_| plain);
    value.ok_or_else(|| InvalidFilter::new("header value", text))
}

/// A filter that cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// The header is the mesh's or HTTP's own.
    #[error("{name} is a header that carries the message itself or the mesh's word; leave it out")]
    Reserved {
        /// The header.
        name: String,
    },
    /// HTTP cannot carry it.
    #[error("{value:?} is no {what} that HTTP can carry")]
    Unusable {
        /// What it should be.
        what: &'static str,
        /// As it is written.
        value: String,
    },
}

impl InvalidFilter {
    fn new(what: &'static str, value: &str) -> Self {
        let value = value.chars().take(80).collect();
        Self::Unusable { what, value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(text: &str) -> HeaderValuePlan {
        let (name, value) = text.split_once(": ").unwrap();
        HeaderValuePlan {
            name: name.into(),
            value: value.into(),
        }
    }

    fn edit(set: &[&str], add: &[&str], remove: &[&str]) -> HeaderEditPlan {
        HeaderEditPlan {
            set: set.iter().copied().map(pair).collect(),
            add: add.iter().copied().map(pair).collect(),
            remove: remove.iter().copied().map(Into::into).collect(),
        }
    }

    fn changed(headers: &[&str], edit: &HeaderEditPlan) -> Vec<String> {
        let filter = FilterPlan::RequestHeaders(edit.clone());
        let filters = Filters::compile(&[filter]).unwrap();
        let mut map = HeaderMap::new();
        for header in headers {
            let header = pair(header);
            map.append(name(&header.name).unwrap(), header.value.parse().unwrap());
        }
        filters.request[0].apply(&mut map);
        let text = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut headers: Vec<_> = map.iter().map(text).collect();
        headers.sort();
        headers
    }

    #[test]
    fn headers_are_set_then_added_to_then_removed() {
        let before = ["a: 1", "a: 2", "b: 1", "c: 1"];
        assert_eq!(
            changed(
                &before,
                &edit(&["A: 3", "d: 1"], &["b: 2"], &["C", "absent"])
            ),
            ["a: 3", "b: 1", "b: 2", "d: 1"]
        );
        let all = edit(&["a: 1"], &["a: 2"], &["a"]);
        assert_eq!(changed(&[], &all), [""; 0], "removed at last");
        assert_eq!(
            changed(&before, &edit(&["a: "], &[], &["b"])),
            ["a: ", "c: 1"]
        );
    }

    #[test]
    fn headers_of_the_mesh_and_of_http_are_left_alone() {
        for header in [
            "X-Mesh-Client-Id",
            "x-mesh-",
            "l5d-client-id",
            "HOST",
            "TE",
            "transfer-encoding",
            "grpc-timeout",
        ] {
            assert!(
                matches!(name(header), Err(InvalidFilter::Reserved { .. })),
                "{header}"
            );
            for edit in [
                edit(&[&format!("{header}: 1")], &[], &[]),
                edit(&[], &[&format!("{header}: 1")], &[]),
                edit(&[], &[], &[header]),
            ] {
                assert!(Filters::compile(&[FilterPlan::ResponseHeaders(edit)]).is_err());
            }
        }
        for header in ["", "a b", ":path", "é"] {
            assert!(
                matches!(name(header), Err(InvalidFilter::Unusable { .. })),
                "{header}"
            );
        }
        assert!(name("x-meshed").is_ok());
        for text in [" a", "a ", "a\r\nb: c", "\u{0}"] {
            assert!(value(text).is_err(), "{text:?}");
        }
    }
}
