//! Clients of the stores, and queries.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::{Header, Headers, OwnedHeaders},
    metadata::MetadataTopic,
    producer::{FutureProducer, FutureRecord},
};
use scylla::client::{session::Session, session_builder::SessionBuilder};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use userpipeline_api::Kafka;
use userpipeline_stores::{
    kafka::{self, admin::Admin},
    postgres,
    schema_registry::{self, SchemaRegistry},
};

use crate::{
    cluster::{self, SERVICES, credentials, host},
    expected::{COLUMNS, Row, Rows},
    services::{Mounted, WithFiles, blocks},
};

const TIMEOUT: Duration = Duration::from_secs(15);

/// Connects with the role of the pipelines.
pub async fn postgres(client: &Client) -> Result<tokio_postgres::Client> {
    postgres_as(client, "postgres-userpipeline").await
}

pub async fn postgres_superuser(client: &Client) -> Result<tokio_postgres::Client> {
    postgres_as(client, "postgres-superuser").await
}

async fn postgres_as(client: &Client, secret: &str) -> Result<tokio_postgres::Client> {
    let mounted = Mounted::new(client, &[secret]).await?;
    let mut server = blocks()["postgres"].take();
    server["host"] = json!(host::POSTGRES.0);
    server["port"] = json!(host::POSTGRES.1);
    server["credentialsSecretRef"]["name"] = json!(secret);
    let connection = postgres::Connection::new(&serde_json::from_value(server)?, &mounted.secrets());
    Ok(connection.connect("end-to-end").await?)
}

/// Connects with the role of the pipelines.
pub async fn cassandra(client: &Client) -> Result<Session> {
    cassandra_as(client, "cassandra-userpipeline").await
}

pub async fn cassandra_superuser(client: &Client) -> Result<Session> {
    cassandra_as(client, "cassandra-superuser").await
}

async fn cassandra_as(client: &Client, secret: &str) -> Result<Session> {
    let (user, password) = credentials(client, SERVICES, secret).await?;
    // The node advertises the address of its pod, which is not reachable from outside the cluster.
    let pod = Api::<Pod>::namespaced(client.clone(), SERVICES).get("cassandra-0").await?;
    let address: IpAddr = pod.status.and_then(|s| s.pod_ip).context("Cassandra's address")?.parse()?;
    let published: SocketAddr = host::CASSANDRA.parse()?;
    let translation = HashMap::from([(SocketAddr::new(address, published.port()), published)]);
    let tls = Mounted::new(client, &[]).await?.client_config(Some("localhost"))?;
    let builder = SessionBuilder::new()
        .known_node(host::CASSANDRA)
        .user(user, password)
        .tls_context(Some(Arc::new(tls)))
        .connection_timeout(TIMEOUT);
    Ok(builder.address_translator(Arc::new(translation)).build().await?)
}

async fn kafka_connection() -> Result<(kafka::Connection, Mounted)> {
    let mounted = Mounted::new(&cluster::connect().await?, &[]).await?;
    let mut cluster = blocks()["kafka"].take();
    cluster["bootstrapServers"] = json!(host::KAFKA);
    let cluster: Kafka = serde_json::from_value(cluster)?;
    Ok((kafka::Connection::new(&cluster.brokers(), &mounted.secrets()), mounted))
}

/// The settings of a client of Kafka, with the user of the pipelines.
pub async fn kafka_config() -> Result<ClientConfig> {
    /// Read once, because some tests make a client many times a second.
    static CONFIG: OnceCell<ClientConfig> = OnceCell::const_new();
    let read = async || {
        let (connection, _mounted) = kafka_connection().await?;
        connection.client_config("end-to-end").map_err(anyhow::Error::from)
    };
    Ok(CONFIG.get_or_try_init(read).await?.clone())
}

/// Kafka's admin API, with the user of the pipelines.
pub async fn kafka_admin() -> Result<WithFiles<Admin>> {
    let (connection, mounted) = kafka_connection().await?;
    Ok(WithFiles::new(Admin::connect(&connection, "end-to-end").await?, mounted))
}

/// The schema registry, with the user of the pipelines.
pub async fn registry() -> Result<WithFiles<SchemaRegistry>> {
    let mounted = Mounted::new(&cluster::connect().await?, &[]).await?;
    let mut registry = blocks()["schemaRegistry"].take();
    registry["url"] = json!(host::REGISTRY);
    let connection = schema_registry::Connection::new(&serde_json::from_value(registry)?, &mounted.secrets());
    Ok(WithFiles::new(connection.connect()?, mounted))
}

/// The answer of the schema registry to a GET.
pub async fn registry_answer(path: &str) -> Result<Value> {
    let client = cluster::connect().await?;
    let (user, password) = credentials(&client, SERVICES, "schema-registry-userpipeline").await?;
    let tls = Mounted::new(&client, &[]).await?.client_config(None)?;
    let http = reqwest::Client::builder().tls_backend_preconfigured(tls).build()?;
    let request = http.get(format!("{}{path}", host::REGISTRY)).basic_auth(user, Some(password));
    Ok(request.send().await?.error_for_status()?.json().await?)
}

pub async fn postgres_rows(db: &tokio_postgres::Client, table: &str) -> Result<Rows> {
    let columns: Vec<String> = COLUMNS
        .iter()
        .map(|(name, time)| {
            if *time {
                format!("(extract(epoch FROM {name}) * 1000)::bigint::text")
            } else {
                format!("{name}::text")
            }
        })
        .collect();
    let rows = db.query(&format!("SELECT {} FROM \"{table}\"", columns.join(", ")), &[]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            COLUMNS
                .iter()
                .enumerate()
                .map(|(i, (name, _))| ((*name).to_owned(), row.get::<_, String>(i)))
                .collect::<Row>()
        })
        .map(|row| (row["id"].clone(), row))
        .collect())
}

/// The result of a query for a single number.
pub async fn number(db: &tokio_postgres::Client, query: &str) -> Result<i64> {
    Ok(db.query_one(query, &[]).await?.get(0))
}

pub async fn cassandra_rows(session: &Session, keyspace: &str, table: &str) -> Result<Rows> {
    use scylla::value::CqlValue;
    let columns: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let result = session
        .query_unpaged(format!("SELECT {} FROM \"{keyspace}\".\"{table}\"", columns.join(", ")), &[])
        .await?
        .into_rows_result()?;
    let mut rows = Rows::new();
    for row in result.rows::<scylla::value::Row>()? {
        let mut found = Row::new();
        for ((name, _), value) in COLUMNS.iter().zip(row?.columns) {
            let text = match value.with_context(|| format!("{name} is null"))? {
                CqlValue::Text(text) => text,
                CqlValue::Uuid(uuid) => uuid.to_string(),
                CqlValue::Timestamp(time) => time.0.to_string(),
                other => bail!("{name} holds {other:?}"),
            };
            found.insert((*name).to_owned(), text);
        }
        rows.insert(found["id"].clone(), found);
    }
    Ok(rows)
}

/// Commits the offset of a consumer group on partition 0 of a topic.
pub async fn commit(group: &str, topic: &str, offset: i64) -> Result<()> {
    let (consumer, mut offsets) = consumer_of(group, topic).await?;
    offsets.set_partition_offset(topic, 0, Offset::Offset(offset))?;
    tokio::task::spawn_blocking(move || Ok(consumer.commit(&offsets, CommitMode::Sync)?)).await?
}

/// The offset of a consumer group on partition 0 of a topic, if it has one.
pub async fn committed(group: &str, topic: &str) -> Result<Option<i64>> {
    let (consumer, offsets) = consumer_of(group, topic).await?;
    let committed = tokio::task::spawn_blocking(move || consumer.committed_offsets(offsets, TIMEOUT)).await??;
    let offset = committed.elements().first().and_then(|partition| partition.offset().to_raw());
    Ok(offset.filter(|offset| *offset >= 0))
}

/// A consumer that is no member of its group, and partition 0 of a topic.
async fn consumer_of(group: &str, topic: &str) -> Result<(BaseConsumer, TopicPartitionList)> {
    let consumer = kafka_config().await?.set("group.id", group).create()?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition(topic, 0);
    Ok((consumer, partitions))
}

#[derive(Clone, Debug)]
pub struct TopicMessage {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub payload: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

pub async fn topics() -> Result<Vec<String>> {
    let config = kafka_config().await?;
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(None, TIMEOUT)?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    })
    .await?
}

/// All current messages of a topic.
pub async fn messages(name: &str) -> Result<Vec<TopicMessage>> {
    let (config, name) = (kafka_config().await?, name.to_owned());
    tokio::task::spawn_blocking(move || read_messages(config, &name)).await?
}

fn read_messages(mut config: ClientConfig, name: &str) -> Result<Vec<TopicMessage>> {
    let consumer: BaseConsumer = config
        .set("group.id", "end-to-end")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(name), TIMEOUT)?;
    let mut expected = TopicPartitionList::new();
    let mut left = 0;
    for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
        let (low, high) = consumer.fetch_watermarks(name, partition.id(), TIMEOUT)?;
        left += high - low;
        expected.add_partition_offset(name, partition.id(), Offset::Beginning)?;
    }
    consumer.assign(&expected)?;
    let mut messages = Vec::new();
    while left > 0 {
        let message = consumer.poll(TIMEOUT).context("the topic's messages")??;
        left -= 1;
        messages.push(TopicMessage {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
            payload: message.payload().unwrap_or_default().to_vec(),
            headers: message
                .headers()
                .into_iter()
                .flat_map(Headers::iter)
                .map(|header| {
                    (
                        header.key.to_owned(),
                        String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned(),
                    )
                })
                .collect(),
        });
    }
    Ok(messages)
}

/// Produces messages (key, value, version) and waits for their acknowledgement.
pub async fn produce(topic: &str, messages: Vec<(String, Vec<u8>, Option<i64>)>) -> Result<()> {
    let messages = messages.into_iter().map(|(key, value, version)| (None, key, Some(value), version));
    produce_to(topic, messages.collect()).await
}

/// Partition, key, value and version of a message; without a partition, the producer chooses one.
pub type Outgoing = (Option<i32>, String, Option<Vec<u8>>, Option<i64>);

/// Like [`produce`], for messages with a partition or without a value.
pub async fn produce_to(topic: &str, messages: Vec<Outgoing>) -> Result<()> {
    let producer: FutureProducer = kafka_config()
        .await?
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("compression.type", "lz4")
        .create()?;
    let deliveries = messages.iter().map(|(partition, key, value, version)| {
        let headers = version
            .map(|v| {
                OwnedHeaders::new().insert(Header {
                    key: "version",
                    value: Some(&v.to_string()),
                })
            })
            .unwrap_or_default();
        let record = FutureRecord {
            partition: *partition,
            payload: value.as_ref(),
            ..FutureRecord::to(topic).key(key).headers(headers)
        };
        producer.send(record, TIMEOUT)
    });
    for delivery in futures::future::join_all(deliveries).await {
        delivery.map_err(|(error, _)| error)?;
    }
    Ok(())
}
