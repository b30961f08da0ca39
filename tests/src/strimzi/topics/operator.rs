//! The Topic Operator, one resource at a time.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, AlterConfig, ConfigSource, ResourceSpecifier},
    client::DefaultClientContext,
};
use serde_json::json;
use userpipeline_stores::kafka::admin::{Admin, TopicState};

use super::decision::{self, Changes, Decision, Existing, Refusal};
use crate::{
    services::WithFiles,
    stores,
    strimzi::{
        conditions::{explained, is_paused, plain, same, write_status},
        resources::{CLUSTER_LABEL, Condition, FINALIZER, KafkaTopic, TopicStatus},
        watch_loop::Reconciler,
    },
};

/// Kafka's default, for what the spec leaves out.
const BROKER_DEFAULT: i32 = -1;
const TIMEOUT: Duration = Duration::from_secs(15);

pub(in crate::strimzi) struct TopicOperator {
    api: Api<KafkaTopic>,
    cluster: String,
    prefix: String,
    admin: WithFiles<Admin>,
    /// For settings with their sources.
    settings: AdminClient<DefaultClientContext>,
}

impl TopicOperator {
    pub(in crate::strimzi) async fn new(api: Api<KafkaTopic>, cluster: &str, prefix: &str) -> Result<Self> {
        Ok(Self {
            api,
            cluster: cluster.to_owned(),
            prefix: prefix.to_owned(),
            admin: stores::kafka_admin().await?,
            settings: stores::kafka_config().await?.create()?,
        })
    }

    async fn reconcile_topic(&self, topic: &KafkaTopic, others: &[KafkaTopic]) -> Result<()> {
        match decision::decide(topic, others, &self.prefix) {
            Decision::Nothing => Ok(()),
            Decision::Release => self.set_finalizer(topic, false).await,
            Decision::DeleteTopic => {
                self.admin.delete_topic(&decision::topic_name(topic)).await?;
                self.set_finalizer(topic, false).await
            }
            Decision::Unmanaged => {
                self.set_finalizer(topic, true).await?;
                self.report(topic, plain("Unmanaged"), None).await
            }
            Decision::Paused => self.report(topic, plain("ReconciliationPaused"), None).await,
            Decision::Refuse(refusal) => self.refuse(topic, &refusal).await,
            Decision::Reconcile => {
                self.set_finalizer(topic, true).await?;
                match self.converge(topic).await? {
                    Ok(id) => self.report(topic, plain("Ready"), Some(id)).await,
                    Err(refusal) => self.refuse(topic, &refusal).await,
                }
            }
        }
    }

    /// Creates or changes the topic. Gives its id.
    async fn converge(&self, topic: &KafkaTopic) -> Result<Result<String, Refusal>> {
        let (name, spec) = (decision::topic_name(topic), &topic.spec);
        let Some(state) = self.admin.topic(&name).await? else {
            let (partitions, replicas) = (spec.partitions.unwrap_or(BROKER_DEFAULT), spec.replicas.unwrap_or(BROKER_DEFAULT));
            return Ok(
                match self.admin.create(&name, partitions, replicas, &decision::settings(spec)).await {
                    Ok(()) => self
                        .admin
                        .topic(&name)
                        .await?
                        .map(|created| created.id)
                        .ok_or_else(|| Refusal::kafka_error("the new topic is gone")),
                    Err(error) => Err(Refusal::kafka_error(error.to_string())),
                },
            );
        };
        let changes = decision::changes(spec, &self.existing(&name, &state).await?);
        Ok(match self.apply(&name, changes).await {
            Ok(()) => Ok(state.id),
            Err(refusal) => Err(refusal),
        })
    }

    async fn existing(&self, name: &str, state: &TopicState) -> Result<Existing> {
        let mut existing = Existing {
            partitions: state.partitions,
            replicas: state.replicas,
            config: [].into(),
            dynamic: Vec::new(),
        };
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        for resource in self.settings.describe_configs([&ResourceSpecifier::Topic(name)], &options).await? {
            let resource = resource.map_err(|code| anyhow::anyhow!("the settings of {name}: {code}"))?;
            for entry in resource.entries {
                if entry.source == ConfigSource::DynamicTopic {
                    existing.dynamic.push(entry.name.clone());
                }
                existing.config.insert(entry.name, entry.value.unwrap_or_default());
            }
        }
        Ok(existing)
    }

    /// Makes every change that can be made. Gives the first one that cannot.
    async fn apply(&self, name: &str, changes: Changes) -> Result<(), Refusal> {
        let mut refused = changes.refused;
        if let Some(config) = changes.config {
            refused = refused.or(self.configure(name, &config).await.err());
        }
        if let Some(partitions) = changes.partitions
            && let Err(error) = self.admin.add_partitions(name, partitions).await
        {
            refused.get_or_insert(Refusal::kafka_error(error.to_string()));
        }
        refused.map_or(Ok(()), Err)
    }

    /// Gives the topic these settings, and no others.
    async fn configure(&self, name: &str, config: &BTreeMap<String, String>) -> Result<(), Refusal> {
        // The client overlooks the broker's answer to the second request, so this one finds values that are refused.
        if !config.is_empty() {
            let altered = self.admin.alter(name, config).await;
            altered.map_err(|error| Refusal::kafka_error(error.to_string()))?;
        }
        // This one replaces all settings of the topic, so those that the spec lacks are reset.
        let request = AlterConfig::new(ResourceSpecifier::Topic(name));
        let request = config.iter().fold(request, |request, (name, value)| request.set(name, value));
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let replaced = self.settings.alter_configs([&request], &options).await;
        replaced.map(drop).map_err(|error| Refusal::kafka_error(error.to_string()))
    }

    async fn set_finalizer(&self, topic: &KafkaTopic, present: bool) -> Result<()> {
        let mut finalizers = topic.finalizers().to_vec();
        if finalizers.iter().any(|name| name == FINALIZER) == present {
            return Ok(());
        }
        if present {
            finalizers.push(FINALIZER.to_owned());
        } else {
            finalizers.retain(|name| name != FINALIZER);
        }
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": topic.resource_version()}});
        self.api
            .patch(&topic.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    async fn refuse(&self, topic: &KafkaTopic, refusal: &Refusal) -> Result<()> {
        let id = topic.status.as_ref().and_then(|status| status.topic_id.clone());
        let condition = explained("Ready", "False", refusal.reason, &refusal.message);
        self.report(topic, condition, id).await
    }

    async fn report(&self, topic: &KafkaTopic, condition: Condition, topic_id: Option<String>) -> Result<()> {
        let old = topic.status.clone().unwrap_or_default();
        let name = || old.topic_name.clone().unwrap_or_else(|| decision::topic_name(topic));
        let status = TopicStatus {
            // A paused topic is not observed.
            observed_generation: if is_paused(topic) {
                Some(old.observed_generation.unwrap_or_default())
            } else {
                topic.metadata.generation
            },
            topic_name: decision::is_managed(topic).then(name),
            // As Kafka prints it.
            topic_id: topic_id.as_deref().map(userpipeline_api::topic_id),
            conditions: vec![condition],
        };
        let unchanged = same(&status.conditions, &old.conditions)
            && (status.observed_generation, &status.topic_name, &status.topic_id)
                == (old.observed_generation, &old.topic_name, &old.topic_id);
        if !unchanged {
            write_status(&self.api, &topic.name_any(), &status).await?;
        }
        Ok(())
    }
}

impl Reconciler for TopicOperator {
    async fn reconcile(&mut self, name: &str) -> Result<()> {
        let selector = ListParams::default().labels(&format!("{CLUSTER_LABEL}={}", self.cluster));
        let (found, others): (Vec<_>, Vec<_>) =
            { self.api.list(&selector).await?.items.into_iter() }.partition(|topic| topic.name_any() == name);
        match self.reconcile_topic_if_any(found.first(), &others).await {
            // Changed meanwhile: the watch has it again.
            Err(error) if matches!(error.downcast_ref::<kube::Error>(), Some(kube::Error::Api(status)) if status.code == 409 || status.code == 404) => {
                Ok(())
            }
            Err(error) => bail!("{error:#}"),
            Ok(()) => Ok(()),
        }
    }
}

impl TopicOperator {
    async fn reconcile_topic_if_any(&self, topic: Option<&KafkaTopic>, others: &[KafkaTopic]) -> Result<()> {
        match topic {
            Some(topic) => self.reconcile_topic(topic, others).await,
            None => Ok(()),
        }
    }
}
