//! What all parts of a worker share.

use userpipeline_api::document::WorkerPipeline;
use userpipeline_record::RecordSchema;
use userpipeline_stores::{Secrets, kafka, postgres};

use crate::{heartbeat::Heartbeat, metrics::Metrics, status::Status};

pub struct WorkerContext {
    pub pipeline: WorkerPipeline,
    pub schema: RecordSchema,
    pub secrets: Secrets,
    pub kafka: kafka::Connection,
    pub postgres: postgres::Connection,
    /// This worker's name, as brokers and databases show it.
    pub instance: String,
    pub status: Status,
    pub metrics: Metrics,
    pub heartbeat: Heartbeat,
}

impl WorkerContext {
    pub fn new(pipeline: WorkerPipeline, schema: RecordSchema, secrets: Secrets, instance: &str) -> Self {
        Self {
            kafka: kafka::Connection::new(&pipeline.bootstrap_servers),
            postgres: postgres::Connection::new(&pipeline.postgres, &secrets),
            pipeline,
            schema,
            secrets,
            instance: format!("stream-worker {instance}"),
            status: Status::default(),
            metrics: Metrics::new(),
            heartbeat: Heartbeat::default(),
        }
    }
}
