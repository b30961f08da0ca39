//! What a deletion deletes: what the operator recorded as created by the pipeline, as far as the spec names it. Pure.

use userpipeline_api::{StoreObject, TableManagement, TopicManagement, document::SchemaPipeline, names};

use crate::{
    claims::{Claim, Kind, Resource},
    created_objects::is_same,
};

/// Resources to delete, and others with why they stay.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub delete: Vec<Resource>,
    pub kept: Vec<String>,
}

/// `recorded`: the operator's record. `claims`: those of the pipeline, which add only what is kept, because an author can forge them.
/// `database`: the id of the database.
pub fn select(recorded: &[StoreObject], claims: &[Claim], database: &str, pipeline: &SchemaPipeline) -> Selection {
    let mut selection = Selection::default();
    for object in recorded {
        let resource = resource(object);
        match why_kept(&resource, database, pipeline) {
            None => selection.delete.push(resource),
            Some(why) => add(&mut selection.kept, format!("{resource} ({why})")),
        }
    }
    for claim in claims {
        let claimed = object_of(claim, database);
        if recorded.iter().any(|object| is_same(object, &claimed)) {
            continue;
        }
        // The operator deletes the KafkaTopics that it created, and reports the others.
        if claim.resource.kind == Kind::Topic && pipeline.kafka.topic.management == TopicManagement::Strimzi {
            continue;
        }
        let why = if claim.created {
            "status.createdObjects does not list it, or another pipeline uses it"
        } else {
            "it was there before the pipeline"
        };
        add(&mut selection.kept, format!("{} ({why})", claim.resource));
    }
    selection
}

/// What claims show as created, in place of the record of a pipeline that is older than it. Every consumer group was claimed so, also
/// one that the pipeline found.
pub fn claimed(claims: &[Claim], database: &str, pipeline: &SchemaPipeline) -> Vec<StoreObject> {
    let is_created = |claim: &&Claim| {
        let resource = &claim.resource;
        claim.created && (resource.kind != Kind::Group || resource.name == names::group_id(&pipeline.id))
    };
    claims.iter().filter(is_created).map(|claim| object_of(claim, database)).collect()
}

fn object_of(claim: &Claim, database: &str) -> StoreObject {
    let resource = &claim.resource;
    let store = if resource.kind == Kind::Table { database } else { &resource.place };
    StoreObject::new(resource.kind.object(), store, &resource.name)
}

fn resource(object: &StoreObject) -> Resource {
    let kind = Kind::ALL.into_iter().find(|kind| kind.object() == object.kind);
    Resource {
        kind: kind.unwrap_or(Kind::Table),
        place: object.store.clone(),
        name: object.name.clone(),
    }
}

fn why_kept(resource: &Resource, database: &str, pipeline: &SchemaPipeline) -> Option<&'static str> {
    let tables = &pipeline.tables;
    let is_landing = Some(&resource.name) == pipeline.landing_table.as_ref();
    let management = match resource.kind {
        Kind::CassandraTable => tables.cassandra,
        Kind::Table if is_landing => tables.landing,
        Kind::Table => tables.postgres,
        Kind::Topic | Kind::Group | Kind::Subject => TableManagement::Direct,
    };
    let topics = pipeline.kafka.topic.management;
    if !is_named(resource, pipeline) {
        Some("the spec no longer names it")
    } else if management == TableManagement::None {
        Some("its management is None")
    } else if topics == TopicManagement::None && matches!(resource.kind, Kind::Topic | Kind::Subject) {
        Some("spec.kafka.topic.management is None")
    } else if topics == TopicManagement::Strimzi && resource.kind == Kind::Topic {
        Some("it has a KafkaTopic")
    } else if resource.kind == Kind::Table && resource.place != database {
        Some("it is in another database than spec.postgres")
    } else {
        None
    }
}

fn is_named(resource: &Resource, pipeline: &SchemaPipeline) -> bool {
    let name = &resource.name;
    match resource.kind {
        Kind::Topic => *name == pipeline.topic || *name == pipeline.dead_letter_topic,
        Kind::Group => *name == pipeline.group_id,
        Kind::Subject => *name == names::subject(&pipeline.topic),
        Kind::Table => tables(pipeline).any(|table| table == *name),
        Kind::CassandraTable => cassandra_tables(pipeline).any(|table| table == *name),
    }
}

/// The tables in PostgreSQL, and the views of aggregates.
fn tables(pipeline: &SchemaPipeline) -> impl Iterator<Item = String> {
    let sink = pipeline.postgres_table.as_deref();
    let views = sink.map(|sink| pipeline.aggregates.iter().map(|aggregate| names::view(aggregate, sink)));
    let landing = pipeline.landing_table.as_deref();
    let tables = landing.into_iter().chain(sink).map(ToOwned::to_owned);
    tables.chain(views.into_iter().flatten())
}

/// The tables in Cassandra, with their keyspace: that of the sink, and those of aggregates.
fn cassandra_tables(pipeline: &SchemaPipeline) -> impl Iterator<Item = String> {
    pipeline.cassandra.iter().flat_map(|target| {
        let mirrors = pipeline.aggregates.iter();
        let mirrors = mirrors.filter_map(|aggregate| names::mirror(aggregate, &target.table));
        let tables = std::iter::once(target.table.clone()).chain(mirrors);
        tables.map(|table| format!("{}.{table}", target.keyspace))
    })
}

/// A subject has a claim for each URL of its registry, and is reported once.
pub fn add(list: &mut Vec<String>, entry: String) {
    if !list.contains(&entry) {
        list.push(entry);
    }
}

#[cfg(test)]
mod tests {
    use userpipeline_api::StoreObjectKind;

    use super::*;

    const PIPELINE: &str = r"
kind: UserPipeline
metadata: {name: users, namespace: demo}
spec:
  postgres: {host: postgres, database: users, credentialsSecretRef: {name: p}}
  landing: {management: TABLES}
  kafka: {bootstrapServers: 'kafka:9092', topic: {management: TOPICS}}
  schemaRegistry: {url: http://registry:8080}
  cassandra: {contactPoints: [cassandra], localDatacenter: dc1, credentialsSecretRef: {name: c}}
  sinks: {postgres: {}, cassandra: {}}
  aggregates:
    - {name: by_day, values: [{name: users, count: {}}], sinks: {cassandra: {}}}
";

    fn pipeline(tables: &str, topics: &str) -> SchemaPipeline {
        SchemaPipeline::read(&PIPELINE.replace("TABLES", tables).replace("TOPICS", topics)).unwrap()
    }

    fn object(kind: Kind, name: &str) -> StoreObject {
        StoreObject::new(kind.object(), if kind == Kind::Table { "1/users" } else { "k" }, name)
    }

    #[test]
    fn only_what_is_recorded_and_named_is_deleted() {
        for (kind, name, tables, topics, expected) in [
            (Kind::Topic, "demo.users", "Direct", "Direct", true),
            (Kind::Topic, "demo.users.dlq", "Direct", "Direct", true),
            (Kind::Topic, "of-an-earlier-spec", "Direct", "Direct", false),
            (Kind::Topic, "demo.users", "Direct", "None", false),
            (Kind::Subject, "demo.users-value", "Direct", "Direct", true),
            (Kind::Subject, "demo.users-value", "Direct", "None", false),
            (Kind::Topic, "demo.users", "Direct", "Strimzi", false),
            (Kind::Subject, "demo.users-value", "Direct", "Strimzi", true),
            (Kind::Group, "demo.users", "Direct", "None", true),
            (Kind::Group, "payments", "Direct", "Direct", false),
            (Kind::Table, "demo_users", "None", "Direct", true),
            (Kind::Table, "demo_users_raw", "Direct", "Direct", true),
            (Kind::Table, "demo_users_raw", "None", "Direct", false),
            (Kind::Table, "payments", "Direct", "Direct", false),
            (Kind::Table, "demo_users_by_day", "Direct", "Direct", true),
            (Kind::Table, "demo_users_by_hour", "Direct", "Direct", false),
            (Kind::CassandraTable, "demo_users.demo_users", "Direct", "Direct", true),
            (Kind::CassandraTable, "demo_users.demo_users_by_day", "Direct", "Direct", true),
            (Kind::CassandraTable, "demo_users.demo_users_by_hour", "Direct", "Direct", false),
            (Kind::CassandraTable, "payments.demo_users", "Direct", "Direct", false),
        ] {
            let selection = select(&[object(kind, name)], &[], "1/users", &pipeline(tables, topics));
            assert_eq!(
                selection.delete.len() == 1,
                expected,
                "{kind:?} {name} {tables} {topics}: {selection:?}"
            );
            assert_eq!(selection.kept.len(), usize::from(!expected), "{selection:?}");
        }
    }

    #[test]
    fn forged_claims_delete_nothing() {
        let claim = |kind: Kind, name: &str, created: bool| Claim {
            resource: Resource {
                kind,
                place: if kind == Kind::Table { String::new() } else { "k".to_owned() },
                name: name.to_owned(),
            },
            created,
        };
        let claims = [
            claim(Kind::Topic, "payments", true),
            claim(Kind::Topic, "demo.users", true),
            claim(Kind::Subject, "payments-value", true),
            claim(Kind::Table, "demo_users", true),
            claim(Kind::Group, "payments", false),
        ];
        let recorded = [object(Kind::Table, "demo_users")];
        let selection = select(&recorded, &claims, "1/users", &pipeline("Direct", "Direct"));
        assert_eq!(
            selection.delete.iter().map(Resource::to_string).collect::<Vec<_>>(),
            ["table demo_users"]
        );
        assert_eq!(
            selection.kept,
            [
                "topic payments (status.createdObjects does not list it, or another pipeline uses it)",
                "topic demo.users (status.createdObjects does not list it, or another pipeline uses it)",
                "subject payments-value (status.createdObjects does not list it, or another pipeline uses it)",
                "consumer group payments (it was there before the pipeline)",
            ]
        );
    }

    #[test]
    fn a_table_of_another_database_stays() {
        let table = StoreObject::new(StoreObjectKind::Table, "2/users", "demo_users");
        let selection = select(&[table], &[], "1/users", &pipeline("Direct", "Direct"));
        assert_eq!(selection.kept, ["table demo_users (it is in another database than spec.postgres)"]);
    }
}
