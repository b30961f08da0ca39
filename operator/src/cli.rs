//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Parser, Subcommand};
use userpipeline_api::PodSettings;

use crate::{
    pipeline::{Images, Installation, PodMetadata, read_pod_settings},
    strimzi::ListedCluster,
};

/// Reconciles `UserPipeline` resources.
#[derive(Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Runs the operator until it receives SIGTERM or SIGINT.
    Run(Box<Run>),
    /// Prints what would change if a pipeline were applied, object by object, and changes nothing. The exit code is 0 without
    /// changes, 1 with changes or fields that others set in the templates of pods, and 2 after an error.
    Plan(Plan),
}

#[derive(clap::Args)]
pub struct Run {
    #[command(flatten)]
    pub images: ImageArguments,
    /// The namespace of the Lease that elects the leader.
    #[arg(long)]
    pub lease_namespace: String,
    /// The name of that Lease.
    #[arg(long, default_value = crate::MANAGER)]
    pub lease_name: String,
    /// The identity of this instance in the leader election: the pod's name.
    #[arg(long)]
    pub identity: String,
    /// The address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Pipelines must take addresses and Secrets from connections.
    #[arg(long)]
    pub require_connections: bool,
    /// Connections are not checked.
    #[arg(long)]
    pub disable_checks: bool,
    /// Settings of the pods that check connections, as JSON: the fields of `spec.pods.tasks` of a pipeline.
    #[arg(long, default_value = "{}", value_parser = read_pod_settings)]
    pub check_pods: PodSettings,
    /// Pipelines may add only allowed labels and annotations to pods.
    #[arg(long)]
    pub restrict_pod_metadata: bool,
    /// The name or domain of annotations that pipelines may still add; may be repeated.
    #[arg(long = "allowed-pod-annotation")]
    pub allowed_pod_annotations: Vec<String>,
    /// The name or domain of labels that pipelines may still add; may be repeated.
    #[arg(long = "allowed-pod-label")]
    pub allowed_pod_labels: Vec<String>,
    /// A Kafka cluster of Strimzi to which connections may refer, as `NAMESPACE/NAME`; or `NAMESPACE/NAME:USER-NAMESPACE` where its User
    /// Operator reconciles the KafkaUsers of another namespace. May be repeated.
    #[arg(long = "strimzi-cluster")]
    pub strimzi_clusters: Vec<ListedCluster>,
    /// The namespace whose pipelines are reconciled. Default: all namespaces.
    #[arg(long)]
    pub watch_namespace: Option<String>,
}

impl Run {
    /// What all pipelines share, in the cluster with this id.
    pub fn installation(&self, cluster: String) -> Installation {
        let list = |allowed: &[String]| self.restrict_pod_metadata.then(|| allowed.to_vec());
        Installation {
            images: self.images.clone().into(),
            cluster,
            requires_connections: self.require_connections,
            checks_connections: !self.disable_checks,
            check_pods: self.check_pods.clone(),
            pod_metadata: PodMetadata {
                labels: list(&self.allowed_pod_labels),
                annotations: list(&self.allowed_pod_annotations),
            },
        }
    }
}

#[derive(Clone, clap::Args)]
pub struct ImageArguments {
    /// The registry of the pipelines' images, with its path.
    #[arg(long, default_value = "userpipeline")]
    pub image_registry: String,
    /// A registry that pipelines may choose instead (spec.image.registry); may be repeated.
    #[arg(long = "allowed-image-registry")]
    allowed_image_registries: Vec<String>,
    /// The tag of these images.
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    pub image_tag: String,
    /// When these images are pulled: Always, IfNotPresent or Never.
    #[arg(long, default_value = "IfNotPresent", value_parser = ["Always", "IfNotPresent", "Never"])]
    image_pull_policy: String,
}

impl From<ImageArguments> for Images {
    fn from(arguments: ImageArguments) -> Self {
        Self {
            registry: arguments.image_registry,
            allowed: arguments.allowed_image_registries,
            tag: arguments.image_tag,
            pull_policy: arguments.image_pull_policy,
        }
    }
}

#[derive(clap::Args)]
pub struct Plan {
    /// The file that would be applied; `-` is the standard input. Its connections replace those of the cluster. Other resources are
    /// ignored.
    #[arg(short = 'f', long = "filename")]
    pub file: PathBuf,
    /// The field manager that would apply it: fields of other managers stay.
    #[arg(long, default_value = "kubectl")]
    pub field_manager: String,
    /// Also runs a Job in the pipeline's namespace that prints what a schema Job would change in topic, subject and tables.
    #[arg(long)]
    pub schema: bool,
    /// A host to which that Job may send Secrets although no connection of the namespace names it; may be repeated.
    #[arg(long = "allow-host")]
    pub allowed_hosts: Vec<String>,
    /// The namespace of the operator's release.
    #[arg(long, default_value = "userpipeline-system")]
    pub operator_namespace: String,
    /// The name of the operator's Deployment, which has the images and rules of the installation.
    #[arg(long, default_value = crate::MANAGER)]
    pub operator_name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(arguments: &[&str]) -> Installation {
        let required = ["operator", "run", "--lease-namespace=system", "--identity=a"];
        let Command::Run(run) = Cli::try_parse_from(required.iter().chain(arguments)).unwrap().command else {
            panic!()
        };
        run.installation("cluster".to_owned())
    }

    #[test]
    fn an_installation_follows_the_arguments() {
        let default = installation(&[]);
        assert!(default.checks_connections && !default.requires_connections);
        assert_eq!((&default.pod_metadata.labels, &default.pod_metadata.annotations), (&None, &None));
        assert_eq!(default.check_pods, PodSettings::default());

        let strict = installation(&[
            "--require-connections",
            "--disable-checks",
            "--restrict-pod-metadata",
            "--allowed-pod-label=team",
            r#"--check-pods={"priorityClassName":"low"}"#,
        ]);
        assert!(!strict.checks_connections && strict.requires_connections);
        assert_eq!(strict.pod_metadata.labels, Some(vec!["team".to_owned()]));
        assert_eq!(strict.pod_metadata.annotations, Some(vec![]), "none");
        assert_eq!(strict.check_pods.priority_class_name.as_deref(), Some("low"));
    }

    #[test]
    fn settings_of_check_pods_must_be_valid() {
        let arguments = [
            "operator",
            "run",
            "--lease-namespace=system",
            "--identity=a",
            r#"--check-pods={"labels":{"k8s.io/a":"b"}}"#,
        ];
        let problem = Cli::try_parse_from(arguments).err().unwrap().to_string();
        assert!(problem.contains("labels.k8s.io/a: is reserved"), "{problem}");
    }
}
