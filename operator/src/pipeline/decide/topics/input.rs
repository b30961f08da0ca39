//! What the decision about topics is made from.

use userpipeline_api::{StoreObject, TopicsStatus, report::InspectionReport};

use crate::{
    pipeline::{
        model::{Owner, StrimziTopics},
        observe::TaskJob,
    },
    strimzi::{KafkaTopic, Objects, Unavailable},
};

#[derive(Clone, Copy, Debug)]
pub struct TopicsInput<'a> {
    pub declared: &'a StrimziTopics,
    pub owner: &'a Owner,
    pub recorded: Option<&'a TopicsStatus>,
    /// The KafkaTopics with the names or the topics of the pipeline.
    pub observed: &'a Result<Objects<KafkaTopic>, Unavailable>,
    pub jobs: &'a [TaskJob<InspectionReport>],
    /// What the pipeline created in stores.
    pub created: &'a [StoreObject],
    /// Ids of Kafka clusters that the pipeline may use. Empty: any.
    pub kafka_clusters: &'a [String],
    /// The id of a topic that Strimzi does not manage, from the schema Job.
    pub verified_id: Option<&'a str>,
    /// Ids of topics that are accepted although they replaced others.
    pub accepted: &'a [String],
    /// Nothing is inspected, as if no topic existed: for a plan.
    pub skip_inspection: bool,
}
