//! Fills views without watches.

use std::{collections::BTreeMap, sync::Arc};

use kube::{
    Resource, ResourceExt,
    api::{ApiResource, GroupVersionKind},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    StrimziWriters,
    resources::Kind,
    served::GROUP,
    view::{Objects, ViewWriter},
};

impl StrimziWriters {
    /// With the objects that `list` returns for a namespace and the plural of a kind.
    pub fn fill(&self, list: impl Fn(&str, &str) -> Vec<Value>) {
        fill(&self.kafkas, Kind::Kafka, &list);
        fill(&self.topics, Kind::KafkaTopic, &list);
        fill(&self.users, Kind::KafkaUser, &list);
    }
}

fn fill<K>(writers: &BTreeMap<String, ViewWriter<K>>, kind: Kind, list: impl Fn(&str, &str) -> Vec<Value>)
where
    K: Resource<DynamicType = ApiResource> + DeserializeOwned,
{
    for (namespace, writer) in writers {
        let objects = list(namespace, kind.plural()).into_iter();
        let objects = objects.map(|object| serde_json::from_value::<K>(object).unwrap());
        writer.fill(Objects {
            resource: ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, "v1", kind.name()), kind.plural()),
            by_name: objects.map(|object| (object.name_any(), Arc::new(object))).collect(),
        });
    }
}
