//! The chart grants what the operator does with each kind of child.

use serde_json::Value;

use super::*;

const TEMPLATE: &str = include_str!("../../../../charts/userpipeline-operator/templates/_helpers.tpl");

/// The rules of the chart's template, which are YAML but for lines of the template language.
fn rules() -> Vec<Value> {
    let (_, rules) = TEMPLATE.split_once(r#"{{- define "userpipeline-operator.rules" -}}"#).unwrap();
    let rules: Vec<&str> = rules.lines().take_while(|line| *line != "{{- end }}").collect();
    let yaml: Vec<&str> = rules.into_iter().filter(|line| !line.contains("{{")).collect();
    serde_yaml::from_str(&yaml.join("\n")).unwrap()
}

fn is_granted(rules: &[Value], group: &str, resource: &str, verb: &str) -> bool {
    let lists = |rule: &Value, key: &str, value: &str| rule[key].as_array().unwrap().iter().any(|listed| listed == value);
    rules
        .iter()
        .any(|rule| lists(rule, "apiGroups", group) && lists(rule, "resources", resource) && lists(rule, "verbs", verb))
}

/// Collects the rights that are missing.
struct Missing(Vec<Value>, Vec<String>);

impl VisitWriters for Missing {
    fn visit<K: ChildKind>(&mut self, _: CacheWriter<K>) {
        let mut verbs = vec!["list", "watch"];
        // Pods are only observed.
        if K::KIND != Pod::KIND {
            verbs.extend(["get", "create", "patch"]);
        }
        if K::PRESENCE == Presence::Optional {
            verbs.push("delete");
        }
        let (group, resource) = (K::group(&()), K::plural(&()));
        verbs.retain(|verb| !is_granted(&self.0, &group, &resource, verb));
        self.1.extend(verbs.iter().map(|verb| format!("{verb} {resource}.{group}")));
    }
}

#[test]
fn the_chart_grants_what_each_kind_of_child_needs() {
    let mut missing = Missing(rules(), Vec::new());
    ChildWriters::default().each(&mut missing);
    let Missing(_, missing) = missing;
    assert!(missing.is_empty(), "{} lacks {missing:?}", "_helpers.tpl");
}

#[test]
fn the_chart_grants_what_connections_need() {
    for (resource, verb) in [
        ("userpipelineconnections", "get"),
        ("userpipelineconnections", "list"),
        ("userpipelineconnections", "watch"),
        ("userpipelineconnections/status", "patch"),
        ("userpipelineconnections/finalizers", "update"),
    ] {
        assert!(is_granted(&rules(), "userpipeline.dev", resource, verb), "{verb} {resource}");
    }
}

#[test]
fn the_chart_grants_what_tells_own_workers_and_refused_pods_from_others() {
    for (group, resource, verb) in [("apps", "replicasets", "get"), ("", "events", "list")] {
        assert!(is_granted(&rules(), group, resource, verb), "{verb} {resource}");
    }
}

#[test]
fn a_missing_right_is_found() {
    let mut missing = Missing(vec![], Vec::new());
    missing.visit(CacheWriter::<Pod>::default());
    assert_eq!(missing.1, ["list pods.", "watch pods."]);
}
