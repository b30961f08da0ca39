//! The guide of Strimzi, which the story of pipelines follows: it uses every manifest of the page, and runs every command.

use std::fs;

use anyhow::{Context, Result, ensure};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::Value;
use tempfile::TempDir;
use userpipeline_tests::{
    cluster::OPERATOR_NAMESPACE,
    guide::{self, Shell, Step},
    strimzi::resources,
};

pub struct Page {
    /// Those that are not used yet.
    steps: Vec<Step>,
    pub shell: Shell,
    folder: TempDir,
}

impl Page {
    /// With this namespace in the place of `demo`.
    pub fn open(namespace: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        Ok(Self {
            steps: guide::steps(&guide::text("how-to/strimzi")?.replace("demo", namespace))?,
            shell: Shell::new(folder.path(), namespace)?,
            folder,
        })
    }

    fn take(&mut self, what: &str, is_it: impl Fn(&Step) -> bool) -> Result<Step> {
        let place = self.steps.iter().position(is_it);
        let place = place.with_context(|| format!("docs/how-to/strimzi.md has no {what} any more"))?;
        Ok(self.steps.remove(place))
    }

    fn manifest(&mut self, kind: &str) -> Result<Value> {
        let is_it = |step: &Step| matches!(step, Step::Apply(manifest) if manifest["kind"] == kind);
        match self.take(kind, is_it)? {
            Step::Apply(manifest) => Ok(manifest),
            _ => unreachable!("only manifests are selected"),
        }
    }

    /// Creates the Kafka cluster. Gives its manifest.
    pub async fn create_kafka(&mut self, client: &Client) -> Result<Value> {
        let kafka = self.manifest("Kafka")?;
        let resource = resources::resource(client, "Kafka").await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a name");
        let (namespace, name) = (text(&kafka["metadata"]["namespace"])?, text(&kafka["metadata"]["name"])?);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        let by = PatchParams::apply("platform-team").force();
        api.patch(&name, &by, &Patch::Apply(&kafka)).await?;
        Ok(kafka)
    }

    pub fn connection(&mut self) -> Result<Value> {
        self.manifest("UserPipelineConnection")
    }

    /// The local operator was installed with the values of the page.
    pub async fn assert_values(&mut self) -> Result<()> {
        let is_it = |step: &Step| matches!(step, Step::Change(values) if values["strimzi"].is_object());
        let Step::Change(values) = self.take("values of the chart", is_it)? else {
            unreachable!("only values are selected")
        };
        let installed = self
            .shell
            .run(&format!("helm get values userpipeline -n {OPERATOR_NAMESPACE} -o json"))
            .await?;
        let installed: Value = serde_json::from_str(&installed)?;
        ensure!(installed["strimzi"] == values["strimzi"], "{installed} instead of {values}");
        Ok(())
    }

    /// A file of the reader.
    pub fn write(&self, name: &str, content: &Value) -> Result<()> {
        Ok(fs::write(self.folder.path().join(name), serde_yaml::to_string(content)?)?)
    }

    /// Runs the next command that begins so. Gives its output.
    pub async fn run(&mut self, beginning: &str) -> Result<String> {
        self.run_with(beginning, ("", "")).await
    }

    /// The same, with what the reader puts in the place of a word.
    pub async fn run_with(&mut self, beginning: &str, (word, replacement): (&str, &str)) -> Result<String> {
        let is_it = |step: &Step| matches!(step, Step::Run(command) if command.starts_with(beginning));
        let Step::Run(mut command) = self.take(&format!("`{beginning}`"), is_it)? else {
            unreachable!("only commands are selected")
        };
        if !word.is_empty() {
            ensure!(command.contains(word), "{word} in {command}");
            command = command.replace(word, replacement);
        }
        self.shell.run(&command).await
    }

    pub fn assert_followed(self) -> Result<()> {
        ensure!(self.steps.is_empty(), "no test runs {:?}", self.steps);
        Ok(())
    }
}
