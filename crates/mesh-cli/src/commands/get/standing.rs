//! Whether an object has the effect that it asks for, by the conditions of its status.

use serde_json::Value;

/// The conditions that speak against an object, such as `Accepted=False (NoMatchingParent)`;
/// empty where none does.
pub(super) fn problems(object: &Value) -> String {
    let status = &object["status"];
    let parents = status["parents"].as_array().into_iter().flatten();
    let of_parents = parents.flat_map(conditions);
    let mut told: Vec<String> = Vec::new();
    for condition in conditions(status).chain(of_parents) {
        let text = |field: &str| condition[field].as_str().unwrap_or_default();
        // The one condition whose presence is the bad news.
        let good = if text("type") == "Conflicted" {
            "False"
        } else {
            "True"
        };
        if text("status") == good {
            continue;
        }
        let problem = format!("{}={} ({})", text("type"), text("status"), text("reason"));
        if !told.contains(&problem) {
            told.push(problem);
        }
    }
    told.join(", ")
}

fn conditions(holder: &Value) -> impl Iterator<Item = &Value> {
    holder["conditions"].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_speaks_against_an_object_is_told_once() {
        let condition =
            |about: &str, status: &str| json!({"type": about, "status": status, "reason": "Why"});
        let good = json!({"status": {"conditions": [condition("Accepted", "True"), condition("Conflicted", "False")]}});
        assert_eq!(problems(&good), "");
        assert_eq!(problems(&json!({})), "");
        let bad = json!({"status": {"conditions": [condition("Conflicted", "True")], "parents": [
            {"conditions": [condition("Accepted", "False"), condition("ResolvedRefs", "True")]},
            {"conditions": [condition("Accepted", "False")]},
        ]}});
        assert_eq!(
            problems(&bad),
            "Conflicted=True (Why), Accepted=False (Why)"
        );
    }
}
