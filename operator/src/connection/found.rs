//! What pipelines can use of a connection: its spec, completed with the listener of `kafka.strimzi`, whose authorities are written first.

use jiff::Timestamp;
use kube::Client;
use userpipeline_api::{KafkaListenerStatus, UserPipelineConnectionSpec};

use super::{
    authorities_config_map::{self, NotOurs},
    checker::owner,
    listener::{ListenerInput, Resolution, resolve},
    status::INVALID_SPEC,
};
use crate::{
    metrics::Metrics,
    pipeline::{CachedConnection, Caches, Installation, Problem, connection_id, valid_spec, with_listener},
    strimzi::{ClusterId, Unavailable},
};

#[derive(Debug)]
pub struct Found {
    /// None where no pipeline can use the connection.
    pub usable: Option<UserPipelineConnectionSpec>,
    pub problem: Option<Problem>,
    /// What Strimzi reports of a cluster that can be used.
    pub note: Option<String>,
    /// To be written to the status.
    pub kafka: Option<KafkaListenerStatus>,
    /// When an authority is no longer trusted.
    pub next_expiry: Option<Timestamp>,
}

pub struct Finder<'a> {
    pub client: &'a Client,
    pub caches: &'a Caches,
    pub metrics: &'a Metrics,
    pub installation: &'a Installation,
}

impl Finder<'_> {
    /// `recorded` is what the status has of the listener. `None` while the operator has just started: the status stays as it is.
    pub async fn find(
        &self,
        connection: &CachedConnection,
        recorded: Option<&KafkaListenerStatus>,
        now: Timestamp,
    ) -> Result<Option<Found>, kube::Error> {
        let spec = match valid_spec(connection) {
            Ok(spec) => spec,
            Err(why) => {
                return Ok(Some(Found {
                    usable: None,
                    problem: Some((INVALID_SPEC.to_owned(), why)),
                    note: None,
                    kafka: recorded.cloned(),
                    next_expiry: None,
                }));
            }
        };
        let resolution = match self.resolve(connection, &spec, recorded, now) {
            Some(resolution) => self.write_authorities(connection, resolution).await?,
            None => return Ok(None),
        };
        let name = connection_id(connection).name;
        let (usable, why) = match with_listener(&name, spec, resolution.kafka.as_ref()) {
            Ok(spec) => (Some(spec), None),
            Err(why) => (None, Some((INVALID_SPEC.to_owned(), why))),
        };
        Ok(Some(Found {
            usable,
            problem: resolution.problem.or(why),
            note: resolution.note,
            kafka: resolution.kafka,
            next_expiry: resolution.next_expiry,
        }))
    }

    /// Empty without `kafka.strimzi`.
    fn resolve(
        &self,
        connection: &CachedConnection,
        spec: &UserPipelineConnectionSpec,
        recorded: Option<&KafkaListenerStatus>,
        now: Timestamp,
    ) -> Option<Resolution> {
        let Some((kafka, listener)) = spec.kafka.as_ref().and_then(|kafka| Some((kafka, kafka.strimzi.as_ref()?))) else {
            return Some(Resolution::default());
        };
        let cluster = self.caches.strimzi.cluster(&ClusterId::of(listener));
        let user_namespace = cluster.as_ref().ok().map(|cluster| cluster.user_namespace.clone());
        let found = cluster.and_then(|cluster| cluster.kafkas.get(&listener.cluster));
        let is_recorded = recorded.is_some_and(|recorded| recorded.strimzi == *listener);
        if is_recorded && matches!(found, Err(Unavailable::NotYetKnown { .. })) {
            return None;
        }
        let input = ListenerInput {
            kafka,
            listener,
            namespace: &connection_id(connection).namespace,
            found,
            user_namespace: user_namespace.as_deref(),
            recorded,
        };
        Some(resolve(&input, now))
    }

    /// Pods mount the ConfigMap as soon as the status has the listener.
    async fn write_authorities(&self, connection: &CachedConnection, resolution: Resolution) -> Result<Resolution, kube::Error> {
        let certificates = resolution.kafka.as_ref().filter(|kafka| kafka.tls).map(|kafka| &kafka.certificates);
        let (Some(certificates), Some(owner)) = (certificates, owner(connection, self.installation)) else {
            return Ok(resolution);
        };
        let written = authorities_config_map::apply(certificates, &owner, self.caches, self.client, self.metrics).await?;
        let Err(NotOurs { name }) = written else {
            return Ok(resolution);
        };
        let message = format!(
            "ConfigMap {name} exists and does not belong to this connection, so the authorities of Kafka cannot be written to it: delete it"
        );
        Ok(Resolution {
            problem: Some(("NotOurs".to_owned(), message)),
            ..Resolution::default()
        })
    }
}
