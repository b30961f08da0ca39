//! What belongs to a connection, and to no pipeline: its check Job, and the authorities of its Kafka listener.

use k8s_openapi::api::{batch::v1::Job, core::v1::ConfigMap};
use kube::core::ObjectMeta;
use userpipeline_api::names;

use super::{config_map, task_job::Task};
use crate::pipeline::model::{
    Owner, PodConfig, labels,
    labels::{CHECK, CHECK_ATTEMPT, CONNECTION, Component},
};

/// The Job that checks the connection `owner` for `subject` (see [`CHECK`]), and the ConfigMap that it reads.
pub fn check_objects(owner: &Owner, config: &PodConfig, subject: &str, attempt: i32) -> (ConfigMap, Job) {
    // A nonce may have characters that a name may not.
    let (generation, _) = subject.split_once('.').unwrap_or((subject, ""));
    let task = Task {
        component: Component::Check,
        suffix: &format!("check-{generation}-{attempt}"),
        command: "check-connection",
        arguments: &[],
        labels: &[(CHECK, subject), (CHECK_ATTEMPT, &attempt.to_string())],
    };
    let mut job = task.build(owner, &config.reference());
    belong_to_connection(&mut job.metadata, owner);
    if let Some(spec) = &mut job.spec {
        belong_to_connection(spec.template.metadata.get_or_insert_default(), owner);
        if let Some(pod) = &mut spec.template.spec {
            // Accounts are those of pipelines.
            pod.service_account_name = None;
        }
    }
    let mut config_map = config_map::build(owner, Component::Check, config);
    belong_to_connection(&mut config_map.metadata, owner);
    (config_map, job)
}

/// The ConfigMap with the authorities of the listener that the connection `owner` uses. Pods mount it, and follow its changes.
pub fn authorities_config_map(owner: &Owner, key: &str, bundle: String) -> ConfigMap {
    let name = names::kafka_authorities(&owner.id.name);
    let mut config_map = ConfigMap {
        metadata: labels::meta(owner, name, Component::Authorities),
        data: Some([(key.to_owned(), bundle)].into()),
        ..ConfigMap::default()
    };
    belong_to_connection(&mut config_map.metadata, owner);
    config_map
}

fn belong_to_connection(metadata: &mut ObjectMeta, owner: &Owner) {
    let labels = metadata.labels.get_or_insert_default();
    labels.remove(labels::PIPELINE);
    labels.insert(CONNECTION.to_owned(), owner.id.name.clone());
}

#[cfg(test)]
mod tests {
    use userpipeline_api::document::Mounts;

    use super::*;
    use crate::pipeline::{example, model::owner_reference};

    #[test]
    fn a_check_job_belongs_to_its_connection_only() {
        let pipeline = example::pipeline();
        let owner = Owner {
            reference: owner_reference(&pipeline),
            ..Owner::of(&pipeline, example::images()).unwrap()
        };
        let config = PodConfig {
            config_map: "users-check-0a1b2c3d".into(),
            text: "kind: UserPipelineConnection\n".into(),
            mounts: Mounts {
                secrets: vec!["login".into()],
                config_maps: vec!["ca".into()],
            },
        };
        let (config_map, job) = check_objects(&owner, &config, "3.Now_1", 1);
        assert_eq!(job.metadata.name.as_deref(), Some("users-check-3-1"));
        assert_eq!(job.metadata.labels.as_ref().unwrap()[CHECK], "3.Now_1");
        let template = job.spec.unwrap().template;
        for metadata in [&config_map.metadata, &job.metadata, template.metadata.as_ref().unwrap()] {
            let labels = metadata.labels.as_ref().unwrap();
            assert_eq!((labels.get(labels::PIPELINE), labels[CONNECTION].as_str()), (None, "users"));
            assert_eq!(labels[labels::COMPONENT], "check");
        }
        for metadata in [&config_map.metadata, &job.metadata] {
            assert_eq!(metadata.owner_references.as_ref().unwrap().len(), 1);
        }
        let pod = template.spec.unwrap();
        assert_eq!(
            (&pod.service_account_name, pod.automount_service_account_token),
            (&None, Some(false))
        );
        let arguments = pod.containers[0].args.as_ref().unwrap();
        assert_eq!(arguments[..2], ["check-connection", "--pipeline"]);
        assert_eq!(pod.volumes.unwrap().len(), 3, "the file, the Secret, the authority");
    }
}
