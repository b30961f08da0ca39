//! Attempts of an author to make a pod send a Secret to a host of their choice.

use serde_json::{Value, json};

/// Changes of a spec, as JSON pointers and values.
pub type Changes = Vec<(&'static str, Value)>;

/// An attempt to send a Secret elsewhere, and how it is refused.
pub struct Attempt {
    pub what: &'static str,
    pub changes: Changes,
    /// At apply. None: by the operator.
    pub code: Option<u16>,
    pub says: &'static str,
}

impl Attempt {
    /// By the admission policy.
    const fn refused(what: &'static str, changes: Changes, says: &'static str) -> Self {
        let code = Some(403);
        Self { what, changes, code, says }
    }

    /// By a rule of the CRD.
    const fn invalid(what: &'static str, changes: Changes, says: &'static str) -> Self {
        let code = Some(422);
        Self { what, changes, code, says }
    }

    const fn by_operator(what: &'static str, changes: Changes, says: &'static str) -> Self {
        let code = None;
        Self { what, changes, code, says }
    }
}

/// Blocks of the author's own.
pub fn own_blocks(listener: &str) -> Vec<Attempt> {
    let (host, port) = listener.rsplit_once(':').unwrap_or((listener, ""));
    let port: u16 = port.parse().unwrap_or_default();
    let login = json!({"credentialsSecretRef": {"name": "postgres-credentials"}});
    let key = json!({"secretKeyRef": {"name": "postgres-credentials", "key": "password"}});
    let postgres = json!({"host": host, "port": port, "database": "d", "credentialsSecretRef": {"name": "postgres-credentials"}, "tls": {"mode": "Disable"}});
    let cassandra = json!({"contactPoints": [listener], "localDatacenter": "d", "credentialsSecretRef": {"name": "postgres-credentials"}, "tls": {"mode": "Disable"}});
    let kafka = json!({"bootstrapServers": listener, "tls": {"mode": "Disable"}, "auth": {"scramSha512": login}});
    let registry = json!({"url": format!("https://{listener}"), "auth": {"basic": login}});
    let own = |more: Value| {
        let mut http = json!({"url": format!("http://{listener}/")});
        http.as_object_mut()
            .into_iter()
            .for_each(|http| http.extend(more.as_object().cloned().unwrap_or_default()));
        vec![("/source/http", http)]
    };
    vec![
        Attempt::refused(
            "own PostgreSQL",
            vec![("/connections", json!([{"name": "source"}])), ("/postgres", postgres)],
            "spec.postgres.credentialsSecretRef.name: you may not read Secret postgres-credentials",
        ),
        Attempt::refused(
            "own Kafka",
            vec![("/kafka", kafka)],
            "spec.kafka.auth.scramSha512.credentialsSecretRef.name: you may not read",
        ),
        Attempt::refused(
            "own registry",
            vec![("/schemaRegistry", registry)],
            "spec.schemaRegistry.auth.basic.credentialsSecretRef.name: you may not read",
        ),
        Attempt::refused(
            "own Cassandra",
            vec![("/cassandra", cassandra)],
            "spec.cassandra.credentialsSecretRef.name: you may not read",
        ),
        Attempt::refused(
            "own API with a token",
            own(json!({"auth": {"bearer": key}})),
            "spec.source.http.auth.bearer.secretKeyRef.name: you may not read",
        ),
        Attempt::refused(
            "own API with a header",
            own(json!({"headers": [{"name": "X-Token", "valueFrom": key}]})),
            "spec.source.http.headers: you may not read",
        ),
    ]
}

/// Ways to lead what connections have to another host.
pub fn detours(listener: &str) -> Vec<Attempt> {
    let proxy = json!({"http": format!("http://{listener}/"), "https": format!("http://{listener}/")});
    let path = |text: String| vec![("/source/http/path", json!(text))];
    vec![
        Attempt::invalid("a path to another host", path(format!("//{listener}/")), "must not contain '//'"),
        Attempt::invalid(
            "a path with a user name",
            path(format!("/@{listener}/")),
            "must begin with '/' and contain only",
        ),
        Attempt::invalid(
            "a path with an argument",
            path("/{{arguments.host}}".to_owned()),
            "must not contain arguments or the cursor",
        ),
        Attempt::invalid(
            "redirects",
            vec![("/source/http/allowedHosts", json!([listener]))],
            "allowedHosts are not allowed with spec.source.http.path",
        ),
        Attempt::invalid(
            "a proxy of runs",
            vec![("/pods", json!({"ingest": {"proxy": proxy}}))],
            "spec.pods.ingest.proxy is not allowed",
        ),
        Attempt::by_operator(
            "a proxy of workers",
            vec![("/pods", json!({"workers": {"proxy": proxy}}))],
            "spec.pods.workers.proxy: is not allowed",
        ),
        Attempt::by_operator(
            "another image",
            vec![("/image", json!({"registry": listener}))],
            "does not allow the registry",
        ),
        Attempt::refused(
            "a connection of others",
            vec![("/connections/0/name", json!("others"))],
            "you may not use connection others",
        ),
        Attempt::refused(
            "a connection that does not exist yet",
            vec![("/connections/0/name", json!("later"))],
            "you may not use connection later",
        ),
    ]
}

/// Labels and annotations of pods that steer a webhook, which adds a container with any Secret.
pub fn injections() -> Vec<Attempt> {
    let pods = |program: &str, field: &str, key: &str| vec![("/pods", json!({program: {field: {key: "true"}}}))];
    let mask = json!({"with": "HMAC", "keySecretRef": {"name": "postgres-credentials", "key": "password"}});
    let record = json!({"name": "User", "namespace": "dev.userpipeline", "key": ["id"], "fields": [
        {"name": "id", "type": "uuid", "from": "/login/uuid"},
        {"name": "email", "type": "string", "from": "/email", "mask": mask},
    ]});
    vec![
        // The masked values of known ones would tell which of some passwords it is.
        Attempt::refused(
            "a password as the key of a mask",
            vec![("/record", record)],
            "spec.record.fields: a mask names Secret postgres-credentials, which you may not read",
        ),
        Attempt::refused(
            "an annotation of workers that injects a sidecar",
            pods("workers", "annotations", "sidecar.istio.io/userVolume"),
            "spec.pods.workers.annotations.sidecar.istio.io/userVolume: is not allowed",
        ),
        Attempt::refused(
            "an annotation of runs that injects a sidecar",
            pods("ingest", "annotations", "sidecar.istio.io/inject"),
            "spec.pods.ingest.annotations.sidecar.istio.io/inject: is not allowed",
        ),
        Attempt::refused(
            "a label of tasks that injects a sidecar",
            pods("tasks", "labels", "sidecar.istio.io/inject"),
            "spec.pods.tasks.labels.sidecar.istio.io/inject: is not allowed",
        ),
    ]
}
