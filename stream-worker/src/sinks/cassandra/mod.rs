//! The table in Cassandra.

mod cluster;
mod delete;
mod health;
mod requests;
mod retention;
mod schema;
mod session;
mod values;
mod write;

use futures::future::LocalBoxFuture;
use userpipeline_api::{StoreIdentity, document::SchemaPipeline};
use userpipeline_stores::{Secrets, StoreError};

use self::{cluster::connection, write::CassandraWriter};
use super::sink::{SchemaTask, Sink, SinkWriter};
use crate::{
    claims::{Claims, Kind, Resource},
    context::WorkerContext,
};

pub struct Cassandra;

impl Sink for Cassandra {
    fn name(&self) -> &'static str {
        "cassandra"
    }

    fn writer(&self, context: &WorkerContext) -> Option<Box<dyn SinkWriter>> {
        let target = context.pipeline.cassandra.as_ref()?;
        let writer = CassandraWriter::new(target.clone(), connection(target, &context.secrets), context.schema.clone());
        Some(Box::new(writer))
    }

    fn identify<'a>(&'a self, task: &'a SchemaTask<'a>) -> Option<LocalBoxFuture<'a, Result<StoreIdentity, StoreError>>> {
        let target = task.pipeline.cassandra.as_ref()?;
        Some(Box::pin(schema::identify(target, task.secrets)))
    }

    fn apply_schema<'a>(
        &'a self,
        task: &'a SchemaTask<'a>,
        claims: &'a Claims,
    ) -> Option<(&'static str, LocalBoxFuture<'a, Result<(), StoreError>>)> {
        Some(("Cassandra", Box::pin(schema::apply(task, claims))))
    }

    fn delete<'a>(
        &'a self,
        resource: &'a Resource,
        pipeline: &'a SchemaPipeline,
        secrets: &'a Secrets,
    ) -> Option<LocalBoxFuture<'a, Result<bool, StoreError>>> {
        (resource.kind == Kind::CassandraTable)
            .then(|| Box::pin(delete::delete_table(resource, pipeline, secrets)) as LocalBoxFuture<'a, _>)
    }
}
