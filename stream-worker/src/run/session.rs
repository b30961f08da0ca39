//! One session: from stores that answer to the end of consuming.

use std::sync::Arc;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;
use userpipeline_api::{ACCEPT_TOPIC, topic_id};
use userpipeline_stores::{
    StoreError,
    error::{KAFKA_FAILED, TOPIC_MISSING, TOPIC_REPLACED},
    kafka::admin::{Admin, TopicState},
    wire::rotated,
};

use super::{
    batch::WRITERS,
    consume::{self, Event},
    mirror, retention, watch,
    write::{Stores, Writer},
};
use crate::{
    context::WorkerContext,
    progress::{OwnerTokens, ProgressTable},
    status::Trouble,
    wires,
};

/// Returns without an error when the worker is to stop, or when Kafka's credentials or certificates have changed: librdkafka
/// takes up neither, so the group is left as at a stop, with everything written, and joined again.
pub async fn session(context: &Arc<WorkerContext>, stop: &CancellationToken) -> Result<(), StoreError> {
    let stop = &stop.child_token();
    let tokens = Arc::new(OwnerTokens::default());
    let (topic, table, mut writers) = tokio::select! {
        opened = open(context, &tokens, stop) => opened?,
        () = stop.cancelled() => return Ok(()),
    };
    let checks = writers[0].health_checks();
    context.status.topic_partitions(topic.partitions);
    let mut consuming = consume::start(context, &table, &tokens, stop)?;
    context.status.clear(Trouble::Session);
    context.status.consuming(true);

    let (batches, events) = (&mut consuming.batches, &consuming.events);
    let writing = async {
        let each = batches.iter_mut().zip(&mut writers).enumerate();
        let each = each.map(|(number, (batches, writer))| async move {
            while let Some(batch) = batches.recv().await {
                // The thread is gone only where the session ends.
                let _ = events.send(Event::Written(number, writer.write(batch).await));
            }
        });
        join_all(each).await;
        std::future::pending::<()>().await;
    };
    let watching = async {
        let error = watch::watch(context, &consuming.consumer, &topic.id, &checks).await;
        let _ = events.send(Event::End(error));
        std::future::pending::<()>().await;
    };
    let expiring = async {
        retention::run(context).await;
        std::future::pending::<()>().await;
    };
    let mirroring = async {
        mirror::run(context).await;
        std::future::pending::<()>().await;
    };
    let rotating = async {
        rotated(context.kafka.wire(), &consuming.opened_with).await;
        tracing::info!("Kafka's credentials or certificates have changed: rejoining the group with the new ones");
        stop.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = &mut consuming.ended => ended.unwrap_or_else(|_| Err(StoreError::transient(KAFKA_FAILED, "the polling thread broke off"))),
        () = writing => Ok(()),
        () = watching => Ok(()),
        () = expiring => Ok(()),
        () = mirroring => Ok(()),
        () = rotating => Ok(()),
    }
}

/// What a session needs before the group is joined: topics that exist, and writers whose stores answer.
async fn open(
    context: &Arc<WorkerContext>,
    tokens: &Arc<OwnerTokens>,
    stop: &CancellationToken,
) -> Result<(TopicState, ProgressTable, Vec<Writer>), StoreError> {
    wires::check(&context.wires)?;
    // One writer shows that the stores answer. The others open theirs with their first batch.
    let mut first = Stores::of(context);
    let opening = async { first.open(context).await.map_err(|(_, error)| error) };
    let (topic, ()) = futures::try_join!(topics(context), opening)?;
    let table = ProgressTable {
        group: context.pipeline.group_id.clone(),
        topic: context.pipeline.topic.clone(),
        topic_id: topic.id.clone(),
    };
    let others = std::iter::repeat_with(|| Stores::of(context));
    let stores = std::iter::once(first).chain(others).take(WRITERS).enumerate();
    let writers = stores.map(|(number, stores)| Writer::new(number, stores, context, &table, tokens, stop));
    let writers = writers.collect::<Result<Vec<_>, _>>()?;
    Ok((topic, table, writers))
}

/// Both topics must exist before the group is joined.
async fn topics(context: &WorkerContext) -> Result<TopicState, StoreError> {
    let pipeline = &context.pipeline;
    let admin = Admin::connect(&context.kafka, &context.instance).await?;
    let missing = |topic: &str, field: &str| {
        StoreError::configuration(
            TOPIC_MISSING,
            format!("topic `{topic}` ({field}) is not there; the schema Job makes it"),
        )
    };
    let topic = admin
        .topic(&pipeline.topic)
        .await?
        .ok_or_else(|| missing(&pipeline.topic, "spec.kafka.topic.name"))?;
    admin
        .topic(&pipeline.dead_letter_topic)
        .await?
        .ok_or_else(|| missing(&pipeline.dead_letter_topic, "spec.deadLetter.topic"))?;
    verify_id(&pipeline.topic, pipeline.topic_id.as_deref(), &topic.id)?;
    Ok(topic)
}

/// Whether the topic is the one that the pipeline uses. A topic that Strimzi created again is empty, so what its predecessor had and no
/// sink is lost: that must not go unnoticed.
fn verify_id(topic: &str, expected: Option<&str>, found: &str) -> Result<(), StoreError> {
    let found = topic_id(found);
    match expected.filter(|expected| *expected != found) {
        None => Ok(()),
        Some(expected) => Err(StoreError::configuration(
            TOPIC_REPLACED,
            format!(
                "topic `{topic}` (spec.kafka.topic.name) was deleted and created again: its id is {found}, and the pipeline uses the one with the id \
                 {expected}. Messages that were not stored yet are lost. To continue with the new topic, annotate the pipeline with \
                 {ACCEPT_TOPIC}={found}"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_with_another_id_than_expected_is_refused() {
        for (expected, found, refused) in [
            (None, "a+b/c", false),
            (Some("a-b_c"), "a+b/c", false),
            (Some("a-b_c"), "a-b_c", false),
            (Some("a-b_c"), "new", true),
        ] {
            let result = verify_id("users", expected, found);
            assert_eq!(result.is_err(), refused, "{expected:?} {found}");
            if let Err(error) = result {
                assert_eq!(error.reason, TOPIC_REPLACED);
                assert!(error.message.contains("userpipeline.dev/accept-topic=new"), "{}", error.message);
            }
        }
    }
}
