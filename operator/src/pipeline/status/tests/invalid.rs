//! The status of an invalid spec.

use super::*;

#[test]
fn an_invalid_spec_is_stalled_names_the_field_and_retains_the_record() {
    let mut pipeline = example::pipeline();
    pipeline.status = Some(of(&pipeline, Ok(&applied(healthy())), &Observed::default(), now()));
    pipeline.metadata.generation = Some(2);
    pipeline.spec.schedule.as_mut().unwrap().cron = "61 * * * *".into();
    let error = example::validate(&pipeline).unwrap_err();
    let status = of(&pipeline, Err(&error), &Observed::default(), now());
    let (ready, reason, message) = condition(&status, "Ready");
    assert_eq!((ready, reason), ("False", "InvalidSpec"));
    assert!(message.starts_with("spec.schedule.cron: "), "{message}");
    assert_eq!(condition(&status, "Stalled").0, "True");
    assert_eq!(condition(&status, "Reconciling").0, "False");
    assert_eq!(status.observed_generation, Some(2));
    assert_eq!(status.schema, pipeline.status.unwrap().schema);
    assert!(status.conditions.iter().all(|c| c.status != "True" || c.type_ == "Stalled"));
}

#[test]
fn a_run_that_fails_while_the_spec_is_invalid_counts() {
    let mut pipeline = example::pipeline();
    let settled = Applied {
        decisions: Decisions {
            runs: schedule::Decision {
                status: ScheduleStatus {
                    consecutive_failures: 1,
                    ..ScheduleStatus::default()
                },
                ..schedule::Decision::default()
            },
            ..Decisions::default()
        },
        ..applied(healthy())
    };
    pipeline.status = Some(of(&pipeline, Ok(&settled), &Observed::default(), now()));
    pipeline.spec.schedule.as_mut().unwrap().cron = "61 * * * *".into();
    let error = example::validate(&pipeline).unwrap_err();
    let failed = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": "2025-01-01T00:05:00Z"}]});
    let observed = Observed {
        children: Children {
            jobs: vec![runs::run("users-ingest-28928165", &failed)],
            ..Children::default()
        },
        ..Observed::default()
    };
    for _ in 0..2 {
        let status = of(&pipeline, Err(&error), &observed, now());
        assert_eq!(
            status.schedule.as_ref().unwrap().consecutive_failures,
            2,
            "once, however often it is observed"
        );
        pipeline.status = Some(status);
    }
}
