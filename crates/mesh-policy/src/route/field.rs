//! How a header or a query parameter is compared.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::ClosedPort;
use super::pattern::Pattern;
use crate::plan::outbound::{FieldPlan, ValuePlan};

#[derive(Clone, Debug)]
pub(super) struct HeaderMatch {
    name: HeaderName,
    value: ValueMatch,
}

#[derive(Clone, Debug)]
pub(super) struct QueryMatch {
    name: Box<str>,
    value: ValueMatch,
}

#[derive(Clone, Debug)]
enum ValueMatch {
    Exact(Box<[u8]>),
    Pattern(Pattern),
}

impl ValueMatch {
    fn compile(plan: &ValuePlan) -> Result<Self, ClosedPort> {
        Ok(match plan {
            ValuePlan::Exact(exact) => Self::Exact(exact.as_bytes().into()),
            ValuePlan::Regex(pattern) => Self::Pattern(Pattern::new(pattern)?),
        })
    }

    fn fits(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => **exact == *value,
            Self::Pattern(pattern) => pattern.fits(value),
        }
    }
}

impl fmt::Display for ValueMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => write!(f, "is not {:?}", String::from_utf8_lossy(exact)),
            Self::Pattern(pattern) => write!(f, "does not fit the pattern {pattern}"),
        }
    }
}

impl HeaderMatch {
    /// Of several matches on one name the first counts (Gateway API, `HTTPHeaderMatch`).
    pub(super) fn compile_all(plans: &[FieldPlan]) -> Result<Vec<Self>, ClosedPort> {
        let mut headers: Vec<Self> = Vec::with_capacity(plans.len());
        for plan in plans {
            let header = Self::compile(plan)?;
            if headers.iter().all(|known| known.name != header.name) {
                headers.push(header);
            }
        }
        Ok(headers)
    }

    fn compile(plan: &FieldPlan) -> Result<Self, ClosedPort> {
        let name = HeaderName::from_bytes(plan.name.as_bytes())
            .map_err(|_| ClosedPort::unusable("header name", &plan.name))?;
        if let ValuePlan::Exact(exact) = &plan.value
            && HeaderValue::from_bytes(exact.as_bytes()).is_err()
        {
            return Err(ClosedPort::unusable("header value", exact));
        }
        let value = ValueMatch::compile(&plan.value)?;
        Ok(Self { name, value })
    }

    pub(super) const fn name(&self) -> &HeaderName {
        &self.name
    }

    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        headers.contains_key(&self.name)
    }

    /// Repeated headers are one list, joined by commas (RFC 9110, section 5.3).
    pub(super) fn matches(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(&self.name).iter();
        let Some(first) = values.next() else {
            return false;
        };
        match &self.value {
            ValueMatch::Exact(exact) => {
                let mut expected = &**exact;
                let mut eat = |part: &[u8]| {
                    let rest = expected.strip_prefix(part);
                    expected = rest.unwrap_or(expected);
                    rest.is_some()
                };
                let fits = eat(first.as_bytes())
                    && values.all(|value| (eat(b", ") || eat(b",")) && eat(value.as_bytes()));
                fits && expected.is_empty()
            }
            ValueMatch::Pattern(pattern) => {
                let mut list = Cow::Borrowed(first.as_bytes());
                for value in values {
                    let list = list.to_mut();
                    list.push(b',');
                    list.extend_from_slice(value.as_bytes());
                }
                pattern.fits(&list)
            }
        }
    }
}

impl QueryMatch {
    /// Of several matches on one name the first counts (Gateway API, `HTTPQueryParamMatch`).
    pub(super) fn compile_all(plans: &[FieldPlan]) -> Result<Vec<Self>, ClosedPort> {
        let mut query: Vec<Self> = Vec::with_capacity(plans.len());
        for plan in plans {
            if query.iter().all(|known| *known.name != *plan.name) {
                query.push(Self {
                    name: plan.name.as_str().into(),
                    value: ValueMatch::compile(&plan.value)?,
                });
            }
        }
        Ok(query)
    }

    pub(super) const fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_in(&self, query: &str) -> bool {
        form_urlencoded::parse(query.as_bytes()).any(|(name, _)| *name == *self.name)
    }

    /// Names and values are compared decoded, as a form encodes them: `+` is a space, `%41` an
    /// `A`, and what is no UTF-8 becomes U+FFFD. Of a repeated parameter the first counts.
    pub(super) fn matches(&self, query: &str) -> bool {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        let found = pairs.find(|(name, _)| *name == *self.name);
        found.is_some_and(|(_, value)| self.value.fits(value.as_bytes()))
    }
}

impl fmt::Display for HeaderMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.value)
    }
}

impl fmt::Display for QueryMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.value)
    }
}
