//! The program is killed at random moments, and what it had acknowledged is compared with what
//! is there when it is started again. `KILL_ROUNDS` says how often.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_discovery::client::kubeconfig::Kubeconfig;
use mesh_discovery::client::{Client, Manifests};
use mesh_policy::manifest::Kind;
use mesh_policy::plan::enrol::EnrolResponse;
use mesh_policy::token::JoinToken;
use mesh_tls::config;
use mesh_tls::request::KeyPair;
use tokio::process::Child;
use tokio::task::JoinSet;

use crate::harness::{HOLDS, answer, client, enrol_request, request};
use crate::program::{program, ready, word};

/// Rounds where nothing else is said: a few tens of seconds.
const ROUNDS: u32 = 150;
/// Each writes objects of its own.
const WRITERS: usize = 4;
/// The latest that a round is killed after it began to write.
const LONGEST: Duration = Duration::from_millis(60);

/// What one writer knows: the number it was last told is stored, and the one it asked for last.
#[derive(Clone, Copy, Default)]
struct Log {
    acknowledged: u16,
    asked: u16,
}

/// Writes two objects at once, again and again, with a number that grows.
async fn write(client: Arc<Client>, writer: usize, mut log: Log) -> (usize, Log) {
    loop {
        log.asked += 1;
        let object = |half: &str| {
            let port = log.asked;
            format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {half}-{writer}, namespace: shop}}\nspec: {{ports: [{{port: {port}}}]}}\n"
            )
        };
        let yaml = [object("left"), object("right")].concat();
        let manifests = Manifests::new("kill.yaml", &yaml);
        match client.apply(&manifests).await {
            Ok(_) => log.acknowledged = log.asked,
            Err(_) => return (writer, log),
        }
    }
}

/// Nothing acknowledged is lost, nothing is there by half.
async fn compare(client: &Client, logs: &[Log; WRITERS]) {
    let services = client.list(Kind::Service, Some("shop")).await;
    let services = services.expect(HOLDS);
    let port = |half: &str, writer: usize| {
        let name = format!("{half}-{writer}");
        let mut all = services.iter();
        let found = all.find(|service| service["metadata"]["name"] == *name);
        found.map_or(0, |service| {
            service["spec"]["ports"][0]["port"].as_u64().expect(HOLDS)
        })
    };
    for (writer, log) in logs.iter().enumerate() {
        let (left, right) = (port("left", writer), port("right", writer));
        assert_eq!(left, right, "one commit of two objects is there by half");
        let possible = u64::from(log.acknowledged)..=u64::from(log.asked);
        assert!(
            possible.contains(&left),
            "{left} is stored, not {possible:?}"
        );
    }
}

/// A process that joins while the server is killed.
struct Joiner {
    token: JoinToken,
    csr: Vec<u8>,
}

impl Joiner {
    fn new(token: JoinToken) -> Self {
        let key = KeyPair::generate().expect(HOLDS);
        let csr = key.signing_request().expect(HOLDS).der().to_vec();
        Self { token, csr }
    }

    async fn join(&self, url: &str) -> Option<bool> {
        let http = client(&config::joining(*self.token.root()));
        let body = enrol_request(&self.token.reveal(), &self.csr);
        let sent = http.post(format!("{url}/v1/identity")).body(body);
        // The connection may break; a refusal is an answer.
        let response = sent.send().await.ok()?;
        let status = response.status();
        response.bytes().await.ok()?;
        Some(status.is_success())
    }

    /// The key that may have been answered is answered, and no other is.
    async fn compare(&self, url: &str) {
        let http = client(&config::joining(*self.token.root()));
        let ask = |csr: &[u8]| {
            let body = enrol_request(&self.token.reveal(), csr);
            http.post(format!("{url}/v1/identity")).body(body)
        };
        let own = answer::<EnrolResponse>(ask(&self.csr)).await;
        assert!(own.is_ok(), "locked out: {own:?}");
        let other = Self::new(self.token.clone());
        let other = answer::<EnrolResponse>(ask(&other.csr)).await;
        assert!(other.is_err(), "a token of one use let two keys in");
    }
}

async fn start(directory: &Path) -> (Child, String, Arc<Client>) {
    let mut child = program(directory, &[]);
    let line = ready(&mut child).await;
    let url = format!("https://{}", word(&line, "listen="));
    let text = std::fs::read_to_string(directory.join("admin.kubeconfig")).expect(HOLDS);
    Kubeconfig::parse(&text, None).expect(HOLDS);
    let client = Client::from_kubeconfig(&text).expect(HOLDS);
    (child, url, Arc::new(client))
}

#[expect(
    clippy::print_stdout,
    reason = "the count of kills is what a run by hand is for"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c03_j03_a_server_killed_at_any_moment_loses_nothing_that_it_acknowledged() {
    let rounds = std::env::var("KILL_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let dir = tempfile::tempdir().expect(HOLDS);
    let mut logs = [Log::default(); WRITERS];
    let mut joiner: Option<Joiner> = None;
    for _ in 0..rounds {
        let (mut child, url, client) = start(dir.path()).await;
        compare(&client, &logs).await;
        if let Some(joiner) = &joiner {
            joiner.compare(&url).await;
        }
        let token = client.create_token(&request("shop/web")).await;
        let joining = joiner.insert(Joiner::new(token.expect(HOLDS)));
        let mut writers = JoinSet::new();
        for (writer, log) in logs.iter().enumerate() {
            writers.spawn(write(Arc::clone(&client), writer, *log));
        }
        let longest = u64::try_from(LONGEST.as_micros()).expect(HOLDS);
        let moment = Duration::from_micros(fastrand::u64(..longest));
        let killed = async {
            tokio::time::sleep(moment).await;
            child.kill().await.expect(HOLDS);
        };
        tokio::join!(joining.join(&url), killed);
        while let Some(ended) = writers.join_next().await {
            let (writer, log) = ended.expect(HOLDS);
            logs[writer] = log;
        }
    }
    let acknowledged: u32 = logs.iter().map(|log| u32::from(log.acknowledged)).sum();
    assert!(acknowledged > 0, "nothing was written in {rounds} rounds");
    println!("{rounds} kills, {acknowledged} acknowledged commits, none lost");
}

#[tokio::test]
async fn c19_a_second_server_on_the_directory_is_refused_and_no_lock_is_stale() {
    let dir = tempfile::tempdir().expect(HOLDS);
    let (mut first, _, client) = start(dir.path()).await;
    let kubeconfig = std::fs::read(dir.path().join("admin.kubeconfig")).expect(HOLDS);
    for store in ["--store=redb", "--store=memory"] {
        let second = program(dir.path(), &[store]).wait_with_output();
        let second = tokio::time::timeout(Duration::from_secs(20), second).await;
        let second = second.expect("it is refused").expect(HOLDS);
        assert_eq!(second.status.code(), Some(78), "{store}");
        let said = String::from_utf8(second.stderr).expect(HOLDS);
        assert!(said.contains("another mesh-discovery uses"), "{said}");
    }
    let after = std::fs::read(dir.path().join("admin.kubeconfig")).expect(HOLDS);
    assert_eq!(after, kubeconfig, "nothing of the first one's was touched");
    assert!(client.list_tokens().await.is_ok());
    first.kill().await.expect(HOLDS);
    let (mut third, _, client) = start(dir.path()).await;
    assert!(client.list_tokens().await.is_ok());
    third.kill().await.expect(HOLDS);
}
