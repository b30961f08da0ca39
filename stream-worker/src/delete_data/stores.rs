//! Deleting from Kafka, Cassandra and the registry, each connected to when something is to be deleted there.

use std::time::Duration;

use userpipeline_api::{document::SchemaPipeline, names};
use userpipeline_stores::{Secrets, StoreError, cassandra, error::GROUP_NOT_EMPTY, kafka::admin::Admin, schema_registry::SchemaRegistry};

use crate::{
    apply_schema::cassandra::{cluster_name, execute, rows},
    claims::{Kind, Thing},
};

/// A worker that was killed stays a member until its session has timed out: longer than that.
const EMPTY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Where the spec leads.
pub struct Stores<'a> {
    pipeline: &'a SchemaPipeline,
    secrets: &'a Secrets,
    kafka: Option<(Admin, String)>,
}

impl<'a> Stores<'a> {
    pub const fn new(pipeline: &'a SchemaPipeline, secrets: &'a Secrets) -> Self {
        Self {
            pipeline,
            secrets,
            kafka: None,
        }
    }

    /// Deletes a thing; `false` when it is in a place where the spec does not lead.
    pub async fn delete(&mut self, thing: &Thing) -> Result<bool, StoreError> {
        match thing.kind {
            Kind::Topic | Kind::Group => {
                let (admin, place) = self.kafka().await?;
                if *place != thing.place {
                    return Ok(false);
                }
                if thing.kind == Kind::Topic {
                    admin.delete_topic(&thing.name).await?;
                } else {
                    delete_group(admin, &thing.name).await?;
                }
            }
            Kind::Subject => {
                let Some(registry) = &self.pipeline.schema_registry else {
                    return Ok(false);
                };
                let registry = SchemaRegistry::at(&registry.url)?;
                if registry.url() != thing.place {
                    return Ok(false);
                }
                registry.delete_subject(&thing.name).await?;
            }
            Kind::CassandraTable => return self.delete_cassandra_table(thing).await,
            // They go together with the bookkeeping.
            Kind::Table => return Ok(false),
        }
        Ok(true)
    }

    async fn kafka(&mut self) -> Result<&(Admin, String), StoreError> {
        let connected = if let Some(connected) = self.kafka.take() {
            connected
        } else {
            let admin = Admin::new(&self.pipeline.kafka.bootstrap_servers, &format!("delete-data {}", self.pipeline.id))?;
            let place = admin.cluster_id().await?;
            (admin, place)
        };
        Ok(self.kafka.insert(connected))
    }

    async fn delete_cassandra_table(&self, thing: &Thing) -> Result<bool, StoreError> {
        let Some(target) = &self.pipeline.cassandra else { return Ok(false) };
        let session = cassandra::connect(&target.cluster, target.consistency, self.secrets).await?;
        let Some((keyspace, table)) = thing.name.split_once('.') else {
            return Ok(false);
        };
        if cluster_name(&session).await? != thing.place {
            return Ok(false);
        }
        let there = rows::<(String,)>(
            &session,
            "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?",
            &[keyspace],
        )
        .await?;
        if there.iter().any(|(name,)| name == table) {
            execute(
                &session,
                &format!("DROP TABLE IF EXISTS \"{keyspace}\".\"{table}\""),
                &format!("deleting {thing}"),
            )
            .await?;
        }
        // A keyspace whose name derives from the pipeline's is its own; any other may be somebody's.
        let alone = there.iter().all(|(name,)| name == table);
        if alone && keyspace == names::keyspace(&self.pipeline.id) {
            execute(
                &session,
                &format!("DROP KEYSPACE IF EXISTS \"{keyspace}\""),
                &format!("deleting keyspace {keyspace}"),
            )
            .await?;
        }
        Ok(true)
    }
}

async fn delete_group(admin: &Admin, group: &str) -> Result<(), StoreError> {
    let until = tokio::time::Instant::now() + EMPTY_WITHIN;
    loop {
        match admin.delete_group(group).await {
            Err(error) if error.reason == GROUP_NOT_EMPTY && tokio::time::Instant::now() < until => {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            result => return result,
        }
    }
}
