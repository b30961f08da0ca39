//! A mutating admission webhook for the objects of one namespace, as policies and sidecar injectors install it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use axum::{Json, Router, extract::State, routing::post, serve::Listener as _};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::ConfigMap};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    World, eventually,
    test_source::address_for_nodes,
    tls::{Authority, TlsListener},
    world::{LABEL, SOON},
};

/// The JSON patch for an object; `null` for none.
type Mutate = dyn Fn(&Value) -> Value + Send + Sync;

#[derive(Clone)]
struct Served {
    kind: &'static str,
    mutate: Arc<Mutate>,
    /// Objects of any kind that the API server has sent.
    reviewed: Arc<AtomicUsize>,
    patched: Arc<AtomicUsize>,
}

pub struct Webhook {
    client: Client,
    name: String,
    patched: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Webhook {
    /// Calls `mutate` for each object of `kind`, whose lower-case plural is `resource`, when it is created or updated in the namespace
    /// of `world`. Returns once the API server calls it.
    pub async fn start(
        world: &World,
        kind: &'static str,
        resource: &str,
        mutate: impl Fn(&Value) -> Value + Send + Sync + 'static,
    ) -> Result<Self> {
        let authority = Authority::new()?;
        let address = address_for_nodes(&world.client).await?;
        let listener = TlsListener::bind(address, &authority.identity(&address.to_string())?, None).await?;
        let port = listener.local_addr()?;
        let state = Served {
            kind,
            mutate: Arc::new(mutate),
            reviewed: Arc::default(),
            patched: Arc::default(),
        };
        let router = Router::new().route("/", post(review)).with_state(state.clone());
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        let name = format!("{}-{resource}", world.namespace);
        let configuration = configuration(&name, &world.namespace, resource, port, &authority);
        let configurations = Api::<MutatingWebhookConfiguration>::all(world.client.clone());
        configurations
            .create(&PostParams::default(), &serde_json::from_value(configuration)?)
            .await?;
        is_called(world, &state.reviewed).await?;
        Ok(Self {
            client: world.client.clone(),
            name,
            patched: state.patched,
            server,
        })
    }

    /// How many objects it has changed.
    pub fn patched(&self) -> usize {
        self.patched.load(Ordering::Relaxed)
    }

    pub async fn remove(self) -> Result<()> {
        let configurations = Api::<MutatingWebhookConfiguration>::all(self.client.clone());
        configurations.delete(&self.name, &DeleteParams::default()).await?;
        self.server.abort();
        Ok(())
    }
}

/// ConfigMaps as well, which [`is_called`] creates.
fn configuration(name: &str, namespace: &str, resource: &str, address: SocketAddr, authority: &Authority) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": {"name": name, "labels": {LABEL: "true"}},
        "webhooks": [{
            "name": "mutate.end-to-end.userpipeline.dev",
            "clientConfig": {"url": format!("https://{address}/"), "caBundle": STANDARD.encode(authority.pem())},
            "rules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": [resource, "configmaps"]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "sideEffects": "None", "admissionReviewVersions": ["v1"], "timeoutSeconds": 5, "failurePolicy": "Ignore"
        }]
    })
}

/// The API server reads a new configuration after a moment.
async fn is_called(world: &World, reviewed: &AtomicUsize) -> Result<()> {
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let probe: ConfigMap = serde_json::from_value(json!({"metadata": {"generateName": "webhook-probe-"}}))?;
    eventually("the API server to call the webhook", SOON, async || {
        world.api::<ConfigMap>().create(&dry_run, &probe).await?;
        Ok(if reviewed.load(Ordering::Relaxed) > 0 {
            Ok(())
        } else {
            Err("not called yet".to_owned())
        })
    })
    .await
}

async fn review(State(served): State<Served>, Json(review): Json<Value>) -> Json<Value> {
    served.reviewed.fetch_add(1, Ordering::Relaxed);
    let request = &review["request"];
    let mut response = json!({"uid": request["uid"], "allowed": true});
    if request["kind"]["kind"] == served.kind {
        let patch = (served.mutate)(&request["object"]);
        if !patch.is_null() {
            served.patched.fetch_add(1, Ordering::Relaxed);
            response["patchType"] = json!("JSONPatch");
            response["patch"] = json!(STANDARD.encode(patch.to_string()));
        }
    }
    Json(json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}))
}

const SIDECAR: &str = "sidecar";

/// A sidecar that runs for so many seconds, in each pod of a Job.
pub fn sidecar(seconds: u32) -> impl Fn(&Value) -> Value + Send + Sync + 'static {
    move |pod| {
        let is_of_job = !pod["metadata"]["labels"]["batch.kubernetes.io/job-name"].is_null();
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let has_sidecar = { containers }.any(|container| container["name"] == SIDECAR);
        if !is_of_job || has_sidecar {
            return Value::Null;
        }
        let mut container = pod["spec"]["containers"][0].clone();
        container["name"] = json!(SIDECAR);
        container["command"] = json!(["sleep", seconds.to_string()]);
        container["args"] = json!([]);
        json!([{"op": "add", "path": "/spec/containers/-", "value": container}])
    }
}
