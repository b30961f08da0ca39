//! Optional kinds: the operator works without one that the apiserver does not serve, or that it has no right to watch.

use std::time::Duration;

use kube::{Client, Resource, runtime::watcher};

/// The time between two attempts to watch an absent kind. With the list request, it is in use within a minute of its installation.
pub const RETRY_ABSENT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 50_000 });

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The operator waits for the kind.
    Required,
    /// The operator works without the kind while it is absent.
    #[allow(dead_code, reason = "no child has an optional kind yet")]
    Optional,
}

/// Why the operator works without an optional kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Its CustomResourceDefinition is not installed.
    NotServed,
    /// The apiserver's message, which names the missing right.
    Forbidden(String),
}

impl Absence {
    /// What an error of a request means for its kind. `None` if it does not show absence: a decision without the kind would be wrong
    /// while it is served.
    pub async fn of<K: Resource<DynamicType = ()>>(error: &kube::Error, client: &Client) -> Option<Self> {
        match error {
            kube::Error::Api(status) => Self::of_answer::<K>(status.code, &status.message, client).await,
            _ => None,
        }
    }

    pub(super) async fn of_watch<K: Resource<DynamicType = ()>>(error: &watcher::Error, client: &Client) -> Option<Self> {
        match error {
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                Self::of::<K>(error, client).await
            }
            watcher::Error::WatchError(status) => Self::of_answer::<K>(status.code, &status.message, client).await,
            watcher::Error::NoResourceVersion => None,
        }
    }

    async fn of_answer<K: Resource<DynamicType = ()>>(code: u16, message: &str, client: &Client) -> Option<Self> {
        match code {
            404 => Some(Self::NotServed),
            // Authorisation comes first: without the right, the apiserver answers so for a kind that it does not serve, too.
            403 if matches!(is_served::<K>(client).await, Ok(false)) => Some(Self::NotServed),
            403 => Some(Self::Forbidden(message.to_owned())),
            _ => None,
        }
    }

    pub(super) fn log(&self, kind: &str) {
        match self {
            Self::NotServed => tracing::info!(kind, "the apiserver does not serve this optional kind; working without it"),
            Self::Forbidden(message) => tracing::warn!(
                kind,
                message,
                "the operator has no right to list and watch this optional kind; working without it. Grant the verbs list and watch"
            ),
        }
    }
}

/// Asks discovery, which every client may read.
async fn is_served<K: Resource<DynamicType = ()>>(client: &Client) -> Result<bool, kube::Error> {
    let served = if K::group(&()).is_empty() {
        client.list_core_api_resources(&K::version(&())).await
    } else {
        client.list_api_group_resources(&K::api_version(&())).await
    };
    match served {
        Ok(served) => Ok(served.resources.iter().any(|resource| resource.name == K::plural(&()))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}
