//! Which requests a rule selects: path, method, headers and query parameters.

use http::{HeaderName, HeaderValue};

use super::super::fields::{At, Fields, cut, each, repeated};
use crate::path::canonical;
use crate::plan::outbound::{FieldPlan, MatchPlan, PathPlan, ValuePlan};
use crate::route::pattern::Pattern;

/// Gateway API's limits.
const MOST_HEADERS: usize = 16;
const MOST_QUERY: usize = 16;
const MOST_QUERY_VALUE_BYTES: usize = 1_024;
pub(super) const MOST_PATH_BYTES: usize = 1_024;
const MOST_NAME_BYTES: usize = 256;
const MOST_HEADER_VALUE_BYTES: usize = 4_096;

pub(super) fn read(at: &At<'_>) -> Option<MatchPlan> {
    let mut fields = at.fields();
    let path = fields.narrowing("path");
    let method = fields.narrowing("method");
    let headers = headers(&mut fields);
    let query = fields.items("queryParams", MOST_QUERY);
    fields.finish();
    let path = path.map(|at| path_match(&at));
    let method = method.map(|at| method_match(&at));
    let query = parameters(&query);
    Some(MatchPlan {
        path: match path {
            Some(path) => Some(path?),
            None => None,
        },
        method: match method {
            Some(method) => Some(method?),
            None => None,
        },
        headers: headers?,
        query: query?,
    })
}

/// Headers by different names: of those that differ in case alone the first counts, as Gateway
/// API says, and its schema refuses a list that spells one name twice.
pub(in super::super) fn headers(fields: &mut Fields<'_>) -> Option<Vec<FieldPlan>> {
    let items = fields.items("headers", MOST_HEADERS);
    let plans = each(&items, header_match)?;
    let spelled = items.iter().map(|at| at.node.text("name"));
    if let Some(index) = repeated(spelled) {
        return items[index].refuse("names the same header again", "write it once");
    }
    let mut kept: Vec<FieldPlan> = Vec::new();
    for (plan, at) in plans.into_iter().zip(&items) {
        if kept.iter().any(|known| known.name == plan.name) {
            at.warn(
                "is ignored: it names the same header again, and the first counts",
                "write it once",
            );
        } else {
            kept.push(plan);
        }
    }
    Some(kept)
}

/// Parameters by different names, in which case counts.
fn parameters(items: &[At<'_>]) -> Option<Vec<FieldPlan>> {
    let plans = each(items, query_match)?;
    match repeated(plans.iter().map(|plan| &plan.name)) {
        None => Some(plans),
        Some(index) => items[index].refuse("names the same parameter again", "write it once"),
    }
}

fn method_match(at: &At<'_>) -> Option<String> {
    const METHODS: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    at.one_of(&METHODS.map(|method| (method, method)))
        .map(ToOwned::to_owned)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Exact,
    Prefix,
    Pattern,
}

fn comparison(
    fields: &mut Fields<'_>,
    known: &[(&'static str, Comparison)],
    default: Comparison,
) -> Option<Comparison> {
    match fields.take("type") {
        Some(at) => at.one_of(known),
        None => Some(default),
    }
}

fn path_match(at: &At<'_>) -> Option<PathPlan> {
    let mut fields = at.fields();
    let kinds = [
        ("PathPrefix", Comparison::Prefix),
        ("Exact", Comparison::Exact),
        ("RegularExpression", Comparison::Pattern),
    ];
    let comparison = comparison(&mut fields, &kinds, Comparison::Prefix);
    let value = fields.narrowing("value");
    fields.finish();
    let comparison = comparison?;
    if comparison == Comparison::Pattern {
        let Some(value) = value else {
            return at.refuse("has no pattern", "write the value");
        };
        return pattern(&value, MOST_PATH_BYTES).map(PathPlan::Regex);
    }
    let path = match value {
        Some(at) => path_text(&at)?,
        None => "/".to_owned(),
    };
    Some(match comparison {
        Comparison::Exact => PathPlan::Exact(path),
        _ => PathPlan::Prefix(path),
    })
}

/// A pattern that can be used; what it means is decided where it is compiled.
fn pattern(at: &At<'_>, most: usize) -> Option<String> {
    let text = at.text()?;
    if text.is_empty() || text.len() > most {
        return at.refuse(
            format!("has {} bytes", text.len()),
            format!("write a pattern of 1 to {most} bytes"),
        );
    }
    match Pattern::new(text) {
        Ok(_) => Some(text.to_owned()),
        Err(error) => at.refuse(error, "correct it; it is compared with the whole value"),
    }
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
        || !has_path_characters(path);
    if refused {
        return at.refuse(
            format!("{:?} is a path that no request has", cut(path)),
            "write an absolute path of at most 1024 bytes without '//', '.' or '..' segments, query or fragment",
        );
    }
    // Requests are compared in one spelling, and so is what rules say.
    match canonical(path) {
        Ok(same) if same == path => Some(path.to_owned()),
        Ok(spelled) => {
            at.warn(
                format!(
                    "{:?} is compared as {spelled:?}, the spelling that requests have by then",
                    cut(path)
                ),
                format!("write {spelled:?}"),
            );
            Some(spelled.into_owned())
        }
        Err(error) => {
            at.warn(error, "requests with such a path are answered 400");
            Some(path.to_owned())
        }
    }
}

/// Characters that a path has as they are, and `%` before two hexadecimal digits.
fn has_path_characters(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&b);
    let mut parts = path.split('%');
    let encoded = |part: &str| {
        let bytes = part.as_bytes();
        let digits = bytes.get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let first = parts.next().unwrap_or_default();
    first.bytes().all(plain) && parts.all(|part| encoded(part) && part.bytes().all(plain))
}

/// A field's name, where it can be one, its comparison and its value.
fn field<'a>(at: &At<'a>) -> Option<(At<'a>, Comparison, At<'a>)> {
    let mut fields = at.fields();
    let kinds = [
        ("Exact", Comparison::Exact),
        ("RegularExpression", Comparison::Pattern),
    ];
    let comparison = comparison(&mut fields, &kinds, Comparison::Exact);
    let name = fields.need("name", "write the name");
    let value = fields.need("value", "write the value that it must have");
    fields.finish();
    let (name, value) = (name?, value?);
    let spelled = name.text()?;
    // Gateway API's type for both kinds of names.
    if HeaderName::from_bytes(spelled.as_bytes()).is_err() || spelled.len() > MOST_NAME_BYTES {
        return name.refuse(
            "is no name that can be compared",
            "write letters, digits and '-'",
        );
    }
    Some((name, comparison?, value))
}

fn header_match(at: &At<'_>) -> Option<FieldPlan> {
    let (name, comparison, value) = field(at)?;
    let name = name.text()?.to_ascii_lowercase();
    if comparison == Comparison::Pattern {
        let value = pattern(&value, MOST_HEADER_VALUE_BYTES).map(ValuePlan::Regex)?;
        return Some(FieldPlan { name, value });
    }
    let text = value.text()?;
    if HeaderValue::from_str(text).is_err()
        || text.is_empty()
        || text.len() > MOST_HEADER_VALUE_BYTES
    {
        return value.refuse(
            "is a value that no header has",
            "write 1 to 4096 visible characters",
        );
    }
    if text.trim() != text {
        value.warn(
            "has spaces around it, which no header has: nothing is matched",
            "leave them out",
        );
    }
    let value = ValuePlan::Exact(text.to_owned());
    Some(FieldPlan { name, value })
}

fn query_match(at: &At<'_>) -> Option<FieldPlan> {
    let (name, comparison, value) = field(at)?;
    let name = name.text()?.to_owned();
    if comparison == Comparison::Pattern {
        let value = pattern(&value, MOST_QUERY_VALUE_BYTES).map(ValuePlan::Regex)?;
        return Some(FieldPlan { name, value });
    }
    let text = value.text()?;
    if text.is_empty() || text.len() > MOST_QUERY_VALUE_BYTES {
        return value.refuse(
            format!("has {} bytes", text.len()),
            "write 1 to 1024 bytes, not encoded",
        );
    }
    let value = ValuePlan::Exact(text.to_owned());
    Some(FieldPlan { name, value })
}
