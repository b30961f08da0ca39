//! Executes the guides: applies every manifest and runs every command and statement in their order.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;
use userpipeline_tests::{World, eventually, stores};

/// Pages below `docs/` that are followed: their manifests are applied, their commands and statements executed.
const PAGES: [&str; 13] = [
    "start/first-pipeline",
    "how-to/aggregate",
    "how-to/record",
    "how-to/schedule",
    "how-to/backfill",
    "how-to/suspend",
    "how-to/scale",
    "how-to/delete",
    "how-to/upgrade",
    "how-to/plan",
    "how-to/retention",
    "how-to/dead-letters",
    "how-to/topic",
];
/// Pages that are not: they install the product or another one, run its programs outside of a cluster, need an API of others, or are
/// for look-up.
const NOT_OPERATIONS: [&str; 15] = [
    "start/quick-start",
    "start/install",
    "how-to/by-hand",
    "how-to/coming-from",
    "how-to/connections",
    "how-to/encrypt",
    "how-to/gitops",
    "how-to/pagination",
    "how-to/sizing",
    "how-to/strimzi",
    "reference/fields",
    "reference/metrics",
    "reference/record",
    "reference/source",
    "reference/status-and-events",
];
/// Rooms whose pages have commands, so that each page must be in one of the lists above.
const ROOMS: [&str; 3] = ["start", "how-to", "reference"];
/// Rooms whose pages explain, and have no commands to follow.
const ROOMS_WITHOUT_COMMANDS: [&str; 2] = ["explanation", "decisions"];
const WITHIN: Duration = Duration::from_secs(240);
/// Pages in parallel.
const AT_ONCE: usize = 6;

/// A step of a page.
#[derive(Debug)]
enum Step {
    /// Applies a whole manifest.
    Apply(Value),
    /// Changes a part of the pipeline.
    Change(Value),
    /// A command line.
    Run(String),
    /// A statement for the PostgreSQL of the pipeline.
    Query(String),
}

fn steps(page: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "```yaml" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let value: Value = serde_yaml::from_str(&block.join("\n")).with_context(|| block.join("\n"))?;
            steps.push(if value.get("kind").is_some() {
                Step::Apply(value)
            } else {
                Step::Change(value)
            });
        }
        let Some(command) = line.strip_prefix("    ") else { continue };
        let word = command.split(' ').next().unwrap_or_default();
        if ["kubectl", "helm", "userpipeline-operator"].contains(&word) {
            steps.push(Step::Run(command.to_owned()));
        }
        if ["SELECT", "DELETE", "UPDATE"].contains(&word) {
            let mut statement = command.to_owned();
            while !statement.trim_end().ends_with(';') {
                statement.push(' ');
                statement.push_str(lines.next().context("the end of a statement")?);
            }
            steps.push(Step::Query(statement));
        }
    }
    Ok(steps)
}

/// Executes a page, with the namespace of the test in the place of `demo`.
async fn follow(page: &str) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join(format!("docs/{page}.md")))?;
    let (_, name) = page.split_once('/').context("a room and a page")?;
    let world = World::new(&format!("guide-{name}")).await?;
    world.create_connections().await?;
    let (text, namespace) = (text.replace("demo", &world.namespace), world.namespace.clone());
    let steps = steps(&text)?;
    ensure!(steps.iter().any(|step| matches!(step, Step::Run(_))), "{page} has no command");

    let pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("pipeline.yaml"), serde_yaml::to_string(&pipeline)?)?;
    std::os::unix::fs::symlink(root.join("charts"), folder.path().join("charts"))?;
    let shell = Shell::new(folder.path(), &namespace)?;
    for step in steps {
        match &step {
            Step::Apply(manifest) => {
                shell
                    .run(&format!("kubectl apply --server-side -f - <<'EOF'\n{manifest}\nEOF"))
                    .await
            }
            Step::Change(change) => {
                let change = change.to_string();
                shell
                    .run(&format!("kubectl patch userpipeline users --type merge -p '{change}'"))
                    .await
            }
            // The objects of a step may take a moment to exist.
            Step::Run(command) => eventually(command, WITHIN, async || Ok(shell.run(command).await.map_err(|e| format!("{e:#}")))).await,
            Step::Query(statement) => {
                let db = stores::postgres(&world.client).await?;
                db.batch_execute(statement).await.map_err(Into::into)
            }
        }
        .with_context(|| format!("{page}: {step:?}"))?;
    }
    world.clean_up().await
}

/// Builds the operator for its command `plan`.
fn build_operator() -> Result<()> {
    let program = "userpipeline-operator";
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", program, "--bin", program])
        .status()?;
    ensure!(built.success(), "the operator's program is not built");
    Ok(())
}

/// A shell with the programs of a reader, in the namespace of the test.
#[derive(Clone)]
struct Shell {
    folder: std::path::PathBuf,
    kubeconfig: std::path::PathBuf,
    path: String,
}

impl Shell {
    fn new(folder: &Path, namespace: &str) -> Result<Self> {
        let target = std::env::current_exe()?;
        let target = target.parent().and_then(Path::parent).context("where programs are")?;
        let kubeconfig = folder.join("kubeconfig");
        std::fs::copy(std::env::var("KUBECONFIG").context("KUBECONFIG is not set")?, &kubeconfig)?;
        let shell = Self {
            folder: folder.to_owned(),
            kubeconfig,
            path: format!("{}:{}", target.display(), std::env::var("PATH").unwrap_or_default()),
        };
        shell.execute(&format!(
            "kubectl config set-context kind-userpipeline --namespace={namespace} && kubectl config use-context kind-userpipeline"
        ))?;
        Ok(shell)
    }

    fn execute(&self, command: &str) -> Result<()> {
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", command])
            .current_dir(&self.folder)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("PATH", &self.path)
            .output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        ensure!(
            output.status.success(),
            "{command}: {}: {}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        Ok(())
    }

    async fn run(&self, command: &str) -> Result<()> {
        let (shell, command) = (self.clone(), command.to_owned());
        tokio::task::spawn_blocking(move || shell.execute(&command)).await?
    }
}

/// Room and name of each page of these rooms; a room's `README.md` is its list of pages.
fn pages_of(rooms: &[&str]) -> Result<Vec<String>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let mut pages = Vec::new();
    for room in rooms {
        for file in std::fs::read_dir(docs.join(room))? {
            let name = file?.file_name().to_string_lossy().replace(".md", "");
            if name != "README" {
                pages.push(format!("{room}/{name}"));
            }
        }
    }
    Ok(pages)
}

#[test]
fn every_page_is_followed_or_known_not_to_be_an_operation() -> Result<()> {
    for page in pages_of(&ROOMS)? {
        let known = PAGES.contains(&page.as_str()) || NOT_OPERATIONS.contains(&page.as_str());
        ensure!(known, "docs/{page}.md is not among the pages of this test");
    }
    Ok(())
}

#[test]
fn a_page_that_explains_has_no_commands_to_follow() -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for page in pages_of(&ROOMS_WITHOUT_COMMANDS)? {
        let steps = steps(&std::fs::read_to_string(docs.join(format!("{page}.md")))?)?;
        ensure!(steps.is_empty(), "docs/{page}.md has commands that no test executes: {steps:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_guides_work_as_written() -> Result<()> {
    // Before any timeout starts: a first build takes minutes.
    tokio::task::spawn_blocking(build_operator).await??;
    // All pages at once would need more pods than fit on a small node.
    let pages = futures::stream::iter(PAGES).map(follow).buffer_unordered(AT_ONCE);
    pages.try_collect::<Vec<()>>().await.map(drop)
}
