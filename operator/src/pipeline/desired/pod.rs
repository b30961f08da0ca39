//! What all pods have in common: the restricted security context, the pipeline's file, the Secrets, the authorities' certificates.

use k8s_openapi::{
    api::core::v1::{
        Capabilities, ConfigMapVolumeSource, Container, EnvVar, EnvVarSource, KeyToPath, ObjectFieldSelector, PodSecurityContext, PodSpec,
        ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};
use userpipeline_api::{document::CONFIG_MAPS, names};

use super::service_account;
use crate::pipeline::model::{CONFIG_VOLUME, Images, Owner, PodConfigRef};

/// Where a pod's config and Secrets are mounted.
pub const MOUNT: &str = "/etc/userpipeline";
/// The key of the ConfigMap, and the file's name.
pub const FILE: &str = "pipeline.yaml";

/// The user and group of the images.
const NONROOT: i64 = 65_532;
/// Only the pod's group may read files of Secrets.
const SECRET_MODE: i32 = 0o440;

/// The arguments of every program: a command, and where config and Secrets are mounted.
pub fn arguments(first: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> = first.iter().map(|&word| word.to_owned()).collect();
    arguments.extend([
        "--pipeline".to_owned(),
        format!("{MOUNT}/{FILE}"),
        "--secrets".to_owned(),
        format!("{MOUNT}/secrets"),
    ]);
    arguments
}

/// An environment variable with the value of a field of the pod.
pub fn env(name: &str, field: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: field.to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    }
}

/// The default requests and limits.
pub fn resources(cpu: &str, memory: &str, memory_limit: &str) -> ResourceRequirements {
    let quantity = |text: &str| Quantity(text.to_owned());
    ResourceRequirements {
        requests: Some([("cpu".to_owned(), quantity(cpu)), ("memory".to_owned(), quantity(memory))].into()),
        limits: Some([("memory".to_owned(), quantity(memory_limit))].into()),
        claims: None,
    }
}

/// A container of `program` that mounts `config`.
pub fn container(name: &str, program: &str, images: &Images, config: &PodConfigRef) -> Container {
    let mut mounts = vec![VolumeMount {
        name: CONFIG_VOLUME.to_owned(),
        // Only the file, because the Secrets are mounted next to it.
        mount_path: format!("{MOUNT}/{FILE}"),
        sub_path: Some(FILE.to_owned()),
        read_only: Some(true),
        ..VolumeMount::default()
    }];
    let mount = |name: String, path: String| VolumeMount {
        name,
        mount_path: path,
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let secrets = config.mounts.secrets.iter();
    mounts.extend(secrets.map(|secret| mount(secret_volume(secret), format!("{MOUNT}/secrets/{secret}"))));
    let config_maps = config.mounts.config_maps.iter();
    mounts.extend(config_maps.map(|name| mount(config_map_volume(name), format!("{CONFIG_MAPS}/{name}"))));
    Container {
        name: name.to_owned(),
        image: Some(images.of(program)),
        image_pull_policy: Some(images.pull_policy.clone()),
        volume_mounts: Some(mounts),
        termination_message_path: Some(userpipeline_api::report::TERMINATION_LOG.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                add: None,
                drop: Some(vec!["ALL".to_owned()]),
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

pub fn pod(owner: &Owner, container: Container, restart_policy: &str, config: &PodConfigRef) -> PodSpec {
    let mut volumes = vec![Volume {
        name: CONFIG_VOLUME.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config.config_map.clone(),
            items: Some(vec![KeyToPath {
                key: FILE.to_owned(),
                path: FILE.to_owned(),
                mode: None,
            }]),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }];
    volumes.extend(config.mounts.secrets.iter().map(|secret| Volume {
        name: secret_volume(secret),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.clone()),
            default_mode: Some(SECRET_MODE),
            // The program reports which Secret or key is missing, and retries.
            optional: Some(true),
            items: None,
        }),
        ..Volume::default()
    }));
    volumes.extend(config.mounts.config_maps.iter().map(|name| Volume {
        name: config_map_volume(name),
        config_map: Some(ConfigMapVolumeSource {
            name: name.clone(),
            // As with a Secret.
            optional: Some(true),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }));
    PodSpec {
        automount_service_account_token: Some(false),
        containers: vec![container],
        enable_service_links: Some(false),
        restart_policy: Some(restart_policy.to_owned()),
        security_context: Some(PodSecurityContext {
            fs_group: Some(NONROOT),
            run_as_group: Some(NONROOT),
            run_as_non_root: Some(true),
            run_as_user: Some(NONROOT),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        service_account_name: Some(service_account::name(&owner.id.name)),
        volumes: Some(volumes),
        ..PodSpec::default()
    }
}

/// A Secret's name may be longer than a volume's.
fn secret_volume(secret: &str) -> String {
    format!("secret-{}", names::hash(secret))
}

fn config_map_volume(name: &str) -> String {
    format!("config-map-{}", names::hash(name))
}
