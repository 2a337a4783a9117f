//! Many objects at once, in one commit or not at all.

use mesh_policy::manifest::{Manifest, Parsed, Problem, Problems, Skipped};

use super::metadata::{self, Birth};
use super::{ATTEMPTS, Mode, ObjectError, ObjectName, Objects, Precondition, put};
use crate::admission;
use crate::store::{CommitError, Expect, Write};
use crate::wire::{Action, Applied, AppliedObject};

/// Why nothing of a file was applied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApplyError {
    /// The file has problems: all of them are told.
    #[error(transparent)]
    Invalid(#[from] Problems),
    /// An object could not be read or written.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl Objects {
    /// Reads, checks and applies the YAML of many objects: all of it under one revision, or nothing.
    ///
    /// The warnings are told as `line:column: field: message`, and what was skipped after them.
    ///
    /// # Errors
    ///
    /// [`ApplyError::Invalid`] with every problem of the file; those of [`Objects::apply`].
    pub async fn apply_yaml(&self, yaml: &str, mode: Mode) -> Result<Applied, ApplyError> {
        let parsed = admission::file("", yaml, self.domain())?;
        Ok(self.apply_file(parsed, mode).await?)
    }

    /// Applies what was read of a file, as [`Objects::apply_yaml`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Objects::apply`].
    pub async fn apply_file(&self, parsed: Parsed, mode: Mode) -> Result<Applied, ObjectError> {
        let mut applied = self.apply(&parsed.manifests, mode).await?;
        let warned = |warning: Problem| {
            let file = None;
            Problem { file, ..warning }.to_string()
        };
        applied.warnings = parsed.warnings.into_iter().map(warned).collect();
        if !parsed.skipped.is_empty() {
            let list = Skipped::list(&parsed.skipped);
            applied
                .warnings
                .push(format!("skipped, since their kinds are not served: {list}"));
        }
        Ok(applied)
    }

    /// Creates or replaces all of `manifests` under one revision.
    ///
    /// Objects that are stored just so are not written again. The names must differ, as
    /// [`crate::admission`] sees to. Where others change the same objects meanwhile, all of
    /// it is decided anew, a bounded number of times.
    ///
    /// # Errors
    ///
    /// [`ObjectError::Conflict`] where a manifest carries a stale `resourceVersion` or `uid`, or
    /// others would not stop; [`ObjectError::TooLarge`]; [`ObjectError::Unavailable`].
    pub async fn apply(&self, manifests: &[Manifest], mode: Mode) -> Result<Applied, ObjectError> {
        let mut attempt = 1;
        loop {
            let (results, writes) = self.decide(manifests).await?;
            let committed = match mode {
                Mode::Write => self.store.commit_for_admin(writes).await,
                Mode::DryRun => Ok(*self.store.watch().borrow()),
            };
            match committed {
                Ok(revision) => {
                    return Ok(Applied {
                        revision,
                        results,
                        warnings: Vec::new(),
                        ineffective: Vec::new(),
                    });
                }
                Err(CommitError::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                Err(CommitError::Conflict(conflict)) => {
                    let mut names = manifests.iter().map(ObjectName::of);
                    let contested = names.find(|name| name.key() == conflict.key);
                    return Err(contested
                        .map_or_else(|| ObjectError::Refused(conflict.into()), ObjectError::busy));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What has to be written for the store to say what `manifests` say.
    async fn decide(
        &self,
        manifests: &[Manifest],
    ) -> Result<(Vec<AppliedObject>, Vec<Write>), ObjectError> {
        let mut results = Vec::with_capacity(manifests.len());
        let mut writes = Vec::new();
        for manifest in manifests {
            let (action, write) = self.decide_one(manifest).await?;
            writes.extend(write);
            results.push(AppliedObject {
                kind: manifest.meta.kind.kind().to_owned(),
                namespace: manifest.meta.namespace.to_string(),
                name: manifest.meta.name.clone(),
                action,
            });
        }
        Ok((results, writes))
    }

    async fn decide_one(
        &self,
        manifest: &Manifest,
    ) -> Result<(Action, Option<Write>), ObjectError> {
        let Manifest { meta, raw, .. } = manifest;
        let name = ObjectName::of(manifest);
        let precondition = Precondition::of(manifest);
        let Some(stored) = self.find(&name).await? else {
            if precondition != Precondition::default() {
                let why = "it carries a resourceVersion or uid but does not exist any more: remove \
                           both fields to create it anew";
                return Err(ObjectError::Conflict {
                    name,
                    why: why.to_owned(),
                });
            }
            let json = metadata::created(raw, meta, &Birth::now());
            let write = put(&name, &json)?.expecting(Expect::Absent);
            return Ok((Action::Created, Some(write)));
        };
        precondition.check(&name, &stored)?;
        match metadata::revised(&stored.json, raw, meta) {
            None => Ok((Action::Unchanged, None)),
            Some(json) => {
                let expect = Expect::Revision(stored.revision);
                let write = put(&name, &json)?.expecting(expect);
                Ok((Action::Configured, Some(write)))
            }
        }
    }
}
