//! Why discovery did not do what an administrator asked, told apart by what to do next.

use std::error::Error;
use std::fmt;

use super::kubeconfig::InvalidKubeconfig;
use crate::wire::ApplyProblem;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The credentials cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] InvalidKubeconfig),
    /// The credentials are readable and still no credentials.
    #[error("the credentials cannot be used: take the admin.kubeconfig that discovery wrote")]
    Credentials(#[source] Box<dyn Error + Send + Sync>),
    /// The address is none.
    #[error("{server:?} is no address of discovery: write https://host:port")]
    Address {
        /// The address.
        server: String,
    },
    /// Discovery did not answer, or what answered is not discovery.
    #[error("discovery at {server} cannot be reached: {why}")]
    Unreachable {
        /// The address.
        server: String,
        /// The innermost cause, as text.
        why: String,
        /// The cause.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// Discovery is there and cannot do it now, such as when its store takes no writes.
    #[error("discovery at {server} cannot do this now: {message}")]
    Failed {
        /// The address.
        server: String,
        /// What discovery said.
        message: String,
    },
    /// The caller may not do this.
    #[error("not permitted: {message}")]
    NotPermitted {
        /// What discovery said.
        message: String,
    },
    /// What was sent is wrong; nothing was changed.
    #[error("{message}{}", Lines(.file, .problems))]
    Refused {
        /// What discovery said.
        message: String,
        /// How the caller named the file; empty if there was none.
        file: String,
        /// All that is wrong with it.
        problems: Vec<ApplyProblem>,
    },
    /// There is no such thing.
    #[error("{message}")]
    NotFound {
        /// What discovery said.
        message: String,
    },
    /// Somebody else has changed it, or it exists.
    #[error("{message}")]
    Conflict {
        /// What discovery said.
        message: String,
    },
}

impl ClientError {
    /// The exit code of a command that ends with this, after `sysexits.h`: 1 for a plain no,
    /// 65 for bad input, 69 for no discovery or one that cannot do it now, 77 for no permission, 78 for bad configuration.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::NotFound { .. } | Self::Conflict { .. } => 1,
            Self::Refused { .. } => 65,
            Self::Unreachable { .. } | Self::Failed { .. } => 69,
            Self::NotPermitted { .. } => 77,
            Self::Kubeconfig(_) | Self::Credentials(_) | Self::Address { .. } => 78,
        }
    }
}

/// `file:line:col: field: message`, each on a line of its own.
struct Lines<'a>(&'a str, &'a [ApplyProblem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(file, problems) = self;
        for problem in *problems {
            f.write_str("\n")?;
            if !file.is_empty() {
                write!(f, "{file}:")?;
            }
            for place in [problem.line, problem.column].into_iter().flatten() {
                write!(f, "{place}:")?;
            }
            if !problem.field.is_empty() {
                write!(f, " {}:", problem.field)?;
            }
            write!(f, " {}", problem.message)?;
        }
        Ok(())
    }
}

/// The cause of all causes.
pub(super) fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    loop {
        // An `io::Error` hides what it wraps from `source`.
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .map(|inner| -> &(dyn Error + 'static) { inner });
        match wrapped.or_else(|| error.source()) {
            Some(inner) => error = inner,
            None => return error,
        }
    }
}

/// What a failed answer says, whether it is a `Status`, a refusal of `/v1` or neither.
#[derive(Default)]
pub(super) struct Said {
    pub(super) message: String,
    pub(super) problems: Vec<ApplyProblem>,
    /// Whether it has a form of discovery's own, and not that of something in between.
    pub(super) by_discovery: bool,
}

impl Said {
    pub(super) fn read(body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Wire {
            message: String,
            #[serde(default)]
            problems: Vec<ApplyProblem>,
        }
        match serde_json::from_slice(body) {
            Ok(Wire { message, problems }) => Self {
                message,
                problems,
                by_discovery: true,
            },
            Err(_) => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_policy::plan::enrol::Refusal;

    use super::*;

    #[test]
    fn problems_are_told_where_they_are() {
        let error = ClientError::Refused {
            message: "nothing was applied".into(),
            file: "mesh.yaml".into(),
            problems: vec![
                ApplyProblem {
                    line: Some(3),
                    column: Some(7),
                    field: "spec.port".into(),
                    message: "70000 is no port".into(),
                },
                ApplyProblem {
                    line: None,
                    column: None,
                    field: String::new(),
                    message: "the file holds no object".into(),
                },
            ],
        };
        let expected = "nothing was applied\n\
                        mesh.yaml:3:7: spec.port: 70000 is no port\n\
                        mesh.yaml: the file holds no object";
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.exit_code(), 65);
    }

    #[test]
    fn every_form_of_a_refusal_is_read() {
        let status = br#"{"kind":"Status","message":"no such thing","code":404}"#;
        assert_eq!(Said::read(status).message, "no such thing");
        let refusal = Refusal {
            error: "x".into(),
            message: "said".into(),
        };
        let refusal = serde_json::to_vec(&refusal).unwrap();
        assert_eq!(Said::read(&refusal).message, "said");
        assert_eq!(Said::read(b"<html>").message, "");
    }
}
