use proptest::prelude::*;

use super::*;

fn id(namespace: &str, name: &str) -> PipelineId {
    PipelineId {
        namespace: namespace.into(),
        name: name.into(),
    }
}

#[test]
fn plain_names_stay_readable() {
    let users = id("demo", "users");
    assert_eq!(landing_table(&users), "demo_users_raw");
    assert_eq!(postgres_table(&users), "demo_users");
    assert_eq!(keyspace(&users), "demo_users");
    assert_eq!(topic(&users), "demo.users");
    assert_eq!(dead_letter_topic(&topic(&users)), "demo.users.dlq");
    assert_eq!(group_id(&users), "demo.users");
    assert_eq!(cron_job("users"), "users-ingest");
}

#[test]
fn names_that_sanitising_would_confuse_carry_a_hash() {
    assert_ne!(keyspace(&id("a-b", "c")), keyspace(&id("a", "b-c")));
    assert!(keyspace(&id("1st", "users")).starts_with("up_1st_users_"));
}

#[test]
fn indexes_of_tables_that_begin_alike_are_not_mixed_up() {
    let long = "t".repeat(POSTGRES_LIMIT - 1);
    let (one, two) = (index("age", &format!("{long}1")), index("age", &format!("{long}2")));
    assert_eq!((one.len(), two.len()), (POSTGRES_LIMIT, POSTGRES_LIMIT));
    assert_ne!(one, two);
    assert_eq!(index("age", "users_raw"), "userpipeline_age_users_raw");
}

#[test]
fn the_name_of_a_scheduled_job_has_its_tick_and_any_other_name_has_none() {
    for (job, cron_job, tick) in [
        ("users-ingest-28228920", "users-ingest", Some("2023-09-03T10:00:00Z")),
        ("x-29000000", "x", Some("2025-02-19T21:20:00Z")),
        ("x-10000000", "x", Some("1989-01-05T10:40:00Z")),
        ("x-999999999", "x", Some("3871-04-29T10:39:00Z")),
        // A CronJob whose own name ends in digits.
        ("x-1-28228920", "x-1", Some("2023-09-03T10:00:00Z")),
        ("users-ingest-5", "users-ingest", None),
        ("users-ingest-9999999", "users-ingest", None),
        ("users-ingest-1000000000", "users-ingest", None),
        ("users-ingest-99999999999999999999", "users-ingest", None),
        ("users-ingest-manual-abc", "users-ingest", None),
        ("users-ingest-28228920", "other", None),
        ("users-ingest-28228920", "users", None),
        ("users-ingest-28228920", "", None),
        ("users-ingest28228920", "users-ingest", None),
        ("users-ingest-", "users-ingest", None),
        ("users-ingest", "users-ingest", None),
        ("users-ingest-028228920", "users-ingest", None),
        ("users-ingest-+28228920", "users-ingest", None),
        ("users-ingest--28228920", "users-ingest", None),
        ("users-ingest-28228920-x", "users-ingest", None),
    ] {
        let found = tick_of_job(cron_job, job);
        assert_eq!(found.map(|tick| tick.to_string()).as_deref(), tick, "{job} of {cron_job}");
        if let Some(tick) = found {
            assert_eq!(scheduled_job(cron_job, tick), job);
        }
    }
}

#[test]
fn the_name_of_a_kafka_topic_is_that_of_its_topic_where_kubernetes_allows_it() {
    for (topic, name) in [
        ("demo.users", "demo.users".to_owned()),
        ("demo.users.dlq", "demo.users.dlq".to_owned()),
        ("Orders", format!("orders-{}", hash("Orders"))),
        ("orders_v1", format!("orders-v1-{}", hash("orders_v1"))),
        ("a..b", format!("a--b-{}", hash("a..b"))),
        ("-a", format!("a-{}", hash("-a"))),
        ("__", format!("topic-{}", hash("__"))),
    ] {
        assert_eq!(kafka_topic(topic), name, "{topic}");
    }
}

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
}

proptest! {
    #[test]
    fn names_are_valid_and_within_their_limits(namespace in label(), name in label()) {
        let id = id(&namespace, &name);
        for (text, limit) in [(landing_table(&id), POSTGRES_LIMIT), (postgres_table(&id), POSTGRES_LIMIT), (keyspace(&id), CASSANDRA_LIMIT), (cassandra_table(&id), CASSANDRA_LIMIT)] {
            prop_assert!(text.len() <= limit, "{text}");
            prop_assert!(text.starts_with(|c: char| c.is_ascii_lowercase()), "{text}");
            prop_assert!(text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'), "{text}");
        }
        prop_assert!(topic(&id).len() <= 249 - 4);
        prop_assert!(cron_job(&id.name).len() <= CRON_JOB_LIMIT);
        prop_assert!(workers(&id.name).len() <= CRON_JOB_LIMIT);
    }

    #[test]
    fn kubernetes_allows_the_names_of_all_kafka_topics(topic in "[a-zA-Z0-9._-]{1,249}", other in "[a-zA-Z0-9._-]{1,249}") {
        let name = kafka_topic(&topic);
        let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        prop_assert!(name.len() <= 253);
        prop_assert!(name.split('.').all(|part| part.starts_with(ends) && part.ends_with(ends)), "{name}");
        prop_assert!(topic == other || name != kafka_topic(&other), "{name}");
    }

    #[test]
    fn two_pipelines_never_share_a_name(a in (label(), label()), b in (label(), label())) {
        prop_assume!(a != b);
        let (a, b) = (id(&a.0, &a.1), id(&b.0, &b.1));
        let of = |id: &PipelineId| [landing_table(id), postgres_table(id), topic(id), dead_letter_topic(&topic(id))];
        for left in of(&a) {
            prop_assert!(!of(&b).contains(&left), "{left}");
        }
        prop_assert_ne!(keyspace(&a), keyspace(&b));
    }
}
