//! The arguments of the operator in the cluster, so that a plan uses the same images.

use clap::Parser;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client, api::ListParams};
use userpipeline_operator::MANAGER;

use crate::cli::{Cli, Command, Run};

/// `None` where no operator is installed, or the user may not list Deployments.
pub async fn arguments(client: &Client) -> Option<Run> {
    let operators = ListParams::default().labels(&format!("app.kubernetes.io/name={MANAGER}"));
    let found = Api::<Deployment>::all(client.clone()).list(&operators).await.ok()?;
    let containers = found
        .items
        .into_iter()
        .filter_map(|deployment| Some(deployment.spec?.template.spec?.containers));
    containers.flatten().find_map(|container| read(&container.args?))
}

fn read(arguments: &[String]) -> Option<Run> {
    let line = std::iter::once(MANAGER).chain(arguments.iter().map(String::as_str));
    match Cli::try_parse_from(line).ok()?.command {
        Command::Run(run) => Some(*run),
        Command::Plan(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_of_the_chart_are_read() {
        let arguments = [
            "run",
            "--image-registry=ghcr.example/up",
            "--image-tag=1.2.3",
            "--image-pull-policy=Always",
            "--lease-namespace=system",
            "--lease-name=x",
            "--identity=$(POD_NAME)",
            "--listen=0.0.0.0:8080",
            r#"--check-pods={"tolerations":[{"key":"a"}]}"#,
        ];
        let run = read(&arguments.map(str::to_owned)).unwrap();
        assert_eq!(
            (run.images.image_registry.as_str(), run.images.image_tag.as_str()),
            ("ghcr.example/up", "1.2.3")
        );
        assert_eq!(run.check_pods.tolerations.len(), 1);
        assert!(read(&["sleep".to_owned()]).is_none());
    }
}
