//! Events of a connection: a closed set of reasons, each published when the status changes, and not again. Pure.

use kube::runtime::events::{Event, EventType};
use userpipeline_api::{UserPipelineConnectionStatus, condition, names::PipelineId, text::truncate};

/// Pipelines that an Event names.
const NAMED: usize = 5;

/// The Events of the change from one status to the next. `users` are the pipelines that use the connection now.
pub fn events(before: &UserPipelineConnectionStatus, after: &UserPipelineConnectionStatus, users: &[PipelineId]) -> Vec<Event> {
    let mut events = Vec::new();
    for type_ in [condition::ACCEPTED, condition::CHECKED] {
        let find = |status: &UserPipelineConnectionStatus| {
            let found = status.conditions.iter().find(|c| c.type_ == type_)?;
            Some((found.status.clone(), found.reason.clone(), found.message.clone()))
        };
        let (old, Some((status, reason, message))) = (find(before), find(after)) else {
            continue;
        };
        // Latencies differ each time. A failure is published again with another text.
        let is_new = match (&old, status.as_str()) {
            (Some((old, ..)), "True") => old != "True",
            (Some(old), _) => *old != (status.clone(), reason.clone(), message.clone()),
            (None, _) => true,
        };
        if is_new && status != "Unknown" {
            let type_ = if status == "True" { EventType::Normal } else { EventType::Warning };
            events.push(event(type_, &reason, &message));
        }
    }
    match (before.pipelines, after.pipelines) {
        (0, 1..) => events.push(event(EventType::Normal, "Used", &format!("used by {}", names(users)))),
        (1.., 0) => events.push(event(EventType::Normal, "Unused", "no pipeline uses the connection any more")),
        _ => {}
    }
    events
}

fn names(users: &[PipelineId]) -> String {
    let mut names: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.truncate(NAMED);
    format!("UserPipeline {}{more}", names.join(", "))
}

fn event(type_: EventType, reason: &str, note: &str) -> Event {
    Event {
        type_,
        reason: reason.to_owned(),
        // The apiserver accepts 1024 bytes.
        note: Some(truncate(note, 1000)),
        action: "Reconcile".to_owned(),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(accepted: &Value, checked: &Value, pipelines: i32) -> UserPipelineConnectionStatus {
        let condition = |type_: &str, state: &Value| json!({"type": type_, "status": state[0], "reason": state[1], "message": state[2], "lastTransitionTime": "2025-01-01T00:00:00Z"});
        let conditions = [condition("Accepted", accepted), condition("Checked", checked)];
        serde_json::from_value(json!({"conditions": conditions, "pipelines": pipelines})).unwrap()
    }

    #[test]
    fn an_event_is_published_once_for_a_change() {
        let yes = json!(["True", "Accepted", ""]);
        let no = json!(["False", "InvalidSpec", "x"]);
        let checking = json!(["Unknown", "Checking", ""]);
        let fast = json!(["True", "Reachable", "postgres: 1 ms"]);
        let slow = json!(["True", "Reachable", "postgres: 9 ms"]);
        let down = json!(["False", "PostgresUnreachable", "nobody is there"]);
        let none = UserPipelineConnectionStatus::default();
        for (before, after, expected) in [
            (none, status(&yes, &checking, 0), vec!["Accepted"]),
            (status(&yes, &checking, 0), status(&yes, &fast, 0), vec!["Reachable"]),
            (status(&yes, &fast, 0), status(&yes, &slow, 0), vec![]),
            (status(&yes, &fast, 0), status(&yes, &down, 0), vec!["PostgresUnreachable"]),
            (status(&yes, &down, 0), status(&no, &checking, 0), vec!["InvalidSpec"]),
            (status(&yes, &fast, 0), status(&yes, &fast, 2), vec!["Used"]),
            (status(&yes, &fast, 2), status(&yes, &fast, 3), vec![]),
            (status(&yes, &fast, 2), status(&yes, &fast, 0), vec!["Unused"]),
        ] {
            let reasons: Vec<String> = events(&before, &after, &[]).into_iter().map(|event| event.reason).collect();
            assert_eq!(reasons, expected, "{before:?} {after:?}");
            assert!(events(&after, &after, &[]).is_empty());
        }
    }

    #[test]
    fn a_few_of_the_pipelines_are_named() {
        let users: Vec<PipelineId> = (0..7)
            .map(|n| PipelineId {
                namespace: "demo".into(),
                name: format!("p{n}"),
            })
            .collect();
        assert_eq!(names(&users), "UserPipeline p0, p1, p2, p3, p4 and 2 more");
        assert_eq!(names(&users[..1]), "UserPipeline p0");
    }
}
