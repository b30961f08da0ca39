//! The user of a pipeline in Kafka: what Strimzi made of it, and which earlier ones are no longer needed. Pure.

use std::collections::BTreeSet;

use kube::{ResourceExt, api::ApiResource};
use serde_json::Value;

use crate::{
    pipeline::{
        model::{Acl, Problem, RequestedUser, reasons::KAFKA_USER_PENDING},
        observe::{KafkaUsers, LiveUser},
    },
    strimzi::{KafkaUser, Unavailable},
};

#[derive(Clone, Debug)]
pub struct KafkaUserInput<'a> {
    pub requested: Option<&'a RequestedUser>,
    /// The namespace of the pipeline.
    pub namespace: &'a str,
    /// The users of the pipeline. None where no User Operator of a listed cluster reconciles users of the namespace.
    pub live: Option<Result<KafkaUsers, Unavailable>>,
    /// What a user of the requested cluster needs, or why that is not known.
    pub cluster: Result<UserCluster, Unavailable>,
    /// Whether workers and runs have the current config.
    pub is_rolled_out: bool,
    /// Secrets that pods mount.
    pub mounted: &'a BTreeSet<String>,
    /// Whether a user that is applied counts as ready: for a plan.
    pub assumes_ready: bool,
}

/// The cluster of a requested user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserCluster {
    /// The namespace whose users its User Operator reconciles.
    pub user_namespace: String,
    /// Whether it enforces ACLs. None while its `Kafka` resource is unknown.
    pub has_acls: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum State {
    /// The pipeline has none, or needs nothing of it now.
    #[default]
    NotNeeded,
    Ready,
    /// It can probably be used soon. Pods that run are not affected.
    Pending(Problem),
    Failed(Problem),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    pub state: State,
    /// The user to apply.
    pub apply: Option<Desired>,
    /// Earlier users that no pod logs in with.
    pub stale: Vec<LiveUser>,
    /// The version in which users are served.
    pub resource: Option<ApiResource>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Its ACLs in Strimzi's form. None where the cluster enforces none.
    pub acls: Option<Vec<Value>>,
    pub live: Option<LiveUser>,
}

impl Decision {
    /// What keeps a schema Job from logging in.
    pub const fn problem(&self) -> Option<&Problem> {
        match &self.state {
            State::NotNeeded | State::Ready => None,
            State::Pending(problem) | State::Failed(problem) => Some(problem),
        }
    }

    /// Why workers cannot log in.
    pub const fn failure(&self) -> Option<&Problem> {
        match &self.state {
            State::Failed(problem) => Some(problem),
            _ => None,
        }
    }
}

pub fn decide(input: &KafkaUserInput<'_>) -> Decision {
    let listed = match &input.live {
        Some(Ok(listed)) => Some(listed),
        Some(Err(_)) | None => None,
    };
    let (state, apply) = match input.requested {
        None => (State::NotNeeded, None),
        Some(requested) => match requested_user(input, requested) {
            Ok((_, desired)) if input.assumes_ready => (State::Ready, Some(desired)),
            Ok((state, desired)) => (state, Some(desired)),
            Err(state) => (state, None),
        },
    };
    let is_usable = matches!(state, State::NotNeeded | State::Ready);
    let replaceable = listed.filter(|_| is_usable && input.is_rolled_out);
    let is_stale = |user: &&LiveUser| {
        let name = user.0.name_any();
        input.requested.is_none_or(|requested| requested.name != name) && !input.mounted.contains(&name)
    };
    Decision {
        state,
        apply,
        stale: replaceable
            .into_iter()
            .flat_map(|listed| &listed.users)
            .filter(is_stale)
            .cloned()
            .collect(),
        resource: listed.map(|listed| listed.resource.clone()),
    }
}

fn requested_user(input: &KafkaUserInput<'_>, requested: &RequestedUser) -> Result<(State, Desired), State> {
    let cluster = input.cluster.as_ref().map_err(unavailable)?;
    let listed = match &input.live {
        Some(Ok(listed)) if cluster.user_namespace == input.namespace => listed,
        Some(Err(why)) if cluster.user_namespace == input.namespace => return Err(unavailable(why)),
        _ => return Err(State::Failed(not_watched(requested, input.namespace, &cluster.user_namespace))),
    };
    let live = listed.users.iter().find(|user| user.0.name_any() == requested.name).cloned();
    let user = live.as_ref().map(|live| live.0.as_ref());
    let Some(acls) = acls(requested, cluster.has_acls, user, input.is_rolled_out) else {
        let message = format!(
            "Kafka {} is not known, so it is not known whether its users need ACLs",
            requested.cluster
        );
        return Err(State::Pending((KAFKA_USER_PENDING.to_owned(), message)));
    };
    let state = state(requested, user);
    Ok((state, Desired { acls, live }))
}

fn unavailable(why: &Unavailable) -> State {
    let problem = (why.reason().to_owned(), why.to_string());
    match why {
        Unavailable::NotYetKnown { .. } => State::Pending((KAFKA_USER_PENDING.to_owned(), problem.1)),
        _ => State::Failed(problem),
    }
}

fn not_watched(requested: &RequestedUser, namespace: &str, user_namespace: &str) -> Problem {
    let message = format!(
        "the User Operator of Kafka {} watches namespace {user_namespace}, so pipelines of namespace {namespace} get no KafkaUser: name a copy \
         of a user's Secret in spec.kafka.auth.strimziUser.secretRef of the connection",
        requested.cluster
    );
    ("UserNamespaceMismatch".to_owned(), message)
}

/// The outer `None`: it is not known whether the cluster enforces ACLs.
#[allow(clippy::option_option)] // an unknown answer is not the answer that there are none
fn acls(requested: &RequestedUser, has_acls: Option<bool>, live: Option<&KafkaUser>, is_rolled_out: bool) -> Option<Option<Vec<Value>>> {
    let authorization = live.and_then(|live| live.spec.authorization.as_ref());
    if !has_acls.or(live.map(|_| authorization.is_some()))? {
        return Some(None);
    }
    let mut acls: Vec<Value> = requested.acls.iter().map(Acl::to_value).collect();
    // Pods that still have the previous config may use another dead-letter topic.
    let earlier = authorization.and_then(|authorization| authorization["acls"].as_array());
    for acl in earlier.into_iter().flatten().filter(|_| !is_rolled_out) {
        if !acls.contains(acl) {
            acls.push(acl.clone());
        }
    }
    Some(Some(acls))
}

fn state(requested: &RequestedUser, live: Option<&KafkaUser>) -> State {
    let (name, cluster) = (&requested.name, &requested.cluster);
    let pending = |what: &str| State::Pending((KAFKA_USER_PENDING.to_owned(), format!("KafkaUser {name} {what}")));
    let Some(live) = live else { return pending("is being created") };
    let status = live.status.clone().unwrap_or_default();
    let find = |type_: &str| {
        let mut conditions = status.conditions.iter();
        conditions.find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    if let Some(failed) = find("NotReady") {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let reason = failed.reason.clone().filter(|reason| !reason.is_empty());
        let message = format!("KafkaUser {name} is not ready: {}", text(&failed.message));
        return State::Failed((reason.unwrap_or_else(|| "KafkaUserNotReady".to_owned()), message));
    }
    if find("ReconciliationPaused").is_some() {
        let message = format!("the reconciliation of KafkaUser {name} is paused: remove its annotation strimzi.io/pause-reconciliation");
        return State::Pending(("ReconciliationPaused".to_owned(), message));
    }
    let is_observed = live.metadata.generation.is_none() || status.observed_generation >= live.metadata.generation;
    if find("Ready").is_none() || !is_observed {
        return pending(&format!(
            "has not been reconciled yet: check that the User Operator of Kafka {cluster} runs"
        ));
    }
    match &status.secret {
        Some(secret) if secret != name => {
            let message = format!(
                "KafkaUser {name} has its credentials in Secret {secret}, and pods mount Secret {name}: remove secretPrefix from the User \
                 Operator of Kafka {cluster}"
            );
            State::Failed(("KafkaUserSecret".to_owned(), message))
        }
        _ => State::Ready,
    }
}

#[cfg(test)]
mod tests;
