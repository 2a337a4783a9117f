//! Values as JSON, YAML and tables.

use serde_json::Value;

use crate::args::Output;

/// Between two columns, as kubectl has it.
const GAP: &str = "   ";

/// A value as JSON, or as YAML where that is asked for.
pub(crate) fn value(value: &Value, output: Output) -> String {
    match output {
        Output::Yaml => yaml(value),
        Output::Table | Output::Wide | Output::Json => format!("{value:#}\n"),
    }
}

/// Rows under a head, columns as wide as their widest cell.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let all = || std::iter::once(&head).chain(rows);
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            let cells = all().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}{GAP}"));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Block YAML, which reads back as the same value.
fn yaml(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => block(value, 0, &mut text),
        Value::Array(items) if !items.is_empty() => block(value, 0, &mut text),
        other => {
            text.push_str(&scalar(other));
            text.push('\n');
        }
    }
    text
}

fn block(value: &Value, indent: usize, text: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                text.push_str(&format!("{pad}{}:", plain(name)));
                match field {
                    // A list stands as deep as its name, as kubectl has it.
                    Value::Array(items) if !items.is_empty() => {
                        text.push('\n');
                        block(field, indent, text);
                    }
                    Value::Object(inner) if !inner.is_empty() => {
                        text.push('\n');
                        block(field, indent + 2, text);
                    }
                    other => text.push_str(&format!(" {}\n", scalar(other))),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut inner = String::new();
                match item {
                    Value::Array(items) if !items.is_empty() => block(item, indent + 2, &mut inner),
                    Value::Object(fields) if !fields.is_empty() => {
                        block(item, indent + 2, &mut inner);
                    }
                    other => inner = format!("{}\n", scalar(other)),
                }
                text.push_str(&format!("{pad}- {}", inner.trim_start_matches(' ')));
            }
        }
        other => text.push_str(&scalar(other)),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// The text without quotes where no reader can take it for something else.
fn plain(text: &str) -> String {
    const TAKEN: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let first = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let rest = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    // A number such as 1e3 begins with a digit; .inf and .nan begin with a dot.
    let taken = TAKEN.contains(&text.to_ascii_lowercase().as_str());
    if first && text.chars().all(rest) && !taken {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [
            vec!["a".into(), "1".into()],
            vec!["long-name".into(), String::new()],
        ];
        let expected = "NAME        AGE\na           1\nlong-name\n";
        assert_eq!(table(&["NAME", "AGE"], &rows), expected);
    }

    #[test]
    fn yaml_is_what_people_write() {
        let value = json!({
            "a": {"list": [{"x": 1, "y": [2, []]}, "s", {}], "none": {}},
            "b": ["no", "1", "a b", "a: b", "", "1.5", 1.5, null, true, "x\ny", "0x1"],
            "m/k": "1h30m",
        });
        let expected = r#"a:
  list:
  - x: 1
    "y":
    - 2
    - []
  - s
  - {}
  none: {}
b:
- "no"
- "1"
- "a b"
- "a: b"
- ""
- "1.5"
- 1.5
- null
- true
- "x\ny"
- "0x1"
m/k: "1h30m"
"#;
        assert_eq!(yaml(&value), expected);
        assert_eq!(yaml(&json!([])), "[]\n");
    }
}
