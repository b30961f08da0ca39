//! Pipelines whose Kafka cluster Strimzi runs. The local operator may use one cluster, so this is one story.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, TypeMeta},
};
use serde_json::{Value, json};
use userpipeline_api::{UserPipeline, UserPipelineConnection, topic_id};
use userpipeline_tests::{
    cluster::{self, OPERATOR_NAMESPACE},
    eventually,
    guide::operator_program,
    strimzi::{
        Installation, KafkaResource,
        model::read_strictly,
        resources::{self, AuthenticationType, CLUSTER_LABEL},
    },
    world::SOON,
};

use crate::story::{CLUSTER, NAMESPACE, PREFIX, Story, USERS, listener, pipeline};

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_uses_a_kafka_cluster_of_strimzi_from_creation_to_deletion() -> Result<()> {
    // Before any timeout starts: a first build takes minutes.
    tokio::task::spawn_blocking(operator_program).await??;
    // Given a Kafka cluster of Strimzi, as the guide declares it, which the local operator may use
    let client = cluster::connect().await?;
    let strimzi = Installation::start_in(&client, NAMESPACE, CLUSTER, PREFIX).await?;
    let user_operator = Installation::start_in(&client, USERS, CLUSTER, PREFIX).await?;
    let story = Story::new().await?;
    let declared = story.page.lock().await.create_kafka(&client).await?;
    KafkaResource::create(&client, NAMESPACE, CLUSTER).await?;
    story.page.lock().await.assert_values().await?;
    // Of a story that failed.
    if story.own.api::<UserPipeline>().get_opt("users").await?.is_some() {
        story.delete(&story.own).await?;
    }

    a_pipeline_has_topics_and_a_user_of_its_own(&story, &declared).await?;
    a_topic_that_was_created_again_waits_to_be_accepted(&story).await?;
    a_pipeline_logs_in_with_a_certificate_when_its_listener_requires_one(&story).await?;
    a_foreign_resource_is_never_changed(&story).await?;
    an_adopted_topic_keeps_its_settings(&story).await?;
    a_restarted_operator_writes_nothing(&story).await?;
    what_the_pipeline_created_is_deleted_with_it(&story).await?;

    story.page.into_inner().assert_followed()?;
    user_operator.clean_up().await?;
    strimzi.clean_up().await?;
    story.other.clean_up().await
}

async fn a_pipeline_has_topics_and_a_user_of_its_own(story: &Story, declared: &Value) -> Result<()> {
    // Given the connection of the guide
    let (world, topic) = (&story.own, story.topic("data"));
    let mut page = story.page.lock().await;
    story.connect(world, &page.connection()?["spec"]["kafka"]).await?;
    let found = page.run("kubectl get upc").await?;
    ensure!(found.contains("bootstrapServers") && found.contains("BEGIN CERTIFICATE"), "{found}");

    // When a pipeline that uses it is planned, Then its topics and its user would be created, and are not
    let pipeline = pipeline(world, &topic);
    page.write("pipeline.yaml", &pipeline)?;
    let plan = page.run("userpipeline-operator plan").await?;
    for line in [
        format!("+ KafkaTopic {topic}"),
        format!("+ KafkaTopic {topic}.dlq"),
        "+ KafkaUser users-kafka-".to_owned(),
    ] {
        ensure!(plan.contains(&line), "{line} in {plan}");
    }
    ensure!(story.resource(&topic).await?.is_none(), "a plan creates nothing");

    // When it is applied, Then it becomes ready
    page.run("kubectl apply").await?;
    world.ready().await?;
    let found = page.run("kubectl get userpipelines,kafkausers").await?;
    ensure!(found.contains("kafkauser.kafka.strimzi.io/users-kafka-"), "{found}");
    let found = page.run("kubectl get kafkatopics").await?;
    ensure!(found.contains(&topic), "{found}");
    drop(page);
    nothing_is_planned_but_what_changes(story, &pipeline, &topic).await?;

    // Then its topics are KafkaTopics of the cluster, without an owner that could delete them
    for name in [&topic, &format!("{topic}.dlq")] {
        let resource = story.resource(name).await?.with_context(|| format!("a KafkaTopic of {name}"))?;
        ensure!(resource.labels().get(CLUSTER_LABEL).is_some_and(|cluster| cluster == CLUSTER));
        ensure!(resource.owner_references().is_empty(), "{:?}", resource.owner_references());
        ensure!(story.admin.topic(name).await?.is_some(), "{name} is in Kafka");
    }

    // And records go all the way as its user, whom nothing else is granted
    let run = world.start_run("users-first").await?;
    world.finished(&run, "Complete").await?;
    world.drained(1).await?;
    let users = story.users.list(&ListParams::default()).await?.items;
    ensure!(users.len() == 1, "{} users", users.len());
    let rules = users[0].spec.authorization.clone().context("ACLs")?.acls;
    let names: Vec<_> = rules.iter().filter_map(|rule| rule.resource.name.clone()).collect();
    ensure!(names.iter().all(|name| name.starts_with(&topic)), "{names:?}");

    // And Strimzi's own model knows all that was written
    let folder = tempfile::tempdir()?;
    let mut written = Vec::new();
    for (kind, namespace) in [("KafkaUser", USERS), ("KafkaTopic", NAMESPACE)] {
        let resource = resources::resource(&world.client, kind).await?;
        let all: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), namespace, &resource);
        for mut object in all.list(&ListParams::default()).await?.items {
            object.metadata.managed_fields = None;
            object.types = Some(TypeMeta {
                api_version: resource.api_version.clone(),
                kind: resource.kind.clone(),
            });
            written.push(object);
        }
    }
    let file = folder.path().join("written.yaml");
    let mut documents: Vec<String> = written.iter().map(serde_yaml::to_string).collect::<Result<_, _>>()?;
    documents.push(serde_yaml::to_string(declared)?);
    fs::write(&file, documents.join("---\n"))?;
    read_strictly(&[file])
}

async fn nothing_is_planned_but_what_changes(story: &Story, pipeline: &Value, topic: &str) -> Result<()> {
    let page = story.page.lock().await;
    let plan = "userpipeline-operator plan -f pipeline.yaml";
    eventually("a plan without changes", SOON, async || {
        Ok(page.shell.run(plan).await.map(drop).map_err(|error| format!("{error:#}")))
    })
    .await?;
    let mut more = pipeline.clone();
    more["spec"]["kafka"]["topic"]["partitions"] = json!(4);
    page.write("pipeline.yaml", &more)?;
    let planned = page.shell.run(&format!("{plan} || test $? = 1")).await?;
    ensure!(planned.contains(&format!("~ KafkaTopic {topic}")), "{planned}");
    ensure!(!planned.contains("KafkaUser"), "{planned}");
    Ok(())
}

async fn a_topic_that_was_created_again_waits_to_be_accepted(story: &Story) -> Result<()> {
    // When somebody deletes the topic in Kafka, and Strimzi creates it again
    let (world, topic) = (&story.own, story.topic("data"));
    story.admin.delete_topic(&topic).await?;

    // Then the pipeline is not Ready, and says how to accept the new one
    let (_, message) = world
        .condition_where("TopicReady", "False", SOON, |reason, _| reason == "TopicReplaced")
        .await?;
    let id = topic_id(&story.admin.topic(&topic).await?.context("the topic")?.id);
    ensure!(message.contains(&id) && message.contains("accept-topic"), "{message}");

    // And when its id is accepted, records of the next run are stored
    story
        .page
        .lock()
        .await
        .run_with("kubectl annotate", ("=ID", &format!("={id}")))
        .await?;
    world.ready().await?;
    records_go_all_the_way(story, "second").await
}

/// Other records than those of earlier runs.
async fn records_go_all_the_way(story: &Story, run: &str) -> Result<()> {
    let world = &story.own;
    let mut changed = pipeline(world, &story.topic("data"));
    changed["spec"]["source"]["http"]["query"][1]["value"] = json!(format!("{}-{run}", world.seed));
    world.apply(&changed).await?;
    world.ready().await?;
    let status = world.get().await?.status.unwrap_or_default();
    let stored = status.totals.map_or(0, |totals| totals.stored);
    let run = world.start_run(&format!("users-{run}")).await?;
    world.finished(&run, "Complete").await?;
    world.drained(stored + 1).await
}

async fn a_pipeline_logs_in_with_a_certificate_when_its_listener_requires_one(story: &Story) -> Result<()> {
    // When the connection has the listener that authenticates clients by certificates
    story.connect(&story.own, &listener("mutual", &json!({"strimziUser": {}}))).await?;

    // Then the pipeline has a user with a certificate instead of the one with a password
    eventually("only a user with a certificate", SOON, async || {
        let users = story.users.list(&ListParams::default()).await?.items;
        let types: Vec<_> = { users.iter() }
            .filter_map(|user| Some(user.spec.authentication.as_ref()?.kind))
            .collect();
        Ok(if types == [AuthenticationType::Tls] {
            Ok(())
        } else {
            Err(format!("{types:?}"))
        })
    })
    .await?;
    story.own.ready().await?;

    // And records go all the way as that user
    records_go_all_the_way(story, "third").await
}

async fn a_foreign_resource_is_never_changed(story: &Story) -> Result<()> {
    // Given a KafkaTopic of another team
    let (world, topic) = (&story.other, story.topic("payments"));
    let version = resources::resource(&world.client, "KafkaTopic").await?.api_version;
    let foreign = json!({
        "apiVersion": version, "kind": "KafkaTopic", "metadata": {"name": topic, "labels": {CLUSTER_LABEL: CLUSTER}},
        "spec": {"partitions": 1, "replicas": 1, "config": {"retention.ms": 123_456}}
    });
    let by = PatchParams::apply("another-team");
    let before = story.topics.patch(&topic, &by, &Patch::Apply(&foreign)).await?;

    // When a pipeline names its topic, Then it is refused, also where it would adopt topics
    let credentials = json!({"scramSha512": {"credentialsSecretRef": {"name": "kafka-credentials"}}});
    story.connect(world, &listener("tls", &credentials)).await?;
    let mut refused = pipeline(world, &topic);
    refused["spec"]["kafka"]["topic"]["adopt"] = json!(true);
    world.apply(&refused).await?;
    world
        .condition_where("TopicReady", "False", SOON, |reason, _| reason == "NotOurs")
        .await?;
    story.delete(world).await?;
    let after = story.topics.get(&topic).await?;
    ensure!(
        after.metadata.generation == before.metadata.generation,
        "the KafkaTopic was changed"
    );
    story.topics.delete(&topic, &DeleteParams::default()).await?;
    Ok(())
}

async fn an_adopted_topic_keeps_its_settings(story: &Story) -> Result<()> {
    // Given a topic with settings of its own, and without a resource
    let (world, topic) = (&story.other, story.topic("adopted"));
    let settings = BTreeMap::from([("retention.ms", "123456789"), ("min.cleanable.dirty.ratio", "0.4")]);
    let settings: BTreeMap<String, String> = settings
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    story.admin.create(&topic, 4, 1, &settings).await?;

    // When a pipeline names it, Then it is left alone until the pipeline adopts it
    let mut adopting = pipeline(world, &topic);
    world.apply(&adopting).await?;
    world
        .condition_where("TopicReady", "False", SOON, |reason, _| reason == "TopicNotCreated")
        .await?;
    adopting["spec"]["kafka"]["topic"]["adopt"] = json!(true);
    world.apply(&adopting).await?;
    world.ready().await?;

    // Then Strimzi has removed none of its settings
    let found = story.admin.config(&topic).await?;
    for (name, value) in &settings {
        ensure!(found.get(name) == Some(value), "{name}: {:?}", found.get(name));
    }
    let partitions = story.admin.topic(&topic).await?.context("the topic")?.partitions;
    ensure!(partitions == 4, "{partitions} partitions");
    Ok(())
}

/// The version of every object that the operator wrote for Strimzi.
async fn versions(story: &Story) -> Result<BTreeMap<String, Option<String>>> {
    let mut found = BTreeMap::new();
    let all = ListParams::default();
    found.extend(
        story
            .topics
            .list(&all)
            .await?
            .items
            .iter()
            .map(|topic| (topic.name_any(), topic.resource_version())),
    );
    found.extend(
        story
            .users
            .list(&all)
            .await?
            .items
            .iter()
            .map(|user| (user.name_any(), user.resource_version())),
    );
    for world in [&story.own, &story.other] {
        let connection = world.api::<UserPipelineConnection>().get("stores").await?;
        found.insert(format!("{}/stores", world.namespace), connection.resource_version());
        for config_map in world.api::<k8s_openapi::api::core::v1::ConfigMap>().list(&all).await?.items {
            found.insert(
                format!("{}/{}", world.namespace, config_map.name_any()),
                config_map.resource_version(),
            );
        }
    }
    Ok(found)
}

async fn a_restarted_operator_writes_nothing(story: &Story) -> Result<()> {
    // Given pipelines that are Ready, and what was written for them
    story.own.ready().await?;
    story.other.ready().await?;
    let before = versions(story).await?;

    // When the operator is killed, and its successor reconciles
    let pods: Api<Pod> = Api::namespaced(story.own.client.clone(), OPERATOR_NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/name=userpipeline-operator");
    let old: Vec<String> = pods.list(&selector).await?.iter().map(ResourceExt::name_any).collect();
    for name in &old {
        pods.delete(name, &DeleteParams::default().grace_period(0)).await?;
    }
    eventually("the successor to be Ready", SOON, async || {
        let all = pods.list(&selector).await?.items;
        let is_ready = |pod: &Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
        };
        let successor = all.iter().find(|pod| !old.contains(&pod.name_any()) && is_ready(pod));
        Ok(successor.map(|_| ()).ok_or_else(|| format!("{} pods", all.len())))
    })
    .await?;
    // It has reconciled once it follows a change.
    let suspend = |suspend: bool| Patch::Merge(json!({"spec": {"suspend": suspend}}));
    let pipelines = story.other.api::<UserPipeline>();
    pipelines.patch("users", &PatchParams::default(), &suspend(true)).await?;
    story.other.condition("Suspended", "True", SOON).await?;

    // Then what Strimzi reads is as before
    let of_strimzi =
        |all: BTreeMap<String, Option<String>>| all.into_iter().filter(|(name, _)| !name.contains('/') || name.ends_with("/stores"));
    let (before, after): (BTreeMap<_, _>, BTreeMap<_, _>) = (of_strimzi(before).collect(), of_strimzi(versions(story).await?).collect());
    ensure!(before == after, "{before:#?} {after:#?}");
    Ok(())
}

async fn what_the_pipeline_created_is_deleted_with_it(story: &Story) -> Result<()> {
    // When both pipelines are deleted with their data
    story.delete(&story.own).await?;
    story.delete(&story.other).await?;

    // Then topics and KafkaUser of the first are gone, and the adopted topic is not
    for name in ["data", "data.dlq", "adopted.dlq"] {
        let topic = story.topic(name);
        ensure!(story.resource(&topic).await?.is_none(), "the KafkaTopic of {topic}");
        ensure!(story.admin.topic(&topic).await?.is_none(), "{topic}");
    }
    let adopted = story.topic("adopted");
    ensure!(story.resource(&adopted).await?.is_some(), "the KafkaTopic of {adopted}");
    ensure!(story.admin.topic(&adopted).await?.is_some(), "{adopted}");
    eventually("the KafkaUser to be gone", SOON, async || {
        let left = story.users.list(&ListParams::default()).await?.items.len();
        Ok(if left == 0 { Ok(()) } else { Err(format!("{left} users")) })
    })
    .await?;
    story
        .topics
        .delete(
            &story.resource(&adopted).await?.context("a name")?.name_any(),
            &DeleteParams::default(),
        )
        .await?;
    eventually("the adopted topic to be gone", SOON, async || {
        Ok(story
            .resource(&adopted)
            .await?
            .map_or(Ok(()), |left| Err(format!("{:?}", left.status))))
    })
    .await
}
