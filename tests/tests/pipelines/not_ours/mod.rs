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

/// Settings and messages of a topic.
type Contents = (BTreeMap<String, String>, Vec<Vec<u8>>);

async fn contents(topic: &str) -> Result<Contents> {
    let messages = stores::messages(topic).await?;
    let settings = stores::kafka_admin().await?.config(topic).await?;
    Ok((settings, messages.into_iter().map(|message| message.payload).collect()))
}

/// A topic of another team, with a setting and a message of its own.
async fn foreign_topic(name: &str) -> Result<Contents> {
    let settings = BTreeMap::from([("retention.ms".to_owned(), "123456789".to_owned())]);
    stores::kafka_admin().await?.create(name, 1, 1, &settings).await?;
    stores::produce(name, vec![("key".to_owned(), b"payment".to_vec(), None)]).await?;
    let contents = contents(name).await?;
    assert_eq!((contents.0["retention.ms"].as_str(), contents.1.len()), ("123456789", 1));
    Ok(contents)
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
