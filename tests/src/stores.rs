//! Plain clients and queries for the stores.

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
    consumer::{BaseConsumer, Consumer},
    message::{Header, Headers, OwnedHeaders},
    metadata::MetadataTopic,
    producer::{FutureProducer, FutureRecord},
};
use scylla::client::{session::Session, session_builder::SessionBuilder};
use tokio_postgres::NoTls;

use crate::{
    cluster::{SERVICES, credentials, host},
    expected::{COLUMNS, Row, Rows},
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
    let (user, password) = credentials(client, SERVICES, secret).await?;
    let mut config = tokio_postgres::Config::new();
    config
        .host(host::POSTGRES.0)
        .port(host::POSTGRES.1)
        .dbname("userpipeline")
        .user(user)
        .password(password)
        .connect_timeout(TIMEOUT);
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Connects with the role of the pipelines.
pub async fn cassandra(client: &Client) -> Result<Session> {
    let (user, password) = credentials(client, SERVICES, "cassandra-userpipeline").await?;
    // The node advertises the address of its pod, which is not reachable from outside the cluster.
    let pod = Api::<Pod>::namespaced(client.clone(), SERVICES).get("cassandra-0").await?;
    let address: IpAddr = pod.status.and_then(|s| s.pod_ip).context("Cassandra's address")?.parse()?;
    let published: SocketAddr = host::CASSANDRA.parse()?;
    let translation = HashMap::from([(SocketAddr::new(address, published.port()), published)]);
    let builder = SessionBuilder::new()
        .known_node(host::CASSANDRA)
        .user(user, password)
        .connection_timeout(TIMEOUT);
    Ok(builder.address_translator(Arc::new(translation)).build().await?)
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

#[derive(Clone, Debug)]
pub struct TopicMessage {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub payload: Vec<u8>,
    pub headers: BTreeMap<String, String>,
}

pub fn topics() -> Result<Vec<String>> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", host::KAFKA).create()?;
    let metadata = consumer.fetch_metadata(None, TIMEOUT)?;
    Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
}

/// All current messages of a topic.
pub async fn messages(name: &str) -> Result<Vec<TopicMessage>> {
    let name = name.to_owned();
    tokio::task::spawn_blocking(move || read_messages(&name)).await?
}

fn read_messages(name: &str) -> Result<Vec<TopicMessage>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", host::KAFKA)
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
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", host::KAFKA)
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
