//! Attacks on what belongs to others: each changes nothing of it, and the attacker's status says why.

mod identity;
mod names;
mod plans;
mod topics;

use std::collections::BTreeMap;

use anyhow::Result;
use kube::api::DeleteParams;
use userpipeline_api::UserPipeline;
use userpipeline_tests::{World, eventually, stores, world::SOON};

/// A topic of another team, with a setting of its own. Returns its settings.
async fn foreign_topic(name: &str) -> Result<BTreeMap<String, String>> {
    let admin = stores::kafka_admin().await?;
    let settings = BTreeMap::from([("retention.ms".to_owned(), "123456789".to_owned())]);
    admin.create(name, 1, 1, &settings).await?;
    Ok(admin.config(name).await?)
}

/// Deletes the pipeline, and waits until it is gone.
async fn delete(world: &World) -> Result<()> {
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
    eventually("the pipeline to be gone", SOON, async || {
        let found = world.api::<UserPipeline>().get_opt("users").await?;
        Ok(found.map_or(Ok(()), |pipeline| {
            Err(format!("{:?}", pipeline.status.map(|status| status.conditions)))
        }))
    })
    .await
}
