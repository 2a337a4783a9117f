//! What a rule or a backend does to requests and responses.

use super::super::fields::{At, Fields, cut, each, repeated};
use crate::filter::{self, Redirect};
use crate::plan::outbound::{
    FilterPlan, HeaderEditPlan, HeaderValuePlan, MatchPlan, PathEditPlan, PathPlan, RedirectPlan,
};

/// Gateway API's limits.
const MOST_FILTERS: usize = 16;
const MOST_HEADERS: usize = 16;
const MOST_VALUE_BYTES: usize = 4_096;

const DEFAULT_STATUS: u16 = 302;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    RequestHeaders,
    ResponseHeaders,
    Redirect,
    NotYet,
}

const KINDS: [(&str, Kind); 7] = [
    ("RequestHeaderModifier", Kind::RequestHeaders),
    ("ResponseHeaderModifier", Kind::ResponseHeaders),
    ("RequestRedirect", Kind::Redirect),
    ("RequestMirror", Kind::NotYet),
    ("URLRewrite", Kind::NotYet),
    ("CORS", Kind::NotYet),
    ("ExtensionRef", Kind::NotYet),
];

/// The filters of a rule that is selected by `matches`; `None` for them where they could not be read.
pub(super) fn of_rule(at: &At<'_>, matches: Option<&[MatchPlan]>) -> Option<Vec<FilterPlan>> {
    all(at, |fields| redirect(fields, matches))
}

/// The filters of a backend.
pub(super) fn of_backend(at: &At<'_>) -> Option<Vec<FilterPlan>> {
    all(at, |fields| {
        let at = fields.take("requestRedirect");
        at.and_then(|at| {
            at.refuse(
                "stands on a backend, which a redirected request never reaches",
                "write it on the rule",
            )
        })
    })
}

fn all<'a>(
    at: &At<'a>,
    redirect: impl Fn(&mut Fields<'a>) -> Option<RedirectPlan>,
) -> Option<Vec<FilterPlan>> {
    let items = at.list(MOST_FILTERS)?;
    let filters = each(&items, |at| one(at, &redirect))?;
    let kinds = filters.iter().map(|filter| match filter {
        FilterPlan::RequestHeaders(_) => Kind::RequestHeaders,
        FilterPlan::ResponseHeaders(_) => Kind::ResponseHeaders,
        FilterPlan::Redirect(_) => Kind::Redirect,
    });
    match repeated(kinds) {
        None => Some(filters),
        Some(index) => items[index].refuse("is of the same type as another", "write both as one"),
    }
}

fn one<'a>(
    at: &At<'a>,
    redirect: &impl Fn(&mut Fields<'a>) -> Option<RedirectPlan>,
) -> Option<FilterPlan> {
    let mut fields = at.fields();
    let kind = fields.need("type", "write the type, such as RequestHeaderModifier")?;
    let edit = |fields: &mut Fields<'a>, name| {
        let at = fields.need(name, "write what it changes")?;
        headers(&at)
    };
    let filter = match kind.one_of(&KINDS)? {
        Kind::RequestHeaders => {
            edit(&mut fields, "requestHeaderModifier").map(FilterPlan::RequestHeaders)
        }
        Kind::ResponseHeaders => {
            edit(&mut fields, "responseHeaderModifier").map(FilterPlan::ResponseHeaders)
        }
        Kind::Redirect => redirect(&mut fields).map(FilterPlan::Redirect),
        Kind::NotYet => {
            return kind.refuse("is not supported in this version", "leave the filter out");
        }
    };
    fields.finish();
    filter
}

fn headers(at: &At<'_>) -> Option<HeaderEditPlan> {
    let mut fields = at.fields();
    let set = fields.items("set", MOST_HEADERS);
    let add = fields.items("add", MOST_HEADERS);
    let remove = fields.items("remove", MOST_HEADERS);
    fields.finish();
    let (set, add) = (pairs(&set), pairs(&add));
    let remove = once(&remove, each(&remove, name)?, |name| name.clone());
    let edit = HeaderEditPlan {
        set: set?,
        add: add?,
        remove: remove?,
    };
    if edit == HeaderEditPlan::default() {
        return at.refuse("changes nothing", "write set, add or remove");
    }
    Some(edit)
}

fn pairs(items: &[At<'_>]) -> Option<Vec<HeaderValuePlan>> {
    let pairs = each(items, |at| {
        let mut fields = at.fields();
        let name_at = fields.need("name", "name the header");
        let value = fields.need("value", "write the value");
        fields.finish();
        let (name_at, value) = (name_at?, value?);
        let name = name(&name_at);
        let text = value.text()?;
        let value = match filter::value(text) {
            Ok(_) if !text.is_empty() && text.len() <= MOST_VALUE_BYTES => Some(text.to_owned()),
            _ => value.refuse(
                "is a value that no header has",
                "write 1 to 4096 visible characters without spaces around them",
            ),
        };
        Some(HeaderValuePlan {
            name: name?,
            value: value?,
        })
    })?;
    once(items, pairs, |pair| pair.name.clone())
}

/// Of one header that is there twice nobody knows which is meant.
fn once<T>(items: &[At<'_>], values: Vec<T>, name: fn(&T) -> String) -> Option<Vec<T>> {
    match repeated(values.iter().map(name)) {
        None => Some(values),
        Some(index) => items[index].refuse("names the same header again", "write it once"),
    }
}

fn name(at: &At<'_>) -> Option<String> {
    match filter::name(at.text()?) {
        Ok(name) => Some(name.as_str().to_owned()),
        Err(error) => at.refuse(error, ""),
    }
}

fn redirect(fields: &mut Fields<'_>, matches: Option<&[MatchPlan]>) -> Option<RedirectPlan> {
    let at = fields.need("requestRedirect", "write where callers are sent")?;
    let mut fields = at.fields();
    let scheme = fields.take("scheme").map(|at| {
        let known = [("http", "http"), ("https", "https")];
        at.one_of(&known).map(ToOwned::to_owned)
    });
    let host = fields.take("hostname").map(|at| host(&at));
    let port = fields.take("port").map(|at| at.port());
    let path = fields.take("path").map(|at| path(&at, matches));
    let status = fields.take("statusCode").map(|at| status(&at));
    fields.finish();
    let plan = RedirectPlan {
        scheme: wanted(scheme)?,
        host: wanted(host)?,
        port: wanted(port)?,
        path: wanted(path)?,
        status: wanted(status)?.unwrap_or(DEFAULT_STATUS),
    };
    match Redirect::new(&plan) {
        Ok(_) => Some(plan),
        Err(error) => at.refuse(error, "correct it"),
    }
}

/// What may be absent and must be readable where it is there.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether it could be read"
)]
fn wanted<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(value) => value.map(Some),
        None => Some(None),
    }
}

fn host(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    if filter::is_host(text) {
        return Some(text.to_owned());
    }
    at.refuse(
        format!("{:?} is no host", cut(text)),
        "write lower-case labels with dots between them, without a port",
    )
}

fn status(at: &At<'_>) -> Option<u16> {
    let status = u16::try_from(at.integer(301..=308)?).ok()?;
    if matches!(status, 301..=303 | 307 | 308) {
        return Some(status);
    }
    at.refuse(
        format!("{status} is no redirect that carries an address"),
        "write 301, 302, 303, 307 or 308",
    )
}

fn path(at: &At<'_>, matches: Option<&[MatchPlan]>) -> Option<PathEditPlan> {
    let mut fields = at.fields();
    let kind = fields.need("type", "write ReplaceFullPath or ReplacePrefixMatch");
    let full = fields.take("replaceFullPath");
    let prefix = fields.take("replacePrefixMatch");
    fields.finish();
    let whole = kind?.one_of(&[("ReplaceFullPath", true), ("ReplacePrefixMatch", false)])?;
    let (value, other, name) = if whole {
        (full, prefix, "replaceFullPath")
    } else {
        (prefix, full, "replacePrefixMatch")
    };
    if let Some(other) = other {
        return other.refuse("belongs to the other type", format!("write {name} alone"));
    }
    let Some(value) = value else {
        return at.refuse(format!("has no {name}"), "write it");
    };
    let to = absolute(&value)?;
    if whole {
        return Some(PathEditPlan::Full(to));
    }
    // Gateway API's rule: with several matches nobody could say which start is replaced.
    let from = match matches? {
        [] => Some("/"),
        [only] => match &only.path {
            None => Some("/"),
            Some(PathPlan::Prefix(prefix)) => Some(prefix.as_str()),
            Some(PathPlan::Exact(_) | PathPlan::Regex(_)) => None,
        },
        _ => None,
    };
    let Some(from) = from else {
        return at.refuse(
            "replaces a start that the rule does not name",
            "give the rule one match, on a PathPrefix",
        );
    };
    Some(PathEditPlan::Prefix {
        from: from.to_owned(),
        to,
    })
}

fn absolute(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    if text.len() <= super::matches::MOST_PATH_BYTES && filter::is_path(text) {
        return Some(text.to_owned());
    }
    at.refuse(
        format!("{:?} is no path to send callers to", cut(text)),
        "write an absolute path of at most 1024 bytes without '//', query or fragment",
    )
}
