//! Fills the caches of a plan.

use futures::{FutureExt, future::BoxFuture};
use kube::{Client, api::ListParams};
use userpipeline_api::names::PipelineId;

use super::error::{PlanError, refused};
use crate::{
    identity::MANAGER,
    pipeline::{
        cache::{Absence, CacheWriter, Presence},
        caches::Writers,
        children::{ChildKind, VisitWriters},
        model::labels,
    },
};

/// Fills the caches once, with lists instead of watches.
pub async fn fill(client: &Client, id: &PipelineId, needs_user: bool, writers: Writers) -> Result<(), PlanError> {
    let Writers {
        mut pipelines,
        children,
        strimzi_views,
        ..
    } = writers;
    // All namespaces, because a pipeline in another one may use the same resource; only this one where the user may not list more.
    match pipelines.load(client, None, &ListParams::default()).await {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if status.code == 403 => pipelines
            .load(client, Some(&id.namespace), &ListParams::default())
            .await
            .map_err(refused("listing UserPipelines"))?,
        Err(error) => return Err(refused("listing UserPipelines")(error)),
    }
    let mut lists = Lists {
        client: client.clone(),
        id: id.clone(),
        requests: Vec::new(),
    };
    children.each(&mut lists);
    for request in lists.requests {
        request.await?;
    }
    strimzi_views.load_topics(client).await.map_err(refused("listing KafkaTopics"))?;
    match strimzi_views.load_users(client).await {
        // Without a user of its own, a pipeline has at most an earlier one.
        Err(kube::Error::Api(status)) if status.code == 403 && !needs_user => Ok(()),
        loaded => loaded.map_err(refused("listing Kafka resources and KafkaUsers")),
    }
}

/// A list request for each kind of child.
struct Lists {
    client: Client,
    id: PipelineId,
    requests: Vec<BoxFuture<'static, Result<(), PlanError>>>,
}

impl VisitWriters for Lists {
    fn visit<K: ChildKind>(&mut self, mut writer: CacheWriter<K>) {
        let (client, PipelineId { namespace, name }) = (self.client.clone(), self.id.clone());
        let children = ListParams::default().labels(&format!("{}={MANAGER},{}={name}", labels::MANAGED_BY, labels::PIPELINE));
        let request = async move {
            let what = format!("listing {}s of {namespace}", K::KIND);
            let Err(error) = writer.load(&client, Some(&namespace), &children).await else {
                return Ok(());
            };
            // Not where the user lacks a right: the plan would silently lack changes.
            if K::PRESENCE == Presence::Optional && Absence::of::<K>(&error, &client).await == Some(Absence::NotServed) {
                writer.mark_absent();
                return Ok(());
            }
            Err(refused(what)(error))
        };
        self.requests.push(request.boxed());
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        http::{StatusCode, Uri},
        response::{IntoResponse, Json, Response},
    };
    use k8s_openapi::api::core::v1::{ConfigMap, Endpoints};
    use serde_json::json;

    use super::*;

    /// The result of listing `K`, and whether it is absent, where its lists and discovery are answered with these codes.
    async fn list<K: ChildKind>(code: u16, discovery: u16) -> (Result<(), String>, bool) {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let answer = move |uri: Uri| async move { respond(if uri.path() == "/api/v1" { discovery } else { code }) };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        let client = Client::try_from(kube::Config::new(address.parse().unwrap())).unwrap();
        let (writer, id) = (
            CacheWriter::<K>::default(),
            crate::pipeline::model::pipeline_id(&crate::pipeline::example()),
        );
        let cache = writer.cache();
        let mut lists = Lists {
            client,
            id,
            requests: Vec::new(),
        };
        lists.visit(writer);
        let listed = lists.requests.pop().unwrap().await.map_err(|error| error.to_string());
        (listed, cache.is_absent())
    }

    fn respond(code: u16) -> Response {
        let resources = json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [{"name": "endpoints", "singularName": "", "namespaced": true, "kind": "Endpoints", "verbs": []}]});
        let refused = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "x", "message": "refused", "code": code});
        let body = if code == 200 { resources } else { refused };
        (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
    }

    #[tokio::test]
    async fn a_plan_works_without_an_optional_kind_that_is_not_served() {
        assert_eq!(list::<Endpoints>(404, 404).await, (Ok(()), true));
        // A user without rights to the kind gets a 403 also where it does not exist.
        assert_eq!(list::<Endpoints>(403, 404).await, (Ok(()), true));
        let refused = |kind: &str| (Err(format!("listing {kind}s of demo: refused")), false);
        assert_eq!(list::<Endpoints>(403, 200).await, refused("Endpoints"));
        assert_eq!(list::<ConfigMap>(404, 200).await, refused("ConfigMap"));
    }
}
