//! The guides in `docs/`: what a reader does, step by step, and a shell with the reader's programs.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

/// A step of a page.
#[derive(Debug)]
pub enum Step {
    /// Applies a whole manifest.
    Apply(Value),
    /// Changes a part of the pipeline.
    Change(Value),
    /// A command line.
    Run(String),
    /// A statement for the PostgreSQL of the pipeline.
    Query(String),
}

/// The steps of a page, in their order.
pub fn steps(page: &str) -> Result<Vec<Step>> {
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

/// The folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of a page below `docs/`.
pub fn text(page: &str) -> Result<String> {
    Ok(std::fs::read_to_string(repository().join(format!("docs/{page}.md")))?)
}

/// Built once for all tests of a program.
static OPERATOR: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| build_operator().map_err(|error| format!("{error:#}")));

/// The operator's program for its command `plan`. `make cluster` has built it already where this machine is like the images.
pub fn operator_program() -> Result<&'static Path> {
    OPERATOR.as_deref().map_err(|error| anyhow!(error.clone()))
}

fn build_operator() -> Result<PathBuf> {
    let name = "userpipeline-operator";
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--release", "--bin", name])
        .current_dir(repository())
        .status()?;
    ensure!(built.success(), "the operator's program is not built");
    let test = std::env::current_exe()?;
    let target = test.ancestors().nth(3).context("the target directory")?;
    Ok(target.join("release").join(name))
}

/// A shell with the programs of a reader, in the namespace of the test.
#[derive(Clone)]
pub struct Shell {
    folder: PathBuf,
    kubeconfig: PathBuf,
    path: String,
}

impl Shell {
    pub fn new(folder: &Path, namespace: &str) -> Result<Self> {
        let program = operator_program()?;
        let programs = program.parent().context("where programs are")?;
        let kubeconfig = folder.join("kubeconfig");
        std::fs::copy(std::env::var("KUBECONFIG").context("KUBECONFIG is not set")?, &kubeconfig)?;
        let shell = Self {
            folder: folder.to_owned(),
            kubeconfig,
            path: format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default()),
        };
        shell.execute(&format!(
            "kubectl config set-context kind-userpipeline --namespace={namespace} && kubectl config use-context kind-userpipeline"
        ))?;
        Ok(shell)
    }

    /// Gives the output.
    fn execute(&self, command: &str) -> Result<String> {
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
        Ok(text(&output.stdout))
    }

    /// Runs a command line that must succeed. Gives its output.
    pub async fn run(&self, command: &str) -> Result<String> {
        let (shell, command) = (self.clone(), command.to_owned());
        tokio::task::spawn_blocking(move || shell.execute(&command)).await?
    }
}
