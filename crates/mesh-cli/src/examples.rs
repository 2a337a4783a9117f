//! Examples that stand below the help of each command, and commands that come later.

pub(crate) const TOKEN: &str = "\
Examples:
  mesh token create --identity shop/api > api.token
  mesh token create --identity shop/api --uses 50 --ttl 24h --serves api.shop
  mesh token list";
pub(crate) const APPLY: &str = "\
Examples:
  mesh apply -f policy.yaml
  mesh apply -f policy/ --dry-run
  kubectl get httproute -o yaml | mesh apply -f -";
pub(crate) const GET: &str = "\
Examples:
  mesh get httproute -n shop
  mesh get server api -n shop -o yaml
  mesh get svc -A";
pub(crate) const STAT: &str = "\
Examples:
  mesh stat svc -n shop
  mesh stat svc/api -n shop -t 30s
  mesh stat -A --watch";
pub(crate) const DELETE: &str = "\
Examples:
  mesh delete httproute api -n shop
  mesh delete -f policy.yaml --ignore-not-found";
pub(crate) const VALIDATE: &str = "\
Examples:
  mesh validate -f policy/
  mesh validate -f policy.yaml -o json";
pub(crate) const EXPLAIN: &str = "\
Examples:
  mesh explain -f policy/ --to api.shop --request 'GET /search?q=tea'
  mesh explain -f policy/ --to api.shop --from spiffe://mesh.local/ns/shop/sa/web";
pub(crate) const CURL: &str = "\
Examples:
  mesh curl --as shop/web http://api.shop/cart
  mesh curl --as shop/web -X POST -H 'content-type: application/json' -d '{}' http://api.shop/
  mesh curl --as shop/web --requests 1000 --concurrency 8 http://api.shop/";

/// Commands that other meshes have and this version does not: for them a similar name is no help.
const LATER: &[&str] = &[
    "admin",
    "authz",
    "backup",
    "ban",
    "ca",
    "check",
    "completion",
    "dashboard",
    "describe",
    "edges",
    "gateway",
    "identity",
    "install",
    "link",
    "restore",
    "rollout",
    "routes",
    "tap",
    "test",
    "top",
];

/// What to say of a command that is not in this version; `None` for a misspelt one.
pub(crate) fn not_in_this_version(command: &str) -> Option<String> {
    LATER.contains(&command).then(|| {
        format!("mesh: {command} is not in this version; mesh --help lists the commands that are")
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::args::Cli;

    #[test]
    fn every_example_is_read_by_its_command() {
        let mut lines = 0;
        for command in Cli::command().get_subcommands() {
            let Some(help) = command.get_after_help() else {
                continue;
            };
            for line in help.to_string().lines().skip(1) {
                let line = line.rsplit("| ").next().unwrap_or(line);
                let line = line.split(" > ").next().unwrap_or(line);
                let read = Cli::try_parse_from(words(line));
                assert!(read.is_ok(), "{line}: {}", read.unwrap_err());
                lines += 1;
            }
        }
        assert!(lines >= 20, "{lines}");
    }

    /// The words of a line, as a shell reads those with single quotes.
    fn words(line: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (index, part) in line.trim().split('\'').enumerate() {
            if index % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }

    #[test]
    fn a_command_that_exists_is_none_of_a_later_version() {
        for command in Cli::command().get_subcommands() {
            assert_eq!(not_in_this_version(command.get_name()), None);
        }
        assert!(not_in_this_version("tap").is_some());
    }
}
