//! Which ConfigMaps the operator itself wrote and reads back later. Whoever may write ConfigMaps can write one with the operator's
//! labels, but only the operator writes the status, which has their digests.

use k8s_openapi::api::core::v1::ConfigMap;
use userpipeline_api::names;

use super::labels;

/// More were never in use at the same time.
const AT_MOST: usize = 16;

/// Of component, key and text. None where the ConfigMap has not exactly one text, as those of the operator have.
pub fn config_digest(config_map: &ConfigMap) -> Option<String> {
    let component = config_map.metadata.labels.as_ref()?.get(labels::COMPONENT)?;
    let data = config_map.data.as_ref()?;
    let (key, text) = data.iter().next().filter(|_| data.len() == 1 && config_map.binary_data.is_none())?;
    Some(names::digest(&format!("{component}\n{key}\n{text}")))
}

/// Whether the operator wrote it.
pub fn is_recorded(config_map: &ConfigMap, digests: &[String]) -> bool {
    config_digest(config_map).is_some_and(|digest| digests.contains(&digest))
}

/// The digests to record: of the desired ConfigMaps, and of earlier ones that still exist. `keep_all` while nothing is desired.
pub fn config_digests<'a>(
    recorded: &[String],
    desired: impl Iterator<Item = &'a ConfigMap>,
    live: impl Iterator<Item = &'a ConfigMap>,
    keep_all: bool,
) -> Vec<String> {
    let mut digests: Vec<String> = desired.filter_map(config_digest).collect();
    let live: Vec<String> = live.filter_map(config_digest).collect();
    let earlier = recorded.iter().filter(|digest| keep_all || live.contains(digest));
    for digest in earlier {
        if !digests.contains(digest) {
            digests.push(digest.clone());
        }
    }
    digests.truncate(AT_MOST);
    digests
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config_map(component: &str, data: &Value) -> ConfigMap {
        let object = json!({"metadata": {"name": "a", "labels": {labels::COMPONENT: component}}, "data": data});
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_digest_is_of_component_key_and_the_only_text() {
        let own = config_map("deletion", &json!({"pipeline.yaml": "a"}));
        let digests = [config_digest(&own).unwrap()];
        for (case, other, expected) in [
            ("itself", own.clone(), true),
            ("another text", config_map("deletion", &json!({"pipeline.yaml": "b"})), false),
            (
                "another component",
                config_map("connections", &json!({"pipeline.yaml": "a"})),
                false,
            ),
            ("another key", config_map("deletion", &json!({"x": "a"})), false),
            (
                "a second key",
                config_map("deletion", &json!({"pipeline.yaml": "a", "x": "b"})),
                false,
            ),
            ("none", config_map("deletion", &json!({})), false),
        ] {
            assert_eq!(is_recorded(&other, &digests), expected, "{case}");
        }
    }

    #[test]
    fn digests_of_config_maps_that_are_gone_are_dropped_unless_nothing_is_desired() {
        let of = |text: &str| config_map("deletion", &json!({"k": text}));
        let digest = |text: &str| config_digest(&of(text)).unwrap();
        let recorded = [digest("gone"), digest("live")];
        let (desired, live) = ([of("new")], [of("live"), of("forged")]);
        let all = |desired: &[ConfigMap], keep_all: bool| config_digests(&recorded, desired.iter(), live.iter(), keep_all);
        assert_eq!(all(&desired, false), [digest("new"), digest("live")]);
        assert_eq!(all(&[], true), recorded);
    }
}
