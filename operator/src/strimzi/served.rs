//! Which version of Strimzi's API is served, and what the operator may do with it.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::{
    Api, Client,
    api::{ApiResource, GroupVersionKind, PostParams},
};

use super::resources::Kind;

pub const GROUP: &str = "kafka.strimzi.io";
/// The newest first: 1.x serves only v1, and versions before 1.0 serve v1beta2.
const VERSIONS: [&str; 2] = ["v1", "v1beta2"];

/// The kind in the newest version that the API server serves; `None` only if it answers that there is none.
pub async fn served(client: &Client, kind: Kind) -> Result<Option<ApiResource>, kube::Error> {
    for version in VERSIONS {
        let resources = match client.list_api_group_resources(&format!("{GROUP}/{version}")).await {
            Ok(resources) => resources.resources,
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error),
        };
        if resources.iter().any(|resource| resource.name == kind.plural()) {
            let gvk = GroupVersionKind::gvk(GROUP, version, kind.name());
            return Ok(Some(ApiResource::from_gvk_with_plural(&gvk, kind.plural())));
        }
    }
    Ok(None)
}

/// Whether the operator may use a verb on a kind in a namespace.
pub async fn is_allowed(client: &Client, kind: Kind, namespace: &str, verb: &str) -> Result<bool, kube::Error> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                group: Some(GROUP.to_owned()),
                resource: Some(kind.plural().to_owned()),
                namespace: Some(namespace.to_owned()),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
