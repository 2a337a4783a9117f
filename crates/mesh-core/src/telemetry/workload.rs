//! Whose series these are.

use metrics::Label;

/// Whose series these are: labels on each of the mesh's, never on the application's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Label `namespace`.
    pub namespace: String,
    /// The workload's name, label `deployment`.
    pub deployment: String,
    /// The instance's name, label `pod`.
    pub pod: String,
}

impl Workload {
    /// The three labels.
    #[must_use]
    pub fn labels(&self) -> Vec<Label> {
        vec![
            Label::new("namespace", self.namespace.clone()),
            Label::new("deployment", self.deployment.clone()),
            Label::new("pod", self.pod.clone()),
        ]
    }
}
