//! Stories of a pipeline in a healthy cluster. Each has a namespace of its own, so they run side by side.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use userpipeline_api::{UserPipeline, names};
use userpipeline_record::{RecordSchema, avro::Decoder, wire};
use userpipeline_stores::schema_registry::SchemaRegistry;
use userpipeline_tests::{
    World,
    cluster::host,
    eventually,
    expected::{self, assert_same},
    source, stores,
    world::SOON,
};

/// Waits until every record that was published is stored, and nothing is left behind.
async fn drained(world: &World, at_least: i64) -> Result<()> {
    eventually("everything stored and no lag", SOON, async || {
        let status = world.get().await?.status.unwrap_or_default();
        let stored = status.totals.as_ref().map_or(0, |t| t.stored);
        Ok(if stored >= at_least && status.lag == Some(0) {
            Ok(())
        } else {
            Err(format!("stored {stored} of {at_least}, lag {:?}", status.lag))
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_pipeline_moves_every_user_to_both_stores() -> Result<()> {
    // Given a pipeline that is ready
    let world = World::new("moves").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;

    // When two runs have ended
    world.run("first").await?;
    world.run("second").await?;
    drained(&world, 200).await?;

    // Then landing table, PostgreSQL and Cassandra hold the same keys, every field as the source served it
    let wanted = expected::rows(&source::served_users(&world.seed).await?)?;
    assert!(wanted.len() >= 200, "the source served {} users", wanted.len());
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let session = stores::cassandra(&world.client).await?;
    assert_same(
        "the landing table",
        &stores::postgres_rows(&db, &names::landing_table(&id)).await?,
        &wanted,
    );
    assert_same(
        "PostgreSQL's table",
        &stores::postgres_rows(&db, &names::postgres_table(&id)).await?,
        &wanted,
    );
    assert_same(
        "Cassandra's table",
        &stores::cassandra_rows(&session, &names::keyspace(&id), &names::cassandra_table(&id)).await?,
        &wanted,
    );

    // And each key is on the topic at least once, in a message that decodes with the registered schema
    let schema = RecordSchema::user();
    let registry = SchemaRegistry::at(host::REGISTRY)?;
    let registered = registry
        .id_of(&names::subject(&names::topic(&id)), &schema.avro_schema())
        .await?
        .context("the schema is registered")?;
    let decoder = Decoder::new(
        schema.clone(),
        &registry.schema(registered).await?.context("the registry knows its id")?,
    )?;
    let messages = stores::topic(&names::topic(&id)).await?;
    let mut keys = BTreeSet::new();
    for message in &messages {
        let (schema_id, datum) = wire::split(&message.payload)?;
        assert_eq!(schema_id, registered);
        assert_eq!(Some(decoder.decode(datum)?.key(&schema)), message.key);
        assert!(message.headers["version"].parse::<i64>()? > 0);
        keys.insert(message.key.clone().context("a key")?);
    }
    assert_eq!(keys, wanted.keys().cloned().collect::<BTreeSet<_>>());
    println!(
        "{} messages for {} keys: {} repeats",
        messages.len(),
        keys.len(),
        messages.len() - keys.len()
    );

    // And the status tells it: the totals, and the last run
    let fetched = i64::try_from(wanted.len())?;
    eventually("the totals", SOON, async || {
        let totals = world
            .get()
            .await?
            .status
            .unwrap_or_default()
            .totals
            .map(|t| (t.fetched, t.dead_lettered));
        Ok(if totals == Some((fetched, 0)) {
            Ok(())
        } else {
            Err(format!("{totals:?}"))
        })
    })
    .await?;
    let status = world.get().await?.status.context("a status")?;
    assert_eq!(
        status.last_run.map(|run| (run.outcome, run.rejected)),
        Some(("Succeeded".to_owned(), 0))
    );
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_no_record_becomes_a_dead_letter_and_the_worker_goes_on() -> Result<()> {
    // Given a ready pipeline
    let world = World::new("garbage").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    let topic = names::topic(&world.id());

    // When garbage is on the topic, then records
    stores::produce(
        &topic,
        vec![
            ("who".into(), b"{\"not\": \"avro\"}".to_vec(), Some(1)),
            ("what".into(), vec![0, 0xff, 0xff, 0xff, 0xff, 1], Some(1)),
        ],
    )
    .await?;
    world.run("after-garbage").await?;
    drained(&world, 200).await?;

    // Then the garbage is in the dead-letter topic, untouched, with its origin and the error
    let letters = stores::topic(&names::dead_letter_topic(&topic)).await?;
    assert_eq!(letters.len(), 2, "{letters:?}");
    let letter = letters
        .iter()
        .find(|l| l.key.as_deref() == Some("who"))
        .context("the first message")?;
    assert_eq!(letter.payload, b"{\"not\": \"avro\"}");
    assert_eq!(letter.headers["dlq.origin.topic"], topic);
    assert!(letter.headers["dlq.origin.partition"].parse::<i32>().is_ok() && letter.headers["dlq.origin.offset"].parse::<i64>().is_ok());
    assert!(letter.headers["dlq.error.message"].contains("0x00"), "{:?}", letter.headers);
    assert_eq!(letter.headers["version"], "1");

    // And the records are stored, and the status counts both
    let db = stores::postgres(&world.client).await?;
    let wanted = expected::rows(&source::served_users(&world.seed).await?)?;
    assert_same(
        "PostgreSQL's table",
        &stores::postgres_rows(&db, &names::postgres_table(&world.id())).await?,
        &wanted,
    );
    assert_eq!(world.get().await?.status.and_then(|s| s.totals).map(|t| t.dead_lettered), Some(2));
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_take_effect_and_a_changed_cron_does_not_roll_the_workers() -> Result<()> {
    // Given a ready pipeline
    let world = World::new("edits").await?;
    let mut pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;
    let before: BTreeSet<_> = world.pods("worker").await?.iter().map(ResourceExt::uid).collect();

    // When the cron changes
    pipeline["spec"]["schedule"]["cron"] = json!("30 4 * * *");
    world.apply(&pipeline).await?;
    world.ready().await?;

    // Then the CronJob has it, and the workers are the same pods
    let cron_job: CronJob = world.api().get(&names::cron_job("users")).await?;
    assert_eq!(cron_job.spec.context("a spec")?.schedule, "30 4 * * *");
    assert_eq!(
        world.pods("worker").await?.iter().map(ResourceExt::uid).collect::<BTreeSet<_>>(),
        before
    );

    // When the replicas change, Then there are as many workers, the old ones among them
    pipeline["spec"]["workers"] = json!({"replicas": 2});
    world.apply(&pipeline).await?;
    world.ready().await?;
    assert_eq!(
        world.get().await?.status.and_then(|s| s.workers).map(|w| w.summary),
        Some("2/2".to_owned())
    );
    assert!(
        world
            .pods("worker")
            .await?
            .iter()
            .map(ResourceExt::uid)
            .collect::<BTreeSet<_>>()
            .is_superset(&before)
    );

    // When the batch changes, Then the workers are replaced by ones that have it
    pipeline["spec"]["workers"]["batch"] = json!({"maxRecords": 17});
    world.apply(&pipeline).await?;
    world.ready().await?;
    eventually("workers with the new batch only", SOON, async || {
        let pods = world.pods("worker").await?;
        let old = pods.iter().filter(|pod| before.contains(&pod.uid())).count();
        Ok(if old == 0 && pods.len() == 2 {
            Ok(())
        } else {
            Err(format!("{old} of {} are old", pods.len()))
        })
    })
    .await?;
    let mounted = config_map_of(&world.pods("worker").await?[0]).context("a ConfigMap")?;
    let document = world.api::<ConfigMap>().get(&mounted).await?.data.unwrap_or_default();
    assert!(document["pipeline.yaml"].contains("maxRecords: 17"), "{document:?}");

    // And what is on its way still arrives
    world.run("after-edits").await?;
    drained(&world, 200).await?;
    world.leave().await
}

fn config_map_of(pod: &Pod) -> Option<String> {
    pod.spec
        .as_ref()?
        .volumes
        .iter()
        .flatten()
        .find_map(|volume| volume.config_map.as_ref().map(|c| c.name.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_pipeline_stops_and_goes_on_where_it_was() -> Result<()> {
    // Given a pipeline that has stored its first run
    let world = World::new("suspend").await?;
    let mut pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.run("before").await?;
    drained(&world, 200).await?;
    let stored = world.get().await?.status.and_then(|s| s.totals).context("totals")?.stored;

    // When it is suspended
    pipeline["spec"]["suspend"] = json!(true);
    world.apply(&pipeline).await?;
    world.condition("Suspended", "True", SOON).await?;

    // Then no worker is left, the schedule is stopped, and that is Ready
    assert_eq!(world.pods("worker").await?.len(), 0);
    assert_eq!(
        world
            .api::<CronJob>()
            .get(&names::cron_job("users"))
            .await?
            .spec
            .and_then(|s| s.suspend),
        Some(true)
    );
    world.ready().await?;

    // When it resumes
    pipeline["spec"]["suspend"] = json!(false);
    world.apply(&pipeline).await?;
    world.condition("Suspended", "False", SOON).await?;
    world.ready().await?;

    // Then it goes on where it was: nothing is stored twice, new records arrive
    pipeline["spec"]["source"]["http"]["query"][1]["value"] = json!(format!("{}-2", world.seed));
    world.apply(&pipeline).await?;
    world.ready().await?;
    world.run("after").await?;
    drained(&world, stored + 200).await?;
    assert_eq!(
        world.get().await?.status.and_then(|s| s.totals).map(|t| t.stored),
        Some(stored + 200)
    );
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named_and_making_it_is_enough() -> Result<()> {
    // Given a namespace without credentials
    let world = World::without_secrets("missing").await?;

    // When the pipeline is applied, Then the condition names Secret and key
    world.apply(&world.pipeline()).await?;
    let (reason, message) = world
        .condition_where("Ready", "False", SOON, |_, message| message.contains("postgres-credentials"))
        .await?;
    assert_eq!(reason, "CredentialsMissing");
    assert!(
        message.contains("`postgres-credentials`") && message.contains("`username`"),
        "{message}"
    );

    // When the Secrets are made, Then the pipeline becomes ready by itself
    world.give_credentials().await?;
    world.condition("Ready", "True", Duration::from_secs(240)).await?;
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_password_is_named_and_mending_the_secret_is_enough() -> Result<()> {
    // Given a ready pipeline
    let world = World::new("password").await?;
    let pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;

    // When Cassandra's password is wrong and the worker starts anew
    world.set_secret("cassandra-credentials", "userpipeline", "wrong").await?;
    for pod in world.pods("worker").await? {
        world.kill(&pod.name_any()).await?;
    }

    // Then the condition names the Secret, and the worker does not crash
    let (reason, message) = world
        .condition_where("WorkersReady", "False", SOON, |_, message| {
            message.contains("cassandra-credentials")
        })
        .await?;
    assert_eq!(reason, "CredentialsRefused");
    assert!(message.contains("password"), "{message}");
    let restarts: i32 = world
        .pods("worker")
        .await?
        .iter()
        .flat_map(|p| p.status.iter().flat_map(|s| s.container_statuses.iter().flatten()))
        .map(|c| c.restart_count)
        .sum();
    assert_eq!(restarts, 0);

    // When only the Secret is mended, Then the pipeline is ready again
    world.give_credentials().await?;
    world.condition("Ready", "True", Duration::from_secs(240)).await?;
    world.run("mended").await?;
    drained(&world, 200).await?;
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_spec_names_the_field_while_the_old_children_keep_running() -> Result<()> {
    // Given a ready pipeline
    let world = World::new("invalid").await?;
    let mut pipeline = world.pipeline();
    world.apply(&pipeline).await?;
    world.ready().await?;
    let workers: BTreeSet<_> = world.pods("worker").await?.iter().map(ResourceExt::uid).collect();

    // When its cron and zone make no sense
    for (field, value) in [("cron", "61 * * * *"), ("timeZone", "Mars/Olympus")] {
        let mut broken = pipeline.clone();
        broken["spec"]["schedule"][field] = json!(value);
        world.apply(&broken).await?;

        // Then the condition names the field, for good
        let (reason, message) = world.condition("Ready", "False", SOON).await?;
        assert_eq!(reason, "InvalidSpec");
        assert!(message.contains(&format!("spec.schedule.{field}")), "{message}");
        world.condition("Stalled", "True", SOON).await?;

        // And the last good children keep running
        let cron_job: CronJob = world.api().get(&names::cron_job("users")).await?;
        assert_eq!(cron_job.spec.context("a spec")?.schedule, "0 0 1 1 *");
        assert_eq!(
            world.pods("worker").await?.iter().map(ResourceExt::uid).collect::<BTreeSet<_>>(),
            workers
        );
    }
    world.run("meanwhile").await?;

    // When it is mended, Then it is ready
    pipeline["spec"]["schedule"]["cron"] = json!("1 0 1 1 *");
    world.apply(&pipeline).await?;
    world.ready().await?;
    drained(&world, 200).await?;
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pipelines_of_one_name_in_two_namespaces_do_not_meet() -> Result<()> {
    // Given two ready pipelines of the same name
    let (one, two) = (World::new("two").await?, World::new("two").await?);
    for world in [&one, &two] {
        world.apply(&world.pipeline()).await?;
    }
    one.ready().await?;
    two.ready().await?;

    // When both run
    tokio::try_join!(one.run("run"), two.run("run"))?;

    // Then each has its own users and no others
    let db = stores::postgres(&one.client).await?;
    let session = stores::cassandra(&one.client).await?;
    for world in [&one, &two] {
        drained(world, 200).await?;
        let (id, wanted) = (world.id(), expected::rows(&source::served_users(&world.seed).await?)?);
        assert_same(
            "PostgreSQL's table",
            &stores::postgres_rows(&db, &names::postgres_table(&id)).await?,
            &wanted,
        );
        assert_same(
            "Cassandra's table",
            &stores::cassandra_rows(&session, &names::keyspace(&id), &names::cassandra_table(&id)).await?,
            &wanted,
        );
    }
    one.leave().await?;
    two.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pipeline_takes_its_children_along_and_leaves_its_data() -> Result<()> {
    // Given a pipeline with data
    let world = World::new("delete").await?;
    world.apply(&world.pipeline()).await?;
    world.ready().await?;
    world.run("run").await?;
    drained(&world, 200).await?;

    // When it is deleted
    world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;

    // Then its children go
    eventually("no child to be left", SOON, async || {
        let all = kube::api::ListParams::default().labels("userpipeline.dev/pipeline=users");
        let left = world.api::<Deployment>().list(&all).await?.items.len()
            + world.api::<CronJob>().list(&all).await?.items.len()
            + world.api::<Job>().list(&all).await?.items.len()
            + world.api::<ConfigMap>().list(&all).await?.items.len()
            + world.api::<PodDisruptionBudget>().list(&all).await?.items.len()
            + world.api::<Pod>().list(&all).await?.items.len();
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} children")) })
    })
    .await?;

    // And its data stays: tables, topic, subject
    let (db, id) = (stores::postgres(&world.client).await?, world.id());
    let wanted = expected::rows(&source::served_users(&world.seed).await?)?;
    assert_same(
        "PostgreSQL's table",
        &stores::postgres_rows(&db, &names::postgres_table(&id)).await?,
        &wanted,
    );
    assert!(stores::topic(&names::topic(&id)).await?.len() >= 200);
    assert!(
        SchemaRegistry::at(host::REGISTRY)?
            .id_of(&names::subject(&names::topic(&id)), &RecordSchema::user().avro_schema())
            .await?
            .is_some()
    );
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_starts_runs_by_itself() -> Result<()> {
    // Given a pipeline that is due each minute
    let world = World::new("schedule").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["schedule"]["cron"] = json!("*/1 * * * *");

    // When it is applied and nothing else is done
    world.apply(&pipeline).await?;

    // Then a run of a full minute ends, and the ledger has it under its scheduled time
    let run = eventually("a scheduled run", Duration::from_secs(180), async || {
        let run = world.get().await?.status.and_then(|s| s.last_run);
        Ok(run
            .filter(|run| run.scheduled_at.is_some())
            .ok_or_else(|| "no scheduled run".to_owned()))
    })
    .await?;
    assert_eq!(run.outcome, "Succeeded", "{run:?}");
    let scheduled = run.scheduled_at.context("a scheduled time")?;
    ensure!(scheduled.0.as_second() % 60 == 0, "{scheduled:?} is no full minute");
    let db = stores::postgres(&world.client).await?;
    let landed = stores::number(
        &db,
        &format!(
            "SELECT landed FROM userpipeline.runs WHERE pipeline = '{}' AND run_id = '{}'",
            world.id(),
            run.run_id.context("an id")?
        ),
    )
    .await?;
    assert_eq!(landed, run.landed);
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_only_fails_makes_a_failed_run_with_a_reason() -> Result<()> {
    // Given a ready pipeline whose source answers 503
    let world = World::new("source").await?;
    let mut pipeline = world.pipeline();
    pipeline["spec"]["schedule"]["backoffLimit"] = json!(0);
    world.apply(&pipeline).await?;
    world.ready().await?;
    source::set_fault(&json!({"kind": "status", "status": 503, "seed": world.seed})).await?;

    // When a run is started, Then it fails, and says why
    world.start_run("hopeless").await?;
    world.finished("hopeless", "Failed").await?;
    let run = eventually("the failed run in the status", SOON, async || {
        Ok(world
            .get()
            .await?
            .status
            .and_then(|s| s.last_run)
            .filter(|run| run.job == "hopeless")
            .ok_or_else(|| "not yet".to_owned()))
    })
    .await?;
    assert_eq!((run.outcome.as_str(), run.reason.as_str()), ("Failed", "SourceFailed"), "{run:?}");
    assert!(run.message.contains("503"), "{run:?}");
    let requests = source::requests(&world.seed).await?;
    assert!(
        requests["faults"].as_i64().is_some_and(|n| n > 1),
        "the fault did not hit, or nothing was tried again: {requests}"
    );

    // And the pipeline itself is still ready
    world.ready().await?;
    world.leave().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_can_be_applied_as_it_stands() -> Result<()> {
    // Given the examples, and the pipeline that the README begins with
    let world = World::new("examples").await?;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = std::fs::read_to_string(root.join("README.md"))?;
    let first = readme
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .context("a pipeline in the README")?;
    let mut examples = vec![("README.md".to_owned(), first.to_owned())];
    for file in std::fs::read_dir(root.join("examples"))? {
        let path = file?.path();
        examples.push((path.display().to_string(), std::fs::read_to_string(&path)?));
    }
    assert!(examples.len() > 1);

    for (file, text) in examples {
        let mut pipeline: serde_json::Value = serde_yaml::from_str(&text).with_context(|| file.clone())?;
        pipeline["metadata"]["namespace"] = json!(world.namespace);

        // When the API server is asked, Then it takes each as it stands
        let dry_run = PatchParams::apply("end-to-end").dry_run();
        world
            .api::<UserPipeline>()
            .patch("users", &dry_run, &Patch::Apply(&pipeline))
            .await
            .with_context(|| file.clone())?;

        // And those for the local cluster become ready, without a run that would mix with somebody's own
        if file != "README.md" {
            pipeline["spec"]["suspend"] = json!(true);
            world.apply(&pipeline).await?;
            world.condition("Suspended", "True", SOON).await?;
            world.ready().await?;
            world.api::<UserPipeline>().delete("users", &DeleteParams::default()).await?;
        }
    }
    world.leave().await
}
