//! The same pages, loaded by `dlt`.

use std::{net::SocketAddr, process::Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use tokio::process::Command;
use tokio_postgres::Client;
use userpipeline_benches::peers;
use userpipeline_tests::{
    World,
    cluster::{SERVICES, credentials, host},
    services::{CA, CREDENTIALS, Mounted},
};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/load_with_dlt.py");

/// What the script reports.
#[derive(Deserialize)]
struct Loaded {
    records: usize,
    seconds: f64,
}

/// Loads pages into a schema of PostgreSQL, which it removes. Returns records per second.
pub async fn measure(world: &World, db: &Client, source: SocketAddr, pages: usize, page_size: usize) -> Result<f64> {
    let mounted = Mounted::new(&world.client, &[]).await?;
    let (username, password) = credentials(&world.client, SERVICES, CREDENTIALS[0].1).await?;
    let dataset = world.namespace.replace('-', "_");
    let arguments = json!({
        "url": format!("http://{source}/api/"), "pages": pages, "pageSize": page_size, "seed": world.seed,
        "postgres": {
            "host": host::POSTGRES.0, "port": host::POSTGRES.1, "database": "userpipeline", "username": username, "password": password,
            "sslmode": "verify-full", "sslrootcert": mounted.folder().join("config-maps").join(CA.0).join(CA.1)
        },
        "dataset": dataset, "workingFolder": mounted.folder().join("dlt")
    });
    let file = mounted.folder().join("dlt.json");
    std::fs::write(&file, arguments.to_string())?;
    let loaded = load(&file).await;
    for schema in [dataset.clone(), format!("{dataset}_staging")] {
        db.batch_execute(&format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE")).await?;
    }
    let Loaded { records, seconds } = loaded?;
    ensure!(records == pages * page_size, "dlt loaded {records} of {} users", pages * page_size);
    #[allow(clippy::cast_precision_loss)] // A count.
    Ok(records as f64 / seconds)
}

async fn load(arguments: &std::path::Path) -> Result<Loaded> {
    let output = Command::new(peers::python()?)
        .arg(SCRIPT)
        .arg(arguments)
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(output.status.success(), "dlt: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().last().context("dlt's report")?;
    serde_json::from_str(line).with_context(|| format!("dlt's report: {line}"))
}
