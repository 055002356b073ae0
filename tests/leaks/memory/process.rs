//! A process that uses a vault, and stands still after each step so that others can look into it.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use credvault::{IntegrationId, OrganizationId, Vault};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::search::{Place, Secret, places};

/// What the process is told by its environment: the database, the place of its master key, whose credential it reads, and
/// what its marks are made from.
const TOLD: [&str; 5] = [
    "MEMORY_TEST_URL",
    "MEMORY_TEST_KEY",
    "MEMORY_TEST_ORGANIZATION",
    "MEMORY_TEST_INTEGRATION",
    "MEMORY_TEST_SEED",
];

/// Lets glibc keep what is freed, and give it to others late: what isn't wiped stays to be found.
const HOARD: (&str, &str) = (
    "GLIBC_TUNABLES",
    "glibc.malloc.arena_max=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=1073741824",
);

/// What the process has done when it stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The vault is open.
    Opened,
    /// It holds the credential.
    Held,
    /// And has dropped it.
    Dropped,
    /// It has stored the credential once more, and rotated.
    Rotated,
    /// It has closed and dropped the vault.
    Closed,
}

impl Step {
    pub(crate) const ALL: [Self; 5] = [Self::Opened, Self::Held, Self::Dropped, Self::Rotated, Self::Closed];
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of the tests of memory, which start it"]
async fn a_process_with_a_vault() {
    let told = TOLD.map(|name| std::env::var(name).expect("it is started by the tests of memory"));
    let [url, key, organization, integration, seed] = &told;
    let [on_stack, on_heap] = marks(seed);
    let on_heap = Box::new(on_heap);
    let organization: OrganizationId = organization.parse().unwrap();
    let integration: IntegrationId = integration.parse().unwrap();

    let vault = Vault::open(url, key).await.unwrap();
    stand_still(Step::Opened);
    let organization = vault.organization(organization);
    let held = organization.get(integration).await.unwrap().unwrap();
    stand_still(Step::Held);
    drop(held);
    stand_still(Step::Dropped);
    // What is stored is what was read: a token of the test's own would be found.
    let held = organization.get(integration).await.unwrap().unwrap();
    organization.update(integration, &held.revision, &held.credential).await.unwrap();
    drop(held);
    vault.rotation().force().run().await.unwrap();
    stand_still(Step::Rotated);
    vault.close().await;
    drop((organization, vault));
    stand_still(Step::Closed);
    black_box((&on_stack, &on_heap));
}

/// Says what was done, and goes on when it is told to.
fn stand_still(after: Step) {
    println!("\n{after:?}");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// What the process plants on its stack and on its heap; it stands nowhere before.
fn marks(seed: &str) -> [[u8; 32]; 2] {
    ["stack", "heap"].map(|place| Sha256::digest(format!("{seed} {place}")).into())
}

/// How much memory a process may lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lockable {
    /// What this process may.
    Inherited,
    /// None at all.
    Nothing,
}

impl Lockable {
    fn command(self, program: &Path) -> Command {
        let mut command = match self {
            Self::Inherited => return Command::new(program),
            // Root may lock as much as it likes, unless it gives that up.
            Self::Nothing if rustix::process::geteuid().is_root() => {
                let mut command = Command::new("setpriv");
                command.args(["--bounding-set=-ipc_lock", "prlimit"]);
                command
            }
            Self::Nothing => Command::new("prlimit"),
        };
        command.arg("--memlock=0:0").arg(program);
        command
    }
}

/// The process, seen from outside.
pub(crate) struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    marks: [Secret; 2],
}

impl Process {
    /// Starts it, in the vault at `url` with the master key in the place `key`.
    pub(crate) fn start(
        lockable: Lockable,
        url: &str,
        key: &str,
        organization: OrganizationId,
        integration: IntegrationId,
    ) -> Self {
        let (organization, integration) = (organization.to_string(), integration.to_string());
        let seed = Uuid::new_v4().to_string();
        let [on_stack, on_heap] = marks(&seed);
        let tests = std::env::current_exe().unwrap();
        let mut child = lockable
            .command(&tests)
            .args(["--exact", "memory::process::a_process_with_a_vault", "--ignored", "--nocapture"])
            .envs(TOLD.into_iter().zip([url, key, &organization, &integration, &seed]))
            .envs([HOARD])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            marks: [
                Secret::new("planted on the stack", &on_stack),
                Secret::new("planted on the heap", &on_heap),
            ],
        }
    }

    /// Waits until it stands still after `step`.
    pub(crate) fn reaches(&mut self, step: Step) {
        if step != Step::ALL[0] {
            writeln!(self.input).unwrap();
        }
        let mut line = String::new();
        while line.trim_end() != format!("{step:?}") {
            line.clear();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "it ended before it was {step:?}");
        }
    }

    /// How much of its memory is locked, in KiB.
    pub(crate) fn locked_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// All places of the secrets. What was planted is found, too, each time: the search looks.
    pub(crate) fn places(&self, secrets: &[Secret]) -> Vec<Place> {
        let planted = places(self.child.id(), &self.marks);
        for mark in &self.marks {
            assert!(planted.iter().any(|place| place.secret == mark.name), "{} is not found", mark.name);
        }
        places(self.child.id(), secrets)
    }

    pub(crate) fn ends(mut self) {
        writeln!(self.input).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}
