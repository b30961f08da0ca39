//! What a connection takes from the `Kafka` resource of Strimzi. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use userpipeline_api::{KafkaConnection, KafkaListenerStatus, StrimziListener, UserAuthentication};

use super::authorities::{Authorities, authorities};
use crate::{
    pipeline::Problem,
    strimzi::{Kafka, StrimziCondition, Unavailable},
};

/// Characters of `status.kafka.bootstrapServers`.
const SERVERS_LIMIT: usize = 2048;

pub struct ListenerInput<'a> {
    /// The Kafka block of the connection.
    pub kafka: &'a KafkaConnection,
    pub listener: &'a StrimziListener,
    /// The namespace of the connection and its pipelines.
    pub namespace: &'a str,
    pub found: Result<Option<Arc<Kafka>>, Unavailable>,
    /// The namespace whose KafkaUsers the User Operator reconciles.
    pub user_namespace: Option<&'a str>,
    /// What the status has.
    pub recorded: Option<&'a KafkaListenerStatus>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolution {
    /// To be written to the status. What was found last stays while nothing newer is found: pipelines use it.
    pub kafka: Option<KafkaListenerStatus>,
    /// Why nothing, or nothing newer, is found.
    pub problem: Option<Problem>,
    /// What Strimzi reports of a cluster that can be used.
    pub note: Option<String>,
    /// When an authority is no longer trusted.
    pub next_expiry: Option<Timestamp>,
}

/// Decides what the connection uses.
pub fn resolve(input: &ListenerInput<'_>, now: Timestamp) -> Resolution {
    let recorded = input.recorded.filter(|recorded| recorded.strimzi == *input.listener);
    let resolved = match &input.found {
        Err(why) => Err((why.reason().to_owned(), why.to_string())),
        Ok(None) => Err(problem(
            "KafkaMissing",
            format!("{} does not exist: create it, or correct spec.kafka.strimzi", cluster(input)),
        )),
        Ok(Some(kafka)) => of_kafka(input, kafka, recorded, now),
    };
    match resolved {
        Ok(resolution) => resolution,
        Err(problem) => Resolution {
            kafka: recorded.cloned(),
            problem: Some(problem),
            ..Resolution::default()
        },
    }
}

fn of_kafka(
    input: &ListenerInput<'_>,
    kafka: &Kafka,
    recorded: Option<&KafkaListenerStatus>,
    now: Timestamp,
) -> Result<Resolution, Problem> {
    let name = &input.listener.listener;
    let listeners = &kafka.spec.kafka.listeners;
    let Some(listener) = listeners.iter().find(|listener| listener.name == *name) else {
        let names: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
        let message = format!("{} has no listener `{name}`: it has {}", cluster(input), names.join(", "));
        return Err(problem("ListenerMissing", message));
    };
    let status = kafka.status.clone().unwrap_or_default();
    let not_ready = not_ready(&status.conditions);
    let waiting = |what: &str| {
        let why = not_ready.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        problem(
            "KafkaNotReady",
            format!("the status of {} has no {what} of listener `{name}` yet{why}", cluster(input)),
        )
    };
    let found = status.listeners.iter().find(|found| found.name == *name);
    let servers = found
        .and_then(|found| found.bootstrap_servers.clone())
        .filter(|servers| !servers.is_empty());
    let (Some(found), Some(servers)) = (found, servers) else {
        return Err(waiting("address"));
    };
    let trusted = recorded.map(|recorded| &recorded.certificates[..]).unwrap_or_default();
    let authorities = if listener.tls {
        authorities(&found.certificates, trusted, now)
    } else {
        Authorities::default()
    };
    if listener.tls && authorities.certificates.is_empty() {
        return Err(waiting("authority"));
    }
    let authentication = listener.authentication.as_ref().map(|authentication| authentication.type_.clone());
    if let Some(problem) = user_problem(input, authentication.as_deref()) {
        return Ok(Resolution {
            problem: Some(problem),
            ..Resolution::default()
        });
    }
    Ok(Resolution {
        kafka: Some(KafkaListenerStatus {
            strimzi: input.listener.clone(),
            bootstrap_servers: within_limit(servers),
            tls: listener.tls,
            authentication,
            certificates: authorities.certificates,
        }),
        problem: None,
        note: not_ready.map(|why| format!("{} is not ready: {why}", cluster(input))),
        next_expiry: authorities.next_expiry,
    })
}

/// Why `auth.strimziUser` cannot be used.
fn user_problem(input: &ListenerInput<'_>, authentication: Option<&str>) -> Option<Problem> {
    let user = input.kafka.auth.as_ref()?.strimzi_user.as_ref()?;
    let StrimziListener { listener, .. } = input.listener;
    if authentication.and_then(UserAuthentication::of).is_none() {
        let has = authentication.map_or("no authentication".to_owned(), |type_| format!("authentication `{type_}`"));
        let message = format!(
            "spec.kafka.auth.strimziUser: listener `{listener}` of {} has {has}, and a KafkaUser needs scram-sha-512 or tls",
            cluster(input)
        );
        return Some(problem("AuthenticationMismatch", message));
    }
    let users = input
        .user_namespace
        .filter(|users| user.secret_ref.is_none() && *users != input.namespace)?;
    let namespace = input.namespace;
    Some(problem(
        "UserNamespaceMismatch",
        format!(
            "spec.kafka.auth.strimziUser: the User Operator of {} watches namespace {users}, so pipelines of namespace {namespace} get no \
             KafkaUser: create one in {users}, copy its Secret to {namespace}, and name the copy in spec.kafka.auth.strimziUser.secretRef",
            cluster(input)
        ),
    ))
}

/// Reason and message of Strimzi where the cluster is not ready.
fn not_ready(conditions: &[StrimziCondition]) -> Option<String> {
    let failed = conditions.iter().find(|condition| {
        matches!(
            (condition.type_.as_str(), condition.status.as_str()),
            ("NotReady", "True") | ("Ready", "False")
        )
    })?;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    Some(format!("{}: {}", text(&failed.reason), text(&failed.message)))
}

/// As many of the addresses as the status holds.
fn within_limit(mut servers: String) -> String {
    while servers.len() > SERVERS_LIMIT {
        let Some((first, _)) = servers.rsplit_once(',') else { break };
        servers = first.to_owned();
    }
    servers
}

fn cluster(input: &ListenerInput<'_>) -> String {
    format!("Kafka {}/{}", input.listener.namespace, input.listener.cluster)
}

fn problem(reason: &str, message: String) -> Problem {
    (reason.to_owned(), message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{connection::authorities::tests::authority, strimzi::Kind};

    struct Case {
        kafka: KafkaConnection,
        found: Result<Option<Arc<Kafka>>, Unavailable>,
        recorded: Option<KafkaListenerStatus>,
    }

    fn connection(auth: &Value) -> KafkaConnection {
        let strimzi = json!({"cluster": "events", "namespace": "kafka", "listener": "tls"});
        serde_json::from_value(json!({"strimzi": strimzi, "auth": auth})).unwrap()
    }

    /// A `Kafka` with the listeners `plain` and `tls`.
    fn kafka(authentication: &Value, status: &Value) -> Arc<Kafka> {
        let listeners = json!([{"name": "plain", "tls": false}, {"name": "tls", "tls": true, "authentication": authentication}]);
        let kafka = json!({
            "apiVersion": "kafka.strimzi.io/v1", "kind": "Kafka", "metadata": {"name": "events", "namespace": "kafka"},
            "spec": {"kafka": {"listeners": listeners}}, "status": status,
        });
        Arc::new(serde_json::from_value(kafka).unwrap())
    }

    fn ready(certificate: &str) -> Value {
        let tls = json!({"name": "tls", "bootstrapServers": "events-kafka-bootstrap.kafka.svc:9093", "certificates": [certificate]});
        json!({"conditions": [{"type": "Ready", "status": "True"}], "listeners": [{"name": "plain", "bootstrapServers": "b:9092"}, tls]})
    }

    fn resolved(case: &Case, listener: &str) -> Resolution {
        let mut kafka = case.kafka.clone();
        kafka.strimzi.as_mut().unwrap().listener = listener.to_owned();
        let input = ListenerInput {
            listener: kafka.strimzi.as_ref().unwrap(),
            kafka: &kafka,
            namespace: "demo",
            found: case.found.clone(),
            user_namespace: Some("kafka"),
            recorded: case.recorded.as_ref(),
        };
        resolve(&input, "2025-06-01T00:00:00Z".parse().unwrap())
    }

    #[test]
    fn a_listener_gives_address_authorities_and_authentication() {
        let pem = authority("a", 2030);
        let mut case = Case {
            kafka: connection(&Value::Null),
            found: Ok(Some(kafka(&json!({"type": "scram-sha-512"}), &ready(&pem)))),
            recorded: None,
        };
        let first = resolved(&case, "tls");
        let found = first.kafka.clone().unwrap();
        assert_eq!(
            (found.bootstrap_servers.as_str(), found.tls, found.authentication.as_deref()),
            ("events-kafka-bootstrap.kafka.svc:9093", true, Some("scram-sha-512"))
        );
        assert_eq!((found.certificates.len(), &first.problem), (1, &None));
        let plain = resolved(&case, "plain").kafka.unwrap();
        assert_eq!((plain.tls, plain.authentication, plain.certificates), (false, None, vec![]));

        // A second time, nothing changes; and a cluster that is not ready can be used.
        case.recorded.clone_from(&first.kafka);
        assert_eq!(resolved(&case, "tls"), first);
        let mut status = ready(&pem);
        status["conditions"] = json!([{"type": "NotReady", "status": "True", "reason": "Forbidden", "message": "no quota"}]);
        case.found = Ok(Some(kafka(&json!({"type": "scram-sha-512"}), &status)));
        let unready = resolved(&case, "tls");
        assert_eq!((&unready.kafka, &unready.problem), (&first.kafka, &None));
        assert_eq!(unready.note.unwrap(), "Kafka kafka/events is not ready: Forbidden: no quota");

        // Another authority is trusted besides the first one, but not where the listener is another one.
        case.found = Ok(Some(kafka(&Value::Null, &ready(&authority("b", 2040)))));
        let both = resolved(&case, "tls");
        assert_eq!(both.kafka.unwrap().certificates.len(), 2);
        assert_eq!(both.next_expiry.unwrap().to_string(), "2030-12-31T00:00:00Z");
        case.recorded.as_mut().unwrap().strimzi.cluster = "other".to_owned();
        assert_eq!(resolved(&case, "tls").kafka.unwrap().certificates.len(), 1);
    }

    #[test]
    fn what_was_found_last_stays_while_a_problem_is_reported() {
        let pem = authority("a", 2030);
        let kind = Kind::Kafka;
        let not_listed = Unavailable::NotListed {
            cluster: "kafka/events".to_owned(),
        };
        let starting = json!({"conditions": [{"type": "NotReady", "status": "True", "reason": "Creating", "message": "pods"}]});
        for (found, listener, reason, says) in [
            (Err(not_listed), "tls", "NotAllowed", "strimzi.clusters"),
            (
                Err(Unavailable::NotServed { kind }),
                "tls",
                "StrimziMissing",
                "does not serve Kafka",
            ),
            (Ok(None), "tls", "KafkaMissing", "Kafka kafka/events does not exist"),
            (
                Ok(Some(kafka(&Value::Null, &ready(&pem)))),
                "external",
                "ListenerMissing",
                "has no listener `external`: it has plain, tls",
            ),
            (
                Ok(Some(kafka(&Value::Null, &Value::Null))),
                "tls",
                "KafkaNotReady",
                "no address of listener `tls` yet",
            ),
            (
                Ok(Some(kafka(&Value::Null, &starting))),
                "tls",
                "KafkaNotReady",
                "yet: Creating: pods",
            ),
            (
                Ok(Some(kafka(&Value::Null, &ready("nonsense")))),
                "tls",
                "KafkaNotReady",
                "no authority of listener `tls` yet",
            ),
        ] {
            let case = Case {
                kafka: connection(&Value::Null),
                found,
                recorded: None,
            };
            let problem = |resolution: &Resolution| resolution.problem.clone().unwrap();
            let first = resolved(&case, listener);
            assert_eq!((problem(&first).0.as_str(), &first.kafka), (reason, &None), "{says}");
            assert!(problem(&first).1.contains(says), "{:?}", first.problem);

            if reason != "ListenerMissing" && says != "no authority of listener `tls` yet" {
                assert_recorded_stays(case, &pem, &first);
            }
        }
    }

    /// With something recorded, the problem is the same, and what was recorded stays.
    fn assert_recorded_stays(mut case: Case, pem: &str, first: &Resolution) {
        case.recorded = Some(KafkaListenerStatus {
            strimzi: case.kafka.strimzi.clone().unwrap(),
            bootstrap_servers: "b:9093".to_owned(),
            tls: true,
            authentication: None,
            certificates: vec![pem.to_owned()],
        });
        let later = resolved(&case, "tls");
        assert_eq!((&later.problem, &later.kafka), (&first.problem, &case.recorded));
    }

    #[test]
    fn a_user_needs_a_listener_that_authenticates_users_and_an_operator_that_makes_them() {
        let pem = authority("a", 2030);
        let scram = json!({"type": "scram-sha-512"});
        let copied = json!({"strimziUser": {"secretRef": {"name": "shop"}}});
        for (auth, authentication, reason, says) in [
            (
                json!({"strimziUser": {}}),
                Value::Null,
                "AuthenticationMismatch",
                "has no authentication",
            ),
            (
                copied.clone(),
                json!({"type": "oauth"}),
                "AuthenticationMismatch",
                "has authentication `oauth`",
            ),
            (
                json!({"strimziUser": {}}),
                scram.clone(),
                "UserNamespaceMismatch",
                "watches namespace kafka, so pipelines of namespace demo get no KafkaUser",
            ),
            (copied, scram, "", ""),
        ] {
            let case = Case {
                kafka: connection(&auth),
                found: Ok(Some(kafka(&authentication, &ready(&pem)))),
                recorded: None,
            };
            let found = resolved(&case, "tls");
            let (found_reason, message) = found.problem.clone().unwrap_or_default();
            assert_eq!(
                (found_reason.as_str(), found.kafka.is_some()),
                (reason, reason.is_empty()),
                "{message}"
            );
            assert!(message.contains(says), "{message}");
        }
    }
}
