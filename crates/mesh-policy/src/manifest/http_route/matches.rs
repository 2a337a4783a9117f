//! Which requests a rule selects: path, method and headers.

use http::{HeaderName, HeaderValue};

use super::super::fields::{At, Fields, cut, each, repeated};
use crate::plan::outbound::{HeaderPlan, MatchPlan, PathPlan};

/// Gateway API's limits.
const MOST_HEADERS: usize = 16;
const MOST_PATH_BYTES: usize = 1_024;
const MOST_HEADER_NAME_BYTES: usize = 256;
const MOST_HEADER_VALUE_BYTES: usize = 4_096;

pub(super) fn read(at: &At<'_>) -> Option<MatchPlan> {
    let mut fields = at.fields();
    let path = fields.narrowing("path");
    let method = fields.narrowing("method");
    let headers = fields.items("headers", MOST_HEADERS);
    if let Some(at) = fields.take("queryParams") {
        at.not_yet_unless_empty("match on path, headers or method");
    }
    fields.finish();
    let path = path.map(|at| path_match(&at));
    let method = method.map(|at| method_match(&at));
    let plans = each(&headers, header_match)?;
    if let Some(index) = repeated(plans.iter().map(|header| &header.name)) {
        return headers[index].refuse(
            "names the same header again, and only one value can be compared",
            "write it once",
        );
    }
    Some(MatchPlan {
        path: match path {
            Some(path) => Some(path?),
            None => None,
        },
        method: match method {
            Some(method) => Some(method?),
            None => None,
        },
        headers: plans,
    })
}

fn method_match(at: &At<'_>) -> Option<String> {
    const METHODS: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    at.one_of(&METHODS.map(|method| (method, method)))
        .map(ToOwned::to_owned)
}

/// How a value is compared; `None` for what this version does not do.
fn comparison(
    fields: &mut Fields<'_>,
    known: &[(&'static str, Option<bool>)],
    remedy: &str,
) -> Option<bool> {
    let Some(at) = fields.take("type") else {
        return Some(false);
    };
    let supported = at.one_of(known)?;
    if supported.is_none() {
        return at.refuse("RegularExpression is not supported in this version", remedy);
    }
    supported
}

fn path_match(at: &At<'_>) -> Option<PathPlan> {
    let mut fields = at.fields();
    let kinds = [
        ("PathPrefix", Some(false)),
        ("Exact", Some(true)),
        ("RegularExpression", None),
    ];
    let exact = comparison(&mut fields, &kinds, "compare with Exact or PathPrefix");
    let value = fields.narrowing("value");
    fields.finish();
    let exact = exact?;
    let path = match value {
        Some(at) => path_text(&at)?,
        None => "/".to_owned(),
    };
    Some(if exact {
        PathPlan::Exact(path)
    } else {
        PathPlan::Prefix(path)
    })
}

/// Gateway API's rules for a path that is compared as it is.
fn path_text(at: &At<'_>) -> Option<String> {
    let path = at.text()?;
    let refused = !path.starts_with('/')
        || ["//", "/./", "/../", "%2f", "%2F", "#", "?"]
            .iter()
            .any(|part| path.contains(part))
        || path.ends_with("/..")
        || path.ends_with("/.")
        || path.len() > MOST_PATH_BYTES
        || path.bytes().any(|b| !(0x21..0x7f).contains(&b));
    if refused {
        return at.refuse(
            format!("{:?} is a path that no request has", cut(path)),
            "write an absolute path of at most 1024 bytes without '//', '.' or '..' segments, query or fragment",
        );
    }
    Some(path.to_owned())
}

fn header_match(at: &At<'_>) -> Option<HeaderPlan> {
    let mut fields = at.fields();
    let kinds = [("Exact", Some(true)), ("RegularExpression", None)];
    let compared = comparison(&mut fields, &kinds, "compare with Exact");
    let name = fields.need("name", "name the header");
    let value = fields.need("value", "write the value that it must have");
    fields.finish();
    compared?;
    let (name, value) = (name?, value?);
    let spelled = name.text()?;
    let header = HeaderName::from_bytes(spelled.as_bytes()).ok();
    let Some(header) = header.filter(|_| spelled.len() <= MOST_HEADER_NAME_BYTES) else {
        return name.refuse("is no name of a header", "write letters, digits and '-'");
    };
    let text = value.text()?;
    // Spaces around a value are no part of it, so that such a one would never be met.
    let met = HeaderValue::from_str(text).is_ok() && text.trim() == text && !text.is_empty();
    if !met || text.len() > MOST_HEADER_VALUE_BYTES {
        return value.refuse(
            "is a value that no header has",
            "write 1 to 4096 visible characters without spaces around them",
        );
    }
    Some(HeaderPlan {
        name: header.as_str().to_owned(),
        exact: text.to_owned(),
    })
}
