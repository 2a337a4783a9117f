//! One run of both processes under a tool that counts: the difference of a long and a short run, by request.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::cell::{Cell, Protocol, Side};
use crate::load::Outcome;
use crate::world::World;
use crate::{BoxError, meshed, process};

/// What counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Instructions, and calls of functions; user space alone.
    Callgrind,
    /// System calls.
    Strace,
}

/// How long the two runs are, and of what.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Runs {
    /// Requests of the shorter run.
    #[arg(long, default_value_t = 1_000)]
    short: u64,
    /// Requests of the longer run.
    #[arg(long, default_value_t = 11_000)]
    long: u64,
    /// Bytes of the response's body.
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Requests in flight at any time.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
}

impl Runs {
    /// The cell that is counted.
    pub const fn cell(self, protocol: Protocol) -> Cell {
        Cell {
            protocol,
            bytes: self.bytes,
            in_flight: self.in_flight,
        }
    }
}

impl fmt::Display for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B, {} in flight", self.bytes, self.in_flight)
    }
}

/// What was counted at one end, by name.
pub type Counts = BTreeMap<String, f64>;

/// Both ends of a request.
#[derive(Clone, Debug)]
pub struct Ends {
    pub client: Counts,
    pub server: Counts,
}

/// Where and how to count.
#[derive(Clone, Copy)]
pub struct Probe<'a> {
    pub world: &'a World,
    pub tool: Tool,
    pub runs: Runs,
    /// The tool's files of the longer run stay here.
    pub keep: Option<&'a Path>,
}

impl Probe<'_> {
    /// What one request takes at either end.
    pub async fn per_request(&self, side: Side, protocol: Protocol) -> Result<Ends, BoxError> {
        let cell = self.runs.cell(protocol);
        let Runs { short, long, .. } = self.runs;
        if short >= long {
            return Err("--short must be less than --long".into());
        }
        let [few, many] = [
            self.run(side, cell, short, None).await?,
            self.run(side, cell, long, self.place(side, cell)).await?,
        ];
        #[expect(clippy::cast_precision_loss, reason = "thousands of requests")]
        let between = (long - short) as f64;
        let difference = |few: &Counts, many: &Counts| {
            let before = |name: &str| few.get(name).copied().unwrap_or_default();
            let counts = many.iter();
            counts
                .map(|(name, count)| (name.clone(), (count - before(name)) / between))
                .collect()
        };
        Ok(Ends {
            client: difference(&few.client, &many.client),
            server: difference(&few.server, &many.server),
        })
    }

    fn place(&self, side: Side, cell: Cell) -> Option<PathBuf> {
        let protocol = cell.protocol.to_string().to_lowercase();
        let name = format!("{side}-{}", protocol.replace(['/', '.'], ""));
        Some(self.keep?.join(name))
    }

    async fn run(
        &self,
        side: Side,
        cell: Cell,
        requests: u64,
        keep: Option<PathBuf>,
    ) -> Result<Ends, BoxError> {
        let folder = tempfile::tempdir()?;
        let files = [folder.path().join("client"), folder.path().join("server")];
        let environment = |role| self.world.environment(side, role, cell.protocol);
        let mut command = self.tool.command(&files[1])?;
        command
            .arg("server")
            .arg(format!("--side={side}"))
            .args(cell.flags())
            .arg("--endpoints=1")
            .envs(environment(meshed::Role::Server).await?);
        let server = process::start(command).await?;
        let mut command = self.tool.command(&files[0])?;
        command
            .arg("client")
            .arg(format!("--side={side}"))
            .args(cell.flags())
            .arg(format!("--server={}", server.id))
            .arg(format!("--addresses={}", server.addresses))
            .arg(format!("--requests={requests}"))
            .envs(environment(meshed::Role::Client).await?);
        let outcome: Outcome = process::finish(command).await?;
        assert_eq!(outcome.requests, requests, "every request was answered");
        server.stop().await?;
        if let Some(keep) = keep {
            std::fs::create_dir_all(&keep)?;
            for file in &files {
                let name = file.file_name().ok_or("a file has a name")?;
                std::fs::copy(file, keep.join(name))?;
            }
        }
        Ok(Ends {
            client: self.tool.read(&files[0])?,
            server: self.tool.read(&files[1])?,
        })
    }
}

/// The name under which all instructions of a process are counted.
pub const INSTRUCTIONS: &str = "instructions";

impl Tool {
    fn command(self, file: &Path) -> Result<Command, BoxError> {
        let mut command = match self {
            Self::Callgrind => {
                let mut command = Command::new("valgrind");
                command
                    .arg("--tool=callgrind")
                    .arg(format!("--callgrind-out-file={}", file.display()));
                command
            }
            Self::Strace => {
                let mut command = Command::new("strace");
                command.args(["-f", "-c", "-o"]).arg(file);
                command
            }
        };
        command.arg(std::env::current_exe()?).stderr(Stdio::null());
        Ok(command)
    }

    fn read(self, file: &Path) -> Result<Counts, BoxError> {
        let text = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
        match self {
            Self::Callgrind => callgrind(&text),
            Self::Strace => Ok(strace(&text)),
        }
    }
}

/// Callgrind's format: `fn=(1) name` names a function once, `cfn=(1)` one that is called,
/// `calls=3 …` how often.
fn callgrind(text: &str) -> Result<Counts, BoxError> {
    let mut names = BTreeMap::new();
    let mut counts = Counts::new();
    let mut called = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=").or(line.strip_prefix("cfn=")) {
            let (id, name) = name.split_once(' ').unwrap_or((name, ""));
            if !name.is_empty() {
                names.insert(id, name);
            }
            called = names.get(id).copied().unwrap_or_default();
        } else if let Some(calls) = line.strip_prefix("calls=") {
            let calls = calls.split(' ').next().unwrap_or_default();
            *counts.entry(called.to_owned()).or_default() += calls.parse::<f64>()?;
        } else if let Some(total) = line.strip_prefix("totals: ") {
            counts.insert(INSTRUCTIONS.to_owned(), total.trim().parse()?);
        }
    }
    if counts.contains_key(INSTRUCTIONS) {
        Ok(counts)
    } else {
        Err("callgrind wrote no totals".into())
    }
}

/// Strace's table: share, seconds, microseconds per call, calls, errors if any, name.
fn strace(text: &str) -> Counts {
    let rows = text.lines().filter_map(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let name = *columns.last()?;
        let calls = columns.get(3)?.parse().ok()?;
        (name != "total").then(|| (name.to_owned(), calls))
    });
    rows.collect()
}
