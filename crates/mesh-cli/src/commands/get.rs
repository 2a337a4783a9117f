//! `mesh get`: what is applied, as a table, JSON or YAML.

mod columns;
mod standing;

use std::time::{Duration, SystemTime};

use mesh_discovery::client::ClientError;
use mesh_discovery::objects::ObjectName;
use mesh_policy::manifest::Kind;
use serde_json::{Value, json};
use time::{Date, Month, OffsetDateTime, Time};

use self::columns::{Column, columns};
use super::{Done, unreadable};
use crate::access::Access;
use crate::args::{Global, Output};
use crate::failure::Failure;
use crate::render;

/// Show what is applied.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The kind, such as httproute or svc, and a name for one object alone; or KIND/NAME. The word
    /// unreadable shows what is stored and cannot be read by this version of discovery.
    #[arg(value_name = "KIND [NAME]", num_args = 1..=2, required = true)]
    object: Vec<String>,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<Done, Failure> {
    let (kind, name) = match subject(&args.object) {
        Ok(subject) => subject,
        Err(unknown) => return unreadable::get(&args.object, unknown, global).await,
    };
    let access = Access::new(global)?;
    let Some(name) = name else {
        let mut items = access.client.list(kind, access.listed(global)).await?;
        items.sort_by_key(|item| (text(item, "namespace"), text(item, "name")));
        return Ok(list(kind, &items, &access, global));
    };
    if global.all_namespaces {
        let message = "-A lists all namespaces, and an object is in one: say which with -n";
        return Err(Failure::Usage(message.to_owned()));
    }
    let namespace = access.namespace.to_string();
    let object = ObjectName {
        kind,
        namespace,
        name,
    };
    let item = access.client.get(&object).await.map_err(|error| {
        // Objects are looked for in one namespace; who forgot to say which is told.
        match error {
            ClientError::NotFound { message } if global.namespace.is_none() => {
                let message = format!("{message}; another namespace is said with -n");
                ClientError::NotFound { message }
            }
            error => error,
        }
    })?;
    Ok(Done::say(match global.output {
        Output::Json | Output::Yaml => render::value(&item, global.output),
        Output::Table | Output::Wide => table(kind, &[item], global),
    }))
}

fn list(kind: Kind, items: &[Value], access: &Access, global: &Global) -> Done {
    match global.output {
        Output::Json | Output::Yaml => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
            Done::say(render::value(&list, global.output))
        }
        Output::Table | Output::Wide if items.is_empty() => {
            let place = match access.listed(global) {
                Some(namespace) => format!(" in {namespace} namespace"),
                None => String::new(),
            };
            Done {
                notes: vec![format!("No resources found{place}.")],
                ..Done::default()
            }
        }
        Output::Table | Output::Wide => Done::say(table(kind, items, global)),
    }
}

/// The kind and the name of `KIND`, `KIND NAME` and `KIND/NAME`.
pub(super) fn subject(words: &[String]) -> Result<(Kind, Option<String>), Failure> {
    let (kind, name) = match words {
        [kind, name] => (kind.as_str(), Some(name.as_str())),
        [word, ..] => match word.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (word.as_str(), None),
        },
        [] => ("", None),
    };
    let kind = Kind::named(kind).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok((kind, name.map(str::to_owned)))
}

fn table(kind: Kind, items: &[Value], global: &Global) -> String {
    let wide = global.output == Output::Wide;
    let mut shown: Vec<&Column> = columns(kind).iter().collect();
    shown.retain(|column| wide || !column.wide);
    let mut head: Vec<&str> = Vec::new();
    if global.all_namespaces {
        head.push("NAMESPACE");
    }
    head.push("NAME");
    head.extend(shown.iter().map(|column| column.head));
    // A column that would say the same of every object stands there only when it does not.
    let problems: Vec<_> = items.iter().map(standing::problems).collect();
    let any = problems.iter().any(|problem| !problem.is_empty());
    if any {
        head.push("STATUS");
    }
    head.push("AGE");
    let now = SystemTime::now();
    let rows: Vec<Vec<String>> = items
        .iter()
        .zip(problems)
        .map(|(item, problem)| {
            let namespace = global.all_namespaces.then(|| text(item, "namespace"));
            let cells = shown.iter().map(|column| match (column.cell)(item) {
                cell if cell.is_empty() => "<none>".to_owned(),
                cell => cell,
            });
            let mut row: Vec<String> = namespace.into_iter().collect();
            row.push(text(item, "name"));
            row.extend(cells);
            if any {
                row.push(match problem.is_empty() {
                    true => "ok".to_owned(),
                    false => problem,
                });
            }
            let born = born(&text(item, "creationTimestamp"));
            let lived = born.and_then(|born| now.duration_since(born).ok());
            row.push(lived.map_or_else(|| "<unknown>".to_owned(), age));
            row
        })
        .collect();
    render::table(&head, &rows)
}

fn text(item: &Value, field: &str) -> String {
    let value = item["metadata"][field].as_str();
    value.unwrap_or_default().to_owned()
}

/// A moment such as `2026-01-31T08:00:00Z`.
fn born(text: &str) -> Option<SystemTime> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u16>().ok();
    let byte = |range: std::ops::Range<usize>| u8::try_from(number(range)?).ok();
    let month = Month::try_from(byte(5..7)?).ok()?;
    let date = Date::from_calendar_date(number(0..4)?.into(), month, byte(8..10)?).ok()?;
    let time = Time::from_hms(byte(11..13)?, byte(14..16)?, byte(17..19)?).ok()?;
    Some(OffsetDateTime::new_utc(date, time).into())
}

/// A time as kubectl writes ages: the two largest units, the smaller one only while it counts.
pub(super) fn age(lived: Duration) -> String {
    let seconds = lived.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: u64, unit: &str, small: u64, rest: &str| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{rest}"),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_does() {
        for (seconds, expected) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (700, "11m"),
            (10_860, "3h1m"),
            (40_000, "11h"),
            (180_000, "2d2h"),
            (864_000, "10d"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn a_birthday_is_read() {
        let at = born("2024-02-29T12:34:56Z").unwrap();
        assert_eq!(
            at,
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_709_210_096)
        );
        for wrong in ["", "yesterday", "2024-13-01T00:00:00Z", "2024-01-01"] {
            assert_eq!(born(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_object_is_named_in_two_ways() {
        let of = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            subject(&words).map(|(kind, name)| (kind, name.unwrap_or_default()))
        };
        for words in [&["svc", "api"][..], &["service/api"]] {
            assert_eq!(of(words).unwrap(), (Kind::Service, "api".to_owned()));
        }
        assert!(of(&["services"]).is_ok());
        assert_eq!(of(&["servic"]).unwrap_err().exit_code(), 64);
    }
}
