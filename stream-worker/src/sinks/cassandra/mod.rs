//! The table in Cassandra.

mod cluster;
mod delete;
mod health;
mod requests;
mod retention;
mod schema;
mod session;
mod totals;
mod values;
mod write;

use futures::future::LocalBoxFuture;
use userpipeline_api::{StoreIdentity, document::SchemaPipeline};
use userpipeline_record::aggregate::Aggregate;
use userpipeline_stores::{Secrets, StoreError};

use self::cluster::connection;
pub use self::{
    totals::{apply_mirrors, mirror_target},
    write::CassandraWriter,
};
use super::sink::{SchemaTask, Sink, SinkWriter};
use crate::{
    claims::{Claims, Kind, Resource},
    context::WorkerContext,
};

/// A writer of the totals of an aggregate. None where Cassandra does not have them.
pub fn mirror_writer(context: &WorkerContext, aggregate: &Aggregate) -> Option<CassandraWriter> {
    let target = mirror_target(context.pipeline.cassandra.as_ref()?, aggregate)?;
    let connection = connection(&target, &context.secrets);
    Some(CassandraWriter::new(target, connection, aggregate.mirror_schema()?))
}

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
