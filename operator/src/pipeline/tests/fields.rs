//! Every field of the spec, from the CRD's schema: each takes effect, and no value crashes the operator.

mod aggregates;
mod record;

use std::sync::LazyLock;

use kube::CustomResourceExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use userpipeline_api::{
    Connections, ResolvedPipeline, TopicManagement, UserPipeline, UserPipelineSpec,
    document::{Binary, IngestPipeline, SchemaPipeline, WorkerPipeline, reduce},
    resolve,
};

use crate::pipeline::{
    decide::{Decisions, drain, schema},
    desired::desired,
    example,
    model::{Images, Installation},
    validate::{ValidateError, validate},
};

/// Fields that change no child themselves, and their purpose.
const DECISIONS: [(&str, &str); 11] = [
    ("description", "for people"),
    ("deletionPolicy", "the finalizer"),
    ("suspend", "decides whether runs are started and workers stopped"),
    ("suspendPolicy", "decides what happens to the runs under way"),
    ("schedule.catchUp.enabled", "decides who starts the runs"),
    ("schedule.catchUp.limit", "decides which runs are started"),
    ("schedule.catchUp.maxActiveRuns", "decides when runs are started"),
    ("schedule.pauseAfterFailures", "decides whether runs are started"),
    ("runNow.nonce", "decides whether a run is started"),
    ("runNow.arguments", "an argument of that run"),
    ("runNow.interval", "an argument of that run"),
];

/// Values that are valid for some field.
const TEXTS: [&str; 16] = [
    "alpha",
    "beta",
    "7s",
    "9s",
    "1Mi",
    "2Mi",
    "@daily",
    "@hourly",
    "Europe/Berlin",
    "Asia/Tokyo",
    "2024-01-01T00:00:00Z",
    "2024-02-01T00:00:00Z",
    "http://one.example/",
    "http://two.example/",
    "one.example:9092",
    "two.example:9092",
];
/// Values that are invalid for nearly every field.
const POISON: [&str; 12] = [
    "",
    " ",
    "61 * * * *",
    "Mars/Olympus",
    "-1",
    "1e400",
    "\u{0}",
    "日本語\u{202e}",
    "../../etc/passwd",
    "$(HOME)",
    "{{interval.start",
    "'; DROP TABLE users; --",
];

/// All fields of the spec.
static FIELDS: LazyLock<Vec<(String, Value)>> = LazyLock::new(|| {
    let crd = serde_json::to_value(UserPipeline::crd()).unwrap();
    let mut fields = Vec::new();
    leaves(
        &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"],
        "",
        &mut fields,
    );
    fields
});

/// The paths of all leaves, as JSON pointers below the spec, with their schemas. Kubernetes' own types are leaves.
fn leaves(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    let name = path.rsplit('/').next().unwrap_or_default();
    let own = ["resources", "tolerations", "affinity", "topologySpreadConstraints", "interval"];
    if let Some(properties) = schema["properties"].as_object().filter(|_| !own.contains(&name)) {
        for (name, schema) in properties {
            leaves(schema, &format!("{path}/{name}"), found);
        }
    } else if schema["items"]["properties"].is_object() && !own.contains(&name) {
        leaves(&schema["items"], &format!("{path}/0"), found);
    } else {
        found.push((path.to_owned(), schema.clone()));
    }
}

/// A spec in which every part is there.
fn full() -> Value {
    let mut spec = serde_json::to_value(example::pipeline().spec).unwrap();
    let part = json!({"labels": {"team": "data"}, "proxy": {"http": "http://proxy:1"}});
    spec["pods"] = json!({"ingest": part, "workers": part, "tasks": part});
    spec["image"] = json!({"version": "0.1.0"});
    spec["runNow"] = json!({"nonce": "first"});
    spec["schedule"]["arguments"] = json!({"region": "eu"});
    spec["record"] = json!({"key": ["one", "two"], "fields": [
        {"name": "three", "type": "string", "from": "/three"},
        {"name": "one", "type": "string", "from": "/one"}, {"name": "two", "type": "long", "from": "/two"},
    ]});
    spec["sinks"]["cassandra"]["compaction"] = json!({"class": "LeveledCompactionStrategy"});
    spec["source"]["http"]["query"] = json!([{"name": "results", "value": "5"}, {"name": "since", "value": "{{cursor}}"}]);
    spec["source"]["http"]["cursor"] = json!({"fromItems": "/at"});
    spec["source"]["http"]["auth"] = json!({
        "basic": {"credentialsSecretRef": {"name": "who"}}, "bearer": {"secretKeyRef": {"name": "who", "key": "token"}},
        "oauth2": {"tokenUrl": "http://tokens/", "credentialsSecretRef": {"name": "who"}}
    });
    let key = json!({"name": "ca", "key": "ca.crt"});
    let tls = json!({"ca": {"configMapKeyRef": key, "secretKeyRef": key}, "clientSecretRef": {"name": "client"}});
    spec["source"]["http"]["tls"] = tls.clone();
    spec["postgres"]["tls"] = tls.clone();
    spec["kafka"]["tls"] = tls.clone();
    spec["cassandra"]["tls"] = tls.clone();
    let credentials = json!({"credentialsSecretRef": {"name": "who"}});
    spec["kafka"]["auth"] = json!({"scramSha512": credentials, "scramSha256": credentials, "plain": credentials});
    spec["schemaRegistry"]["tls"] = tls;
    spec["schemaRegistry"]["auth"] = json!({
        "basic": {"credentialsSecretRef": {"name": "who"}}, "bearer": {"secretKeyRef": {"name": "who", "key": "token"}},
    });
    spec["source"]["http"]["errors"] = json!([{"when": "status == 500", "then": "Retry"}]);
    spec["source"]["http"]["headers"] =
        json!([{"name": "Authorization", "valueFrom": {"secretKeyRef": {"name": "token", "key": "header"}}}]);
    spec
}

/// Connections with the names that a spec of these tests may have.
fn connections() -> Connections {
    let registry = |name: &str| json!({"schemaRegistry": {"url": format!("http://{name}")}});
    let api = json!({"http": {"baseUrl": "http://api"}});
    let listener = json!({"cluster": "events", "namespace": "kafka", "listener": "plain"});
    let events = json!({"kafka": {"bootstrapServers": "kafka:9092", "strimzi": listener}});
    let all = [
        ("alpha", registry("alpha")),
        ("beta", registry("beta")),
        ("api", api),
        ("events", events),
    ];
    all.map(|(name, spec)| (name.to_owned(), Ok(serde_json::from_value(spec).unwrap())))
        .into()
}

/// Removes what the pipeline may not have of its own beside a connection.
fn make_room(spec: &mut Value, path: &str) {
    match path {
        "/connections/0/name" => {
            spec["schemaRegistry"] = Value::Null;
            spec["pods"] = json!({});
        }
        "/source/http/path" => {
            for field in ["url", "auth", "tls", "headers"] {
                spec["source"]["http"].as_object_mut().unwrap().remove(field);
            }
            spec["pods"]["ingest"] = json!({});
            spec["connections"] = json!([{"name": "api"}]);
        }
        _ if path.starts_with("/aggregates/") => aggregates::make_room(spec, path),
        _ if path.starts_with("/record/fields/0/mask/") => record::mask(&mut spec["record"]["fields"][0], path),
        _ => {}
    }
}

/// Sets a value, and makes the parts on the way to it.
fn set(spec: &mut Value, path: &str, value: Value) {
    make_room(spec, path);
    if value == "Strimzi" {
        spec["connections"] = json!([{"name": "events"}]);
        spec["kafka"] = json!({});
    }
    let mut at = spec;
    for part in path.trim_start_matches('/').split('/') {
        at = match part.parse::<usize>() {
            Ok(index) => {
                if !at.is_array() {
                    *at = json!([{}]);
                }
                &mut at[index]
            }
            Err(_) => &mut at[part],
        };
    }
    *at = value;
}

/// Values that the schema may take.
fn values(path: &str, schema: &Value) -> Vec<Value> {
    if path.ends_with("/resources") {
        return vec![json!({"requests": {"cpu": "1"}}), json!({"requests": {"cpu": "2"}})];
    }
    if path.ends_with("/tolerations") {
        return vec![json!([{"key": "a"}]), json!([{"key": "b"}])];
    }
    if path.ends_with("/affinity") {
        return vec![json!({"podAffinity": {}}), json!({"nodeAffinity": {}})];
    }
    if path.ends_with("/topologySpreadConstraints") {
        let spread = |key: &str| json!([{"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule"}]);
        return vec![spread("a"), spread("b")];
    }
    if let Some(values) = record::values(path, schema).or_else(|| aggregates::values(path, schema)) {
        return values;
    }
    match path {
        "/source/http/path" => return vec![json!("/one"), json!("/two")],
        "/source/http/errors/0/when" => return vec![json!("status == 404"), json!("has(answer.Note)")],
        "/source/http/pagination/endWhen" => return vec![json!("!has(answer.next)"), json!("page > 3")],
        "/source/http/pagination/endOnStatus" => return vec![json!([400]), json!([404])],
        _ => {}
    }
    if path.ends_with("/interval") {
        return vec![json!({"start": TEXTS[10], "end": TEXTS[11]})];
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.clone();
    }
    match schema["type"].as_str() {
        Some("number") => vec![json!(0.25), json!(0.5)],
        Some("boolean") => vec![json!(true), json!(false)],
        Some("integer") => {
            let least: i64 = schema["minimum"]
                .as_f64()
                .map_or(1, |least| format!("{least:.0}").parse().unwrap_or(1));
            vec![json!(least), json!(least + 1), json!(least + 7)]
        }
        Some("array") => vec![json!(["one.example"]), json!(["two.example"])],
        Some("object") => vec![
            json!({"region": "eu"}),
            json!({"region": "us"}),
            json!({"dc1": 2}),
            json!({"dc1": 3}),
        ],
        _ => TEXTS.map(Value::from).to_vec(),
    }
}

/// The desired children of a spec.
fn children(spec: &Value) -> Result<String, ValidateError> {
    let mut pipeline = example::pipeline();
    pipeline.spec = serde_json::from_value(spec.clone()).map_err(|e| ValidateError::InvalidSpec(vec![e.to_string()]))?;
    let installation = Installation {
        images: Images {
            allowed: TEXTS.map(str::to_owned).to_vec(),
            ..example::images()
        },
        ..example::installation()
    };
    let valid = validate(&pipeline, &connections(), &installation)?;
    let decided = Decisions {
        schema: schema::Decision {
            create: Some(0),
            ..schema::Decision::default()
        },
        drain: drain::Decision {
            create: Some(drain::NewDrainJob { since: 0, attempt: 0 }),
            ..drain::Decision::default()
        },
        ..Decisions::default()
    };
    Ok(format!("{:?}", desired(&valid, &installation, &decided)))
}

#[test]
fn every_field_changes_a_child_or_is_known_to_change_none() {
    assert!(FIELDS.len() > 60, "{}", FIELDS.len());
    let mut silent = Vec::new();
    for (path, schema) in FIELDS.iter() {
        let outcomes: Vec<String> = values(path, schema)
            .into_iter()
            .filter_map(|value| {
                let mut spec = full();
                set(&mut spec, path, value);
                // A field has exactly one of `from`, `expr` and `template`.
                if path.ends_with("/expr") || path.ends_with("/template") {
                    spec["record"]["fields"][0].as_object_mut().unwrap().remove("from");
                }
                if ["/epoch", "/timeZone", "/format"]
                    .iter()
                    .any(|part| path == &format!("/record/fields/0{part}"))
                {
                    spec["record"]["fields"][0]["type"] = json!("timestamp");
                }
                children(&spec).ok()
            })
            .collect();
        assert!(!outcomes.is_empty(), "no value of this test is valid for {path}");
        let before = children(&full()).unwrap();
        if outcomes.iter().all(|outcome| *outcome == before) {
            silent.push(path.trim_start_matches('/').replace('/', "."));
        }
    }
    let mut known: Vec<&str> = DECISIONS.iter().map(|(field, _)| *field).collect();
    silent.sort();
    known.sort_unstable();
    assert_eq!(silent, known);
}

/// What a program reads in a file.
fn read(binary: Binary, file: &str) -> String {
    match binary {
        Binary::Ingest => format!("{:?}", IngestPipeline::read(file)),
        Binary::Worker => format!("{:?}", WorkerPipeline::read(file)),
        Binary::Schema => format!("{:?}", SchemaPipeline::read(file)),
    }
}

/// `binary` reads the same in the whole resource as in the part that it receives. A path that is forgotten hides a field from it.
fn assert_receives_what_it_reads(binary: Binary, pipeline: &ResolvedPipeline, path: &str) {
    let id = &pipeline.id;
    let whole = serde_yaml::to_string(&json!({
        "kind": "UserPipeline",
        "metadata": {"name": id.name, "namespace": id.namespace},
        "spec": pipeline.spec,
    }));
    assert_eq!(
        read(binary, &reduce(pipeline, binary)),
        read(binary, &whole.unwrap()),
        "{binary:?} does not receive {path}: add it to its paths in api/src/document/mod.rs"
    );
}

#[test]
fn every_program_receives_what_it_reads() {
    for (path, schema) in FIELDS.iter() {
        let specs = values(path, schema).into_iter().filter_map(|value| {
            let mut spec = full();
            set(&mut spec, path, value);
            serde_json::from_value(spec).ok()
        });
        // The connections of this test have no Kafka cluster of Strimzi.
        let specs = specs.filter(|spec: &UserPipelineSpec| {
            let kafka = spec.kafka.as_ref();
            kafka.is_none_or(|kafka| kafka.topic.management != Some(TopicManagement::Strimzi))
        });
        // Two, because one may be the default.
        for spec in specs.take(2) {
            let mut pipeline = example::pipeline();
            pipeline.spec = spec;
            let pipeline = resolve(&pipeline, &connections()).unwrap_or_else(|error| panic!("{path}: {error:?}"));
            for binary in [Binary::Ingest, Binary::Worker, Binary::Schema] {
                assert_receives_what_it_reads(binary, &pipeline, path);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_spec_is_either_built_or_refused_with_a_message(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()), 1..5)) {
        let mut spec = full();
        for (field, value, poisoned) in changes {
            let (path, schema) = field.get(&FIELDS);
            let value = if poisoned && schema["type"] == "string" && schema["enum"].is_null() {
                json!(value.get(&POISON))
            } else if poisoned && schema["type"] == "integer" {
                json!(value.get(&[i64::from(i32::MIN), i64::from(i32::MAX), 0, -1]))
            } else {
                value.get(&values(path, schema)).clone()
            };
            set(&mut spec, path, value);
        }
        match children(&spec) {
            Ok(first) => prop_assert_eq!(first, children(&spec).unwrap(), "the same again"),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
