//! How a path is compared.

use std::cmp::Reverse;
use std::fmt;

use super::ClosedPort;
use super::pattern::Pattern;
use crate::plan::outbound::PathPlan;

#[derive(Clone, Debug)]
pub(super) enum PathMatch {
    Exact(Box<str>),
    Pattern(Pattern),
    /// Without a slash at its end; empty matches everything.
    Prefix(Box<str>),
}

impl PathMatch {
    pub(super) fn compile(plan: Option<&PathPlan>) -> Result<Self, ClosedPort> {
        let (path, make): (_, fn(Box<str>) -> Self) = match plan {
            None => return Ok(Self::Prefix("".into())),
            Some(PathPlan::Regex(pattern)) => return Ok(Self::Pattern(Pattern::new(pattern)?)),
            Some(PathPlan::Exact(path)) => (path.as_str(), Self::Exact),
            Some(PathPlan::Prefix(path)) => (path.as_str(), |path| {
                Self::Prefix(path.trim_end_matches('/').into())
            }),
        };
        if path.starts_with('/') {
            Ok(make(path.into()))
        } else {
            Err(ClosedPort::unusable("path", path))
        }
    }

    /// Smaller sorts first and wins.
    pub(super) const fn precedence(&self) -> (u8, Reverse<usize>) {
        match self {
            Self::Exact(path) => (0, Reverse(path.len())),
            Self::Pattern(_) => (1, Reverse(0)),
            Self::Prefix(path) => (2, Reverse(path.len())),
        }
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *path,
            Self::Pattern(pattern) => pattern.fits(path.as_bytes()),
            // Also what is no path at all: `*` of OPTIONS, and nothing of CONNECT.
            Self::Prefix(prefix) if prefix.is_empty() => true,
            Self::Prefix(prefix) => path
                .strip_prefix(&**prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "is not {path}"),
            Self::Pattern(pattern) => write!(f, "does not fit the pattern {pattern}"),
            Self::Prefix(prefix) => write!(f, "is not under {prefix}/"),
        }
    }
}
