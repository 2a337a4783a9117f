//! `mesh version`.

use serde_json::json;

use super::Done;
use crate::args::{Global, Output};
use crate::render;

pub(crate) fn run(global: &Global) -> Done {
    let version = env!("CARGO_PKG_VERSION");
    match global.output {
        Output::Table | Output::Wide => Done::say(format!("mesh {version}\n")),
        Output::Json | Output::Yaml => {
            Done::say(render::value(&json!({"version": version}), global.output))
        }
    }
}
