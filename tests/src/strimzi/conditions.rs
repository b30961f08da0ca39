//! Conditions as Strimzi writes them.

use std::fmt::Debug;

use jiff::Timestamp;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::resources::{Condition, PAUSED};

/// A condition that is True, without a reason.
pub(super) fn plain(kind: &str) -> Condition {
    condition(kind, "True", None)
}

/// A condition with reason and message.
pub(super) fn explained(kind: &str, status: &str, reason: &str, message: &str) -> Condition {
    condition(kind, status, Some((reason, message)))
}

fn condition(kind: &str, status: &str, why: Option<(&str, &str)>) -> Condition {
    Condition {
        kind: kind.to_owned(),
        status: status.to_owned(),
        reason: why.map(|(reason, _)| reason.to_owned()),
        message: why.map(|(_, message)| message.to_owned()),
        last_transition_time: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string(),
    }
}

/// Whether two lists report the same, at whatever time.
pub(super) fn same(some: &[Condition], others: &[Condition]) -> bool {
    let untimed = |condition: &Condition| Condition {
        last_transition_time: String::new(),
        ..condition.clone()
    };
    some.iter().map(untimed).eq(others.iter().map(untimed))
}

pub(super) fn is_paused(object: &impl ResourceExt) -> bool {
    object.annotations().get(PAUSED).is_some_and(|value| value == "true")
}

/// Replaces the status. A field that is null in `status` is removed.
pub(super) async fn write_status<K>(api: &Api<K>, name: &str, status: &impl Serialize) -> kube::Result<()>
where
    K: Clone + DeserializeOwned + Debug,
{
    let patch = Patch::Merge(json!({"status": status}));
    api.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
}
