//! With the admission policy, an author who may use connections cannot make a pod send a Secret to a host of their choice.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::ConfigMap,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpListener};
use userpipeline_api::{UserPipeline, UserPipelineBackfill, UserPipelineConnection};
use userpipeline_tests::{
    World, cluster, eventually,
    test_source::{TestSource, address_for_nodes},
    world::SOON,
};

use super::{
    attempts::{Attempt, detours, injections, own_blocks},
    connections::{connect, moved},
};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/userpipeline-operator");

/// Counts the bytes that it receives.
struct Listener {
    address: String,
    bytes: Arc<AtomicUsize>,
}

impl Listener {
    /// Reachable from pods.
    async fn start(client: &Client) -> Result<Self> {
        let listener = TcpListener::bind((address_for_nodes(client).await?, 0)).await?;
        let (address, bytes) = (listener.local_addr()?.to_string(), Arc::new(AtomicUsize::new(0)));
        let received = bytes.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let received = received.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        received.fetch_add(read, Ordering::Relaxed);
                    }
                });
            }
        });
        Ok(Self { address, bytes })
    }

    fn received(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Runs a command with this input; returns its output.
fn run(command: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{command:?}");
    Ok(String::from_utf8(output.stdout)?)
}

/// The policy of the chart, for the namespace of this world only.
fn policy(world: &World) -> Result<String> {
    let values = format!("admission.enabled=true,watchNamespace={}", world.namespace);
    let template = [
        "helm",
        "template",
        &world.namespace,
        CHART,
        "--namespace",
        cluster::OPERATOR_NAMESPACE,
        "--set",
        &values,
        "-s",
        "templates/admission.yaml",
    ];
    // The operator of the cluster is of another release.
    let account = |name: &str| format!("system:serviceaccount:{}:{name}", cluster::OPERATOR_NAMESPACE);
    let rendered = run(&template, "")?;
    Ok(rendered.replace(
        &account(&format!("{}-operator", world.namespace)),
        &account("userpipeline-operator"),
    ))
}

/// Lets the user `author` create pipelines, use the connections, and write ConfigMaps.
async fn grant(world: &World) -> Result<()> {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "author"}, "rules": [
        {"apiGroups": ["userpipeline.dev"], "resources": ["userpipelines"], "verbs": ["get", "create", "patch"]},
        {"apiGroups": ["userpipeline.dev"], "resources": ["userpipelineconnections"], "resourceNames": ["stores", "source", "redirecting"], "verbs": ["use"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "create", "update", "patch", "delete"]},
    ]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "author"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "author"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "author"}]});
    let by = PatchParams::apply("end-to-end").force();
    world.api::<Role>().patch("author", &by, &Patch::Apply(role)).await?;
    world.api::<RoleBinding>().patch("author", &by, &Patch::Apply(binding)).await?;
    Ok(())
}

fn with(pipeline: &Value, name: &str, changes: &[(&str, Value)]) -> Value {
    let mut pipeline = pipeline.clone();
    pipeline["metadata"]["name"] = json!(name);
    for (pointer, value) in changes {
        let mut at = &mut pipeline["spec"];
        for part in pointer.trim_start_matches('/').split('/') {
            at = match part.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[part],
            };
        }
        *at = value.clone();
    }
    pipeline
}

async fn apply(pipelines: &Api<UserPipeline>, pipeline: &Value) -> kube::Result<UserPipeline> {
    let name = pipeline["metadata"]["name"].as_str().unwrap_or_default();
    pipelines.patch(name, &PatchParams::apply("author"), &Patch::Apply(pipeline)).await
}

/// Waits until each policy refuses something: they take effect one after the other.
async fn take_effect(pipelines: &Api<UserPipeline>, pipeline: &Value, attempts: &[Attempt]) -> Result<()> {
    let params = PatchParams::apply("author").dry_run();
    for attempt in attempts.iter().filter(|attempt| attempt.code == Some(403)) {
        eventually("the policies to take effect", SOON, async || {
            let refused = pipelines
                .patch("dry", &params, &Patch::Apply(with(pipeline, "dry", &attempt.changes)))
                .await;
            Ok(refused.map_or(Ok(()), |_| Err(format!("{} is accepted", attempt.what))))
        })
        .await?;
    }
    Ok(())
}

/// At apply, or by the operator, with this text.
async fn assert_refused(pipelines: &Api<UserPipeline>, attempt: &Attempt, pipeline: &Value) -> Result<()> {
    let Attempt { what, code, says, .. } = attempt;
    let applied = match (apply(pipelines, pipeline).await, code) {
        (Err(kube::Error::Api(status)), Some(code)) => {
            ensure!(status.code == *code && status.message.contains(says), "{what}: {status:?}");
            return Ok(());
        }
        (Ok(applied), None) => applied,
        (other, _) => bail!("{what}: {other:?}"),
    };
    let name = pipeline["metadata"]["name"].as_str().unwrap_or_default();
    eventually(&format!("{what} to be refused"), SOON, async || {
        let status = pipelines.get(name).await?.status.unwrap_or_default();
        let ready = status.conditions.into_iter().find(|c| c.type_ == "Ready");
        let is_current = |generation: Option<i64>| generation == applied.metadata.generation;
        let refused = ready
            .as_ref()
            .is_some_and(|c| c.reason == "InvalidSpec" && c.message.contains(says) && is_current(c.observed_generation));
        Ok(if refused { Ok(()) } else { Err(format!("{ready:?}")) })
    })
    .await
}

/// The author may write ConfigMaps, but none that pods read.
async fn assert_writes_no_config(author: &Client, namespace: &str) -> Result<()> {
    let config_maps: Api<ConfigMap> = Api::namespaced(author.clone(), namespace);
    let own = ListParams::default().labels("app.kubernetes.io/managed-by=userpipeline-operator");
    let found = config_maps.list(&own).await?.items;
    let Some(live) = found.first() else {
        bail!("the pipeline has no ConfigMap")
    };
    let forged = ConfigMap {
        metadata: ObjectMeta {
            name: Some("forged".to_owned()),
            labels: live.metadata.labels.clone(),
            ..ObjectMeta::default()
        },
        data: live.data.clone(),
        ..ConfigMap::default()
    };
    let plain = json!({"metadata": {"name": "plain"}, "data": {"a": "b"}});
    config_maps.create(&PostParams::default(), &serde_json::from_value(plain)?).await?;
    let labelled = json!({"metadata": {"labels": live.metadata.labels}});
    for (what, refused) in [
        ("create", config_maps.create(&PostParams::default(), &forged).await.map(drop)),
        (
            "delete",
            config_maps.delete(&live.name_any(), &DeleteParams::default()).await.map(drop),
        ),
        (
            "label",
            config_maps
                .patch("plain", &PatchParams::default(), &Patch::Merge(labelled))
                .await
                .map(drop),
        ),
    ] {
        let is_refused = matches!(&refused, Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains("only the operator may write"));
        ensure!(is_refused, "{what}: {refused:?}");
    }
    Ok(())
}

/// Neither back-fills, nor connections, nor what `plan --schema` creates.
async fn assert_creates_nothing_else(world: &World, author: Client, listener: &str) -> Result<()> {
    let params = PostParams::default();
    let backfill = json!({"apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineBackfill", "metadata": {"name": "b"},
        "spec": {"pipelineRef": {"name": "users"}, "from": "2024-01-01T00:00:00Z", "to": "2024-02-01T00:00:00Z"}});
    let backfills: Api<UserPipelineBackfill> = Api::namespaced(author.clone(), &world.namespace);
    ensure!(backfills.create(&params, &serde_json::from_value(backfill)?).await.is_err());
    let connection = json!({"apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineConnection", "metadata": {"name": "own"},
        "spec": {"http": {"baseUrl": format!("http://{listener}")}}});
    let connections: Api<UserPipelineConnection> = Api::namespaced(author.clone(), &world.namespace);
    ensure!(connections.create(&params, &serde_json::from_value(connection)?).await.is_err());
    let jobs: Api<Job> = Api::namespaced(author, &world.namespace);
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "a"}]});
    let job = json!({"metadata": {"name": "own"}, "spec": {"template": {"spec": pod}}});
    ensure!(jobs.create(&params, &serde_json::from_value(job)?).await.is_err());
    Ok(())
}

/// A run is not led from the API of a connection, by a server that the connection allows, to the listener.
async fn assert_follows_no_redirect(world: &World, pipelines: &Api<UserPipeline>, users: &Value, listener: &str) -> Result<()> {
    let (first, allowed) = (TestSource::start(&world.client).await?, TestSource::start(&world.client).await?);
    first.redirect_to(format!("{}away", allowed.url()));
    allowed.redirect_to(format!("http://{listener}/"));
    let address = |source: &TestSource| source.url().trim_start_matches("http://").trim_end_matches('/').to_owned();
    let key = json!({"secretKeyRef": {"name": "postgres-credentials", "key": "password"}});
    let http = json!({"baseUrl": format!("http://{}", address(&first)), "auth": {"bearer": key}, "allowedHosts": [address(&allowed)]});
    let connection = json!({"apiVersion": "userpipeline.dev/v1alpha1", "kind": "UserPipelineConnection", "metadata": {"name": "redirecting"}, "spec": {"http": http}});
    connect(world, &[connection]).await?;
    let changes = [
        ("/connections/1/name", json!("redirecting")),
        ("/source/http", json!({"path": "/away"})),
        ("/schedule/backoffLimit", json!(0)),
    ];
    apply(pipelines, &with(users, "redirected", &changes)).await?;
    eventually("the run to refuse the redirect", SOON, async || {
        let run = pipelines
            .get("redirected")
            .await?
            .status
            .unwrap_or_default()
            .last_run
            .unwrap_or_default();
        let says = format!("responded with 302 Found, a redirect to {}, which is not followed", host(listener));
        let is_refused = run.reason == "SourceRefused" && run.message.contains(&says);
        Ok(if is_refused {
            Ok(())
        } else {
            Err(format!("{}: {}", run.reason, run.message))
        })
    })
    .await?;
    for (source, what) in [(&first, "the API"), (&allowed, "the allowed server")] {
        ensure!(!source.take_requests().is_empty(), "{what} received no request");
    }
    Ok(())
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_who_may_use_connections_sends_no_secret_to_another_host() -> Result<()> {
    // Given the policy, and an author who may create pipelines and use two connections
    let world = World::new("stolen").await?;
    let (mut pipeline, connections) = moved(&world);
    let mut others = connections[0].clone();
    others["metadata"]["name"] = json!("others");
    connect(&world, &connections).await?;
    connect(&world, &[others]).await?;
    grant(&world).await?;
    let policy = policy(&world)?;
    run(&["kubectl", "apply", "-f", "-"], &policy)?;
    let listener = Listener::start(&world.client).await?;
    let author = cluster::connect_as("author").await?;
    let pipelines: Api<UserPipeline> = Api::namespaced(author.clone(), &world.namespace);
    pipeline["spec"]["runNow"] = json!({"nonce": "now"});
    let all: Vec<Attempt> = [own_blocks(&listener.address), detours(&listener.address), injections()]
        .into_iter()
        .flatten()
        .collect();
    take_effect(&pipelines, &pipeline, &all).await?;

    // When they try, Then each attempt is refused, at apply or by the operator
    apply(&pipelines, &with(&pipeline, "users", &[])).await?;
    for (n, attempt) in all.iter().enumerate() {
        assert_refused(&pipelines, attempt, &with(&pipeline, &format!("try-{n}"), &attempt.changes)).await?;
    }

    // And so is an edit of the pipeline that exists, and a write of what its pods read
    assert_refused(&pipelines, &all[0], &with(&pipeline, "users", &all[0].changes)).await?;
    assert_creates_nothing_else(&world, author.clone(), &listener.address).await?;

    // And the allowed pipeline works, while nothing has reached the listener
    world.ready().await?;
    assert_follows_no_redirect(&world, &pipelines, &pipeline, &listener.address).await?;
    assert_writes_no_config(&author, &world.namespace).await?;
    ensure!(listener.received() == 0, "{} bytes", listener.received());

    // And one of an administrator does reach it, so the listener can be reached
    let mut reaching = world.pipeline();
    reaching["metadata"]["name"] = json!("reaching");
    reaching["spec"]["source"]["http"] = json!({"url": format!("http://{}/", listener.address)});
    reaching["spec"]["runNow"] = json!({"nonce": "now"});
    world.apply(&reaching).await?;
    eventually("a request", SOON, async || {
        Ok(if listener.received() > 0 {
            Ok(())
        } else {
            Err("0 bytes".to_owned())
        })
    })
    .await?;
    run(&["kubectl", "delete", "-f", "-"], &policy)?;
    world.clean_up().await
}
