//! The definitions accept and refuse what Strimzi's own model does.

use std::fs;

use anyhow::{Context, Result, ensure};
use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams, ValidationDirective},
};
use serde::Deserialize;
use serde_json::{Value, json};
use userpipeline_tests::{
    World,
    strimzi::{crds, model::folder, resources},
};

/// The documents of the samples of the model, by file.
fn samples() -> Result<Vec<(String, Value)>> {
    let mut samples = Vec::new();
    for file in fs::read_dir(folder().join("samples"))? {
        let (file, name) = file.map(|file| (file.path(), file.file_name().to_string_lossy().into_owned()))?;
        let text = fs::read_to_string(file)?;
        for document in serde_yaml::Deserializer::from_str(&text) {
            samples.push((name.clone(), Value::deserialize(document)?));
        }
    }
    Ok(samples)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_definitions_agree_with_the_model_on_every_sample() -> Result<()> {
    // Given the definitions
    let world = World::without_secrets("definitions").await?;
    crds::ensure_installed(&world.client).await?;

    // When a sample is applied, strictly and without an effect
    let strictly = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::apply("end-to-end").force().dry_run()
    };
    for (file, mut sample) in samples()? {
        let resource = resources::resource(&world.client, sample["kind"].as_str().context("a kind")?).await?;
        sample["apiVersion"] = json!(resource.api_version);
        if let Some(metadata) = sample["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        let name = sample["metadata"]["name"].as_str().context("a name")?.to_owned();
        let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
        let applied = api.patch(&name, &strictly, &Patch::Apply(&sample)).await;

        // Then it is accepted if the model accepts it
        let expected = file == "accepted.yaml";
        ensure!(applied.is_ok() == expected, "{file}: {applied:?}");
    }
    world.clean_up().await
}
