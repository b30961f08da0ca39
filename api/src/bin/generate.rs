//! Writes what follows from the types: the CRD (`crds/`), the chart's template of it, and the reference (`docs/reference/fields.md`).
//!
//! `generate` writes; `generate --check` writes nothing and fails where a file differs.

use std::{fmt::Write, fs, path::Path, process::ExitCode};

use kube::CustomResourceExt;
use serde_json::Value;
use userpipeline_api::{UserPipeline, UserPipelineBackfill, UserPipelineConnection};

const HEADER: &str = "# Generated from api/ by `make generate`; do not edit.\n";

fn main() -> ExitCode {
    let check = std::env::args().any(|arg| arg == "--check");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crds = [UserPipeline::crd(), UserPipelineConnection::crd(), UserPipelineBackfill::crd()];
    let mut files = Vec::new();
    let mut reference = String::from(
        "# Fields\n\n<!-- Generated from api/ by `make generate`; do not edit. -->\n\n**Bold** fields are required. Durations are written as `30s`, `5m`, `1h30m`, sizes as `8Mi`, times as `2024-03-01T00:00:00Z`.\n",
    );
    for crd in crds {
        let mut crd = serde_json::to_value(crd).expect("a CRD is JSON");
        shorten(&mut crd["spec"]["versions"][0]["schema"]);
        let text = serde_yaml::to_string(&crd).expect("JSON is YAML");
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap_or_default();
        files.push((format!("crds/{plural}.userpipeline.dev.yaml"), format!("{HEADER}{text}")));
        files.push((
            format!("charts/userpipeline-operator/templates/crd-{plural}.yaml"),
            chart_template(&text),
        ));
        describe(&crd, &mut reference);
    }
    files.push(("docs/reference/fields.md".to_owned(), reference));
    let mut drifted = false;
    for (path, wanted) in files {
        let file = root.join(&path);
        if fs::read_to_string(&file).is_ok_and(|found| found == wanted) {
            continue;
        }
        if check {
            eprintln!("{path} is not what api/ says: run `make generate`");
            drifted = true;
        } else {
            fs::create_dir_all(file.parent().expect("a file has a folder"))
                .and_then(|()| fs::write(&file, wanted))
                .expect("the checkout can be written");
            println!("wrote {path}");
        }
    }
    ExitCode::from(u8::from(drifted))
}

/// Fields of Kubernetes' own types, which Kubernetes documents.
const KUBERNETES_OWN: [&str; 5] = ["resources", "tolerations", "affinity", "topologySpreadConstraints", "conditions"];

/// Takes the descriptions out of Kubernetes' own types: they are most of the text, and everybody has them.
fn shorten(schema: &mut Value) {
    fn strip(value: &mut Value, top: bool) {
        match value {
            Value::Object(map) => {
                // A property may have that name, too; its value is no text.
                if !top && map.get("description").is_some_and(Value::is_string) {
                    map.remove("description");
                }
                map.values_mut().for_each(|value| strip(value, false));
            }
            Value::Array(list) => list.iter_mut().for_each(|value| strip(value, false)),
            _ => {}
        }
    }
    let Value::Object(map) = schema else { return };
    for (name, value) in map {
        if KUBERNETES_OWN.contains(&name.as_str()) {
            strip(value, true);
        } else {
            shorten(value);
        }
    }
}

/// The CRD as a template, so that Helm upgrades it; kept on uninstall, so that no pipeline is lost with the operator.
fn chart_template(crd: &str) -> String {
    // Descriptions may have what Helm would take for a template.
    let body = crd.replace("{{", "{{ \"{{\" }}").replacen(
        "metadata:\n",
        "metadata:\n  labels:\n    {{- include \"userpipeline-operator.labels\" . | nindent 4 }}\n  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n",
        1,
    );
    format!("{{{{- if .Values.crds.enabled }}}}\n{HEADER}{body}{{{{- end }}}}\n")
}

/// Every field with its type, default and meaning, as the API server sees it.
fn describe(crd: &Value, out: &mut String) {
    let names = &crd["spec"]["names"];
    let text = |key: &str| names[key].as_str().unwrap_or_default();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let _ = write!(
        out,
        "\n# {}\n\n{}\n\n`apiVersion: userpipeline.dev/v1alpha1`, `kind: {}`, namespaced, short name `{}`, category `pipelines`.\n",
        text("kind"),
        schema["description"].as_str().unwrap_or_default(),
        text("kind"),
        names["shortNames"][0].as_str().unwrap_or_default(),
    );
    for part in ["spec", "status"] {
        let _ = write!(out, "\n## {part}\n\n| field | type | default | meaning |\n|---|---|---|---|\n");
        rows(part, &schema["properties"][part], out);
    }
}

fn rows(path: &str, schema: &Value, out: &mut String) {
    let Some(properties) = schema["properties"].as_object() else {
        return;
    };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in properties {
        let below = format!("{path}.{name}");
        let shown = if required.contains(&name.as_str()) {
            format!("**{below}**")
        } else {
            below.clone()
        };
        let default = field
            .get("default")
            .filter(|d| !d.is_object())
            .map_or_else(String::new, |d| format!("`{}`", d.to_string().trim_matches('"')));
        let _ = writeln!(out, "| {shown} | {} | {default} | {} |", type_of(field), meaning(field));
        if !KUBERNETES_OWN.contains(&name.as_str()) {
            rows(&below, field, out);
            rows(&format!("{below}[]"), &field["items"], out);
        }
    }
}

fn type_of(field: &Value) -> String {
    if let Some(values) = field["enum"].as_array() {
        return values
            .iter()
            .filter_map(Value::as_str)
            .map(|v| format!("`{v}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    match (
        field["type"].as_str().unwrap_or("any"),
        field["minimum"].as_f64(),
        field["maximum"].as_f64(),
    ) {
        (kind, Some(min), Some(max)) => format!("{kind}, {min} to {max}"),
        ("object", ..) if field.get("additionalProperties").is_some() => "map".to_owned(),
        (kind, ..) => kind.to_owned(),
    }
}

fn meaning(field: &Value) -> String {
    let rules = field["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|rule| rule["message"].as_str());
    let text = field["description"].as_str().unwrap_or_default().replace('\n', " ");
    std::iter::once(text)
        .chain(rules.map(|rule| format!("*{rule}.*")))
        .collect::<Vec<_>>()
        .join(" ")
        .replace('|', "\\|")
}
