//! What a rule or a backend does to requests and responses.

mod unsupported;

use super::super::fields::{At, Fields, cut, each, repeated};
use crate::filter::{self, InvalidFilter, Redirect};
use crate::plan::outbound::{
    FilterPlan, HeaderEditPlan, HeaderValuePlan, MatchPlan, PathEditPlan, PathPlan, RedirectPlan,
};

/// Gateway API's limits.
const MOST_FILTERS: usize = 16;
const MOST_HEADERS: usize = 16;
const MOST_VALUE_BYTES: usize = 4_096;

const DEFAULT_STATUS: u16 = 302;

/// The filters of a rule or a backend.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Filters {
    /// Those that this version has.
    pub(super) plans: Vec<FilterPlan>,
    /// The type of one that it does not have, and that must not be skipped.
    pub(super) unsupported: Option<&'static str>,
}

impl Filters {
    pub(super) fn redirects(&self) -> bool {
        let mut plans = self.plans.iter();
        plans.any(|plan| matches!(plan, FilterPlan::Redirect(_)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    RequestHeaders,
    ResponseHeaders,
    Redirect,
    Rewrite,
    Cors,
    ExternalAuth,
    Mirror,
    Extension,
}

impl Kind {
    const ALL: [(&'static str, Self); 8] = [
        ("RequestHeaderModifier", Self::RequestHeaders),
        ("ResponseHeaderModifier", Self::ResponseHeaders),
        ("RequestRedirect", Self::Redirect),
        ("URLRewrite", Self::Rewrite),
        ("CORS", Self::Cors),
        ("ExternalAuth", Self::ExternalAuth),
        ("RequestMirror", Self::Mirror),
        ("ExtensionRef", Self::Extension),
    ];

    fn name(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, kind)| *kind == self);
        found.expect("every kind has a name").0
    }

    /// Mirrors and extensions may be there several times.
    const fn may_repeat(self) -> bool {
        matches!(self, Self::Mirror | Self::Extension)
    }
}

/// One filter as far as this version has it.
enum Read {
    Plan(FilterPlan),
    Unsupported(&'static str),
    WithoutEffect,
}

/// Where filters stand.
#[derive(Clone, Copy)]
pub(in super::super) enum Place<'a> {
    /// On a rule that is selected by these; `None` for them where they could not be read.
    Rule(Option<&'a [MatchPlan]>),
    /// On a backend, which a redirected request never reaches.
    Backend,
}

pub(in super::super) fn read(at: &At<'_>, place: Place<'_>) -> Option<Filters> {
    let items = at.list(MOST_FILTERS)?;
    let read = each(&items, |at| one(at, place))?;
    let kinds = || read.iter().map(|(kind, _)| *kind);
    let once = kinds().enumerate();
    let once = once.map(|(index, kind)| (kind, if kind.may_repeat() { index } else { 0 }));
    if let Some(index) = repeated(once) {
        return items[index].refuse("is of the same type as another", "write both as one");
    }
    if kinds().any(|kind| kind == Kind::Redirect)
        && let Some(index) = kinds().position(|kind| kind == Kind::Rewrite)
    {
        return items[index].refuse(
            "stands beside a redirect, which sends nothing on",
            "leave one of them out",
        );
    }
    let mut filters = Filters::default();
    for ((_, read), at) in read.into_iter().zip(&items) {
        match read {
            Read::Plan(plan) => filters.plans.push(plan),
            Read::Unsupported(name) => {
                at.warn(
                    format!(
                        "is a {name}, which this version does not have here: REQUESTS THAT MEET THIS FILTER ARE ANSWERED 500"
                    ),
                    "leave the filter out",
                );
                filters.unsupported = Some(name);
            }
            Read::WithoutEffect => at.warn(
                "has no effect in this version: no request is sent twice",
                "leave the filter out",
            ),
        }
    }
    Some(filters)
}

fn one(at: &At<'_>, place: Place<'_>) -> Option<(Kind, Read)> {
    let mut fields = at.fields();
    let kind = fields.need("type", "write the type, such as RequestHeaderModifier")?;
    let kind = kind.one_of(&Kind::ALL)?;
    let edit = |fields: &mut Fields<'_>, name| {
        let at = fields.need(name, "write what it changes")?;
        headers(&at)
    };
    let matches = match place {
        Place::Rule(matches) => matches,
        Place::Backend => Some(&[][..]),
    };
    let read = match kind {
        Kind::RequestHeaders => edit(&mut fields, "requestHeaderModifier")
            .map(|edit| Read::Plan(FilterPlan::RequestHeaders(edit))),
        Kind::ResponseHeaders => edit(&mut fields, "responseHeaderModifier")
            .map(|edit| Read::Plan(FilterPlan::ResponseHeaders(edit))),
        Kind::Redirect => redirect(&mut fields, matches).map(|plan| match place {
            Place::Rule(_) => Read::Plan(FilterPlan::Redirect(plan)),
            Place::Backend => Read::Unsupported(kind.name()),
        }),
        Kind::Mirror => unsupported::mirror(&mut fields).map(|()| Read::WithoutEffect),
        Kind::Rewrite | Kind::Cors | Kind::ExternalAuth | Kind::Extension => {
            let read = match kind {
                Kind::Rewrite => unsupported::rewrite(&mut fields, matches),
                Kind::Cors => unsupported::cors(&mut fields),
                Kind::ExternalAuth => unsupported::external_auth(&mut fields),
                _ => unsupported::extension(&mut fields),
            };
            read.map(|()| Read::Unsupported(kind.name()))
        }
    };
    fields.finish();
    Some((kind, read?))
}

fn headers(at: &At<'_>) -> Option<HeaderEditPlan> {
    let mut fields = at.fields();
    let set = fields.items("set", MOST_HEADERS);
    let add = fields.items("add", MOST_HEADERS);
    let remove = fields.items("remove", MOST_HEADERS);
    fields.finish();
    let (set, add) = (pairs(&set), pairs(&add));
    let remove = once(&remove, each(&remove, |at| Some((at.text()?, name(at)?)))?);
    let edit = HeaderEditPlan {
        set: set?,
        add: add?,
        remove: remove?.into_iter().flatten().collect(),
    };
    if edit == HeaderEditPlan::default() {
        at.warn("changes nothing", "write set, add or remove");
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
        let (name, value) = (name(&name_at), header_value(&value));
        let (name, value) = (name?, value?);
        Some((
            name_at.text()?,
            name.map(|name| HeaderValuePlan { name, value }),
        ))
    })?;
    let pairs = once(items, pairs)?;
    Some(pairs.into_iter().flatten().collect())
}

/// The value that a header has once spaces around it are gone, as HTTP takes them off.
fn header_value(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    let trimmed = text.trim_matches([' ', '\t']);
    if trimmed.is_empty() || text.len() > MOST_VALUE_BYTES || filter::value(trimmed).is_err() {
        return at.refuse(
            "is a value that no header has",
            "write 1 to 4096 visible characters",
        );
    }
    if trimmed != text {
        at.warn(
            "has spaces around it, which no header has",
            "leave them out",
        );
    }
    Some(trimmed.to_owned())
}

/// One value for each header: the first counts, as Gateway API says, and its schema refuses
/// a list that spells one name twice.
fn once<T: Named>(items: &[At<'_>], values: Vec<(&str, Option<T>)>) -> Option<Vec<Option<T>>> {
    if let Some(index) = repeated(values.iter().map(|(spelled, _)| *spelled)) {
        return items[index].refuse("names the same header again", "write it once");
    }
    let mut seen = Vec::<String>::new();
    let mut kept = Vec::new();
    for ((_, value), at) in values.into_iter().zip(items) {
        if let Some(name) = value.as_ref().map(Named::name) {
            if seen.iter().any(|known| known == name) {
                at.warn(
                    "is ignored: it names the same header again, and the first counts",
                    "write it once",
                );
                continue;
            }
            seen.push(name.to_owned());
        }
        kept.push(value);
    }
    Some(kept)
}

/// A change of one header.
trait Named {
    fn name(&self) -> &str;
}

impl Named for String {
    fn name(&self) -> &str {
        self
    }
}

impl Named for HeaderValuePlan {
    fn name(&self) -> &str {
        &self.name
    }
}

/// The header's name; the inner `None` is one that no filter touches.
#[expect(
    clippy::option_option,
    reason = "the outer one is whether it could be read"
)]
fn name(at: &At<'_>) -> Option<Option<String>> {
    match filter::name(at.text()?) {
        Ok(name) => Some(Some(name.as_str().to_owned())),
        Err(InvalidFilter::Reserved { name }) => {
            at.warn(
                format!(
                    "has no effect: {name} is a header that carries the message itself or the mesh's word"
                ),
                "leave it out",
            );
            Some(None)
        }
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
    if whole {
        return absolute(&value).map(PathEditPlan::Full);
    }
    // Nothing in place of a prefix is "/" there: both leave what stands behind it.
    let to = match value.text()? {
        "" => "/".to_owned(),
        _ => absolute(&value)?,
    };
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
