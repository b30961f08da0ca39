//! Deletes from Kafka, the registry and the sinks. Each is connected to only where it has something to delete.

use std::time::Duration;

use userpipeline_api::{StoreObject, StoreObjectKind, document::SchemaPipeline};
use userpipeline_stores::{
    Secrets, StoreError,
    error::GROUP_NOT_EMPTY,
    kafka::{self, admin::Admin},
    schema_registry,
};

use crate::{
    claims::{Kind, Resource},
    created_objects::is_same,
    sinks::{self, Sink},
};

/// Longer than the session timeout, until which a killed worker is a member.
const EMPTY_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The stores of the spec.
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

    /// Deletes a resource; false where the spec does not lead to its place.
    pub async fn delete(&mut self, resource: &Resource) -> Result<bool, StoreError> {
        match resource.kind {
            Kind::Topic | Kind::Group => {
                let (admin, place) = self.kafka().await?;
                if *place != resource.place {
                    return Ok(false);
                }
                if resource.kind == Kind::Topic {
                    admin.delete_topic(&resource.name).await?;
                } else {
                    delete_group(admin, &resource.name).await?;
                }
            }
            Kind::Subject => {
                let Some(registry) = &self.pipeline.schema_registry else {
                    return Ok(false);
                };
                let registry = schema_registry::Connection::new(registry, self.secrets).connect()?;
                let subject = |url: &str| StoreObject::new(StoreObjectKind::Subject, url, &resource.name);
                if !is_same(&subject(registry.url()), &subject(&resource.place)) {
                    return Ok(false);
                }
                registry.delete_subject(&resource.name).await?;
            }
            // Tables in PostgreSQL are deleted together with the bookkeeping.
            Kind::CassandraTable | Kind::Table => return self.delete_from_sink(resource).await,
        }
        Ok(true)
    }

    async fn delete_from_sink(&self, resource: &Resource) -> Result<bool, StoreError> {
        let deleting = |sink: &&'static dyn Sink| sink.delete(resource, self.pipeline, self.secrets);
        match sinks::ALL.iter().find_map(deleting) {
            Some(deleting) => deleting.await,
            None => Ok(false),
        }
    }

    async fn kafka(&mut self) -> Result<&(Admin, String), StoreError> {
        let connected = if let Some(connected) = self.kafka.take() {
            connected
        } else {
            let connection = kafka::Connection::new(&self.pipeline.kafka.brokers(), self.secrets);
            let admin = Admin::connect(&connection, &format!("delete-data {}", self.pipeline.id)).await?;
            let place = admin.cluster_id().await?;
            (admin, place)
        };
        Ok(self.kafka.insert(connected))
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
