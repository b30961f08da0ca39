//! The arguments of the operator in the cluster, so that a plan uses the same images.

use crate::{
    MANAGER,
    cli::{Cli, Command, Run},
};
use clap::Parser;
use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};

/// The arguments of the Deployment with this namespace and name. It is not searched for: anyone can label a Deployment of their own
/// as the operator's, and a plan would create a Job from its images.
pub async fn arguments(client: &Client, namespace: &str, name: &str) -> Result<Run, String> {
    let what = format!("Deployment {name} of namespace {namespace} (--operator-namespace, --operator-name)");
    let found = Api::<Deployment>::namespaced(client.clone(), namespace).get_opt(name).await;
    let found = found.map_err(|error| format!("cannot get the operator's {what}, which defines the images of the plan: {error}"))?;
    let deployment = found.ok_or_else(|| format!("the operator's {what} does not exist: install the operator, or name its release"))?;
    let containers = deployment.spec.and_then(|spec| spec.template.spec).map(|pod| pod.containers);
    let mut runs = containers.into_iter().flatten().filter_map(|container| read(&container.args?));
    runs.next().ok_or_else(|| format!("{what} is not the operator"))
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

    /// An apiserver with these objects, by path.
    async fn apiserver(objects: Vec<(&'static str, serde_json::Value)>) -> Client {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let objects: std::collections::BTreeMap<_, _> = objects.into_iter().collect();
        let answer = move |uri: axum::http::Uri| {
            let missing = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "message": "no", "code": 404});
            let found = objects.get(uri.path()).cloned();
            let code = if found.is_some() { 200 } else { 404 };
            let code = axum::http::StatusCode::from_u16(code).unwrap();
            std::future::ready((code, axum::Json(found.unwrap_or(missing))))
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let app = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Client::try_from(kube::Config::new(uri)).unwrap()
    }

    #[tokio::test]
    async fn the_operator_is_the_deployment_of_the_release_whatever_others_are_labelled() {
        let operator = |registry: &str| {
            let arguments = ["run", registry, "--lease-namespace=system", "--identity=a"];
            serde_json::json!({"metadata": {"name": "o", "labels": {"app.kubernetes.io/name": MANAGER}}, "spec": {"selector": {},
                "template": {"spec": {"containers": [{"name": "operator", "args": arguments}]}}}})
        };
        let forged = serde_json::json!({"metadata": {}, "items": [operator("--image-registry=evil")]});
        let own = "/apis/apps/v1/namespaces/system/deployments/userpipeline-operator";
        let all = "/apis/apps/v1/deployments";
        let client = apiserver(vec![(own, operator("--image-registry=own")), (all, forged.clone())]).await;
        let run = arguments(&client, "system", MANAGER).await.unwrap();
        assert_eq!(run.images.image_registry, "own");
        let client = apiserver(vec![(all, forged)]).await;
        let problem = arguments(&client, "system", MANAGER).await.err().unwrap();
        assert!(problem.contains("of namespace system (--operator-namespace"), "{problem}");
    }

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
