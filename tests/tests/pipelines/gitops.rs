//! What tools compare that apply manifests from a repository again and again: nothing that was stored differs from what was written.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use userpipeline_tests::{World, cluster::CONTEXT, eventually, examples, world::SOON};

/// The ways in which `kubectl apply` works: Argo CD uses the first by default, Flux the second.
const WAYS: [&str; 2] = ["client-side", "server-side"];

#[tokio::test(flavor = "multi_thread")]
async fn every_example_can_be_applied_again_without_a_change() -> Result<()> {
    for way in WAYS {
        // Given a namespace without credentials, so that nothing is created in the stores under the names of the examples
        let world = World::without_secrets(&format!("gitops-{way}")).await?;
        for (file, manifest) in examples::manifests(&world.namespace)? {
            applied_twice(&world, way, &manifest)
                .await
                .with_context(|| format!("{file}, {way}"))?;
        }
        world.clean_up().await?;
    }
    Ok(())
}

async fn applied_twice(world: &World, way: &'static str, manifest: &Value) -> Result<()> {
    // When an example is applied twice, Then the second time changes nothing
    kubectl(world, &["apply", flag(way), "-f", "-"], manifest).await?;
    let generation = stored(world, manifest).await?["metadata"]["generation"].clone();
    let again = kubectl(world, &["apply", flag(way), "-f", "-"], manifest).await?;
    // A server-side apply does not report whether it changed something.
    ensure!(way == "server-side" || again.trim_end().ends_with(" unchanged"), "{again}");
    let object = stored(world, manifest).await?;
    ensure!(object["metadata"]["generation"] == generation, "another generation: {object}");
    // The operator may write the status between the two requests of a diff.
    eventually("an empty diff", SOON, async || {
        let diff = kubectl(world, &["diff", flag(way), "-f", "-"], manifest).await;
        Ok(diff.map(drop).map_err(|error| format!("{error:#}")))
    })
    .await?;

    // And what is stored is what was written. Defaults are added only outside of lists
    differences(&manifest["spec"], &object["spec"], "spec").map_or(Ok(()), |difference| Err(anyhow::anyhow!(difference)))
}

/// The first place where what is stored is not what was written.
fn differences(written: &Value, stored: &Value, path: &str) -> Option<String> {
    match (written, stored) {
        (Value::Object(written), Value::Object(stored)) => written.iter().find_map(|(name, value)| {
            let stored = stored.get(name).unwrap_or(&Value::Null);
            differences(value, stored, &format!("{path}.{name}"))
        }),
        (written, stored) if written == stored => None,
        (written, stored) => Some(format!("{path} was written as {written} and is stored as {stored}")),
    }
}

fn flag(way: &str) -> &'static str {
    if way == "server-side" {
        "--server-side=true"
    } else {
        "--server-side=false"
    }
}

async fn stored(world: &World, manifest: &Value) -> Result<Value> {
    let list = kubectl(world, &["get", "-o", "json", "-f", "-"], manifest).await?;
    let mut list: Value = serde_json::from_str(&list).with_context(|| list.clone())?;
    Ok(list["items"][0].take())
}

/// Runs kubectl with the manifest as its input, and returns what it prints.
async fn kubectl(world: &World, arguments: &[&str], manifest: &Value) -> Result<String> {
    let mut command = Command::new("kubectl");
    command
        .args(["--context", CONTEXT, "--namespace", &world.namespace])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let what = format!("kubectl {}", arguments.join(" "));
    let manifest = manifest.to_string();
    let Output { status, stdout, stderr } = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn()?;
        // Dropped at the end of the statement, so that kubectl reads the end.
        child.stdin.take().context("an input")?.write_all(manifest.as_bytes())?;
        anyhow::Ok(child.wait_with_output()?)
    })
    .await??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(status.success(), "{what}: {status}: {}{}", text(&stdout), text(&stderr));
    Ok(text(&stdout))
}
