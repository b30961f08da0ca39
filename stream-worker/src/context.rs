//! What all parts of a worker share.

use userpipeline_api::document::WorkerPipeline;
use userpipeline_record::{RecordSchema, aggregate::Aggregate};
use userpipeline_stores::{Secrets, kafka, postgres, wire::Wire};

use crate::{heartbeat::Heartbeat, metrics::Metrics, status::Status, wires::wires};

pub struct WorkerContext {
    pub pipeline: WorkerPipeline,
    pub schema: RecordSchema,
    pub aggregates: Vec<Aggregate>,
    pub secrets: Secrets,
    pub kafka: kafka::Connection,
    pub postgres: postgres::Connection,
    /// The mounted files of all stores.
    pub wires: Vec<Wire>,
    /// `stream-worker <pod>`, as brokers and databases show it.
    pub instance: String,
    pub status: Status,
    pub metrics: Metrics,
    pub heartbeat: Heartbeat,
}

impl WorkerContext {
    pub fn new(pipeline: WorkerPipeline, schema: RecordSchema, aggregates: Vec<Aggregate>, secrets: Secrets, instance: &str) -> Self {
        Self {
            kafka: kafka::Connection::new(&pipeline.brokers, &secrets),
            postgres: postgres::Connection::new(&pipeline.postgres, &secrets),
            wires: wires(
                &pipeline.postgres,
                &pipeline.brokers,
                pipeline.registry.as_ref(),
                pipeline.cassandra.as_ref(),
                &secrets,
            ),
            pipeline,
            schema,
            aggregates,
            secrets,
            instance: format!("stream-worker {instance}"),
            status: Status::default(),
            metrics: Metrics::new(),
            heartbeat: Heartbeat::default(),
        }
    }
}
