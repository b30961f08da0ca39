//! Which Kafka cluster and which PostgreSQL server these are, at whatever address they are reached. Offsets, totals and landed
//! records are there: another one behind a changed connection would silently start from scratch.

use tokio_postgres::GenericClient;
use userpipeline_api::{StoreAddress, StoreIdentity, TakenName};
use userpipeline_stores::{
    StoreError,
    error::CONFLICT,
    kafka::{Connection as KafkaConnection, admin::Admin},
    postgres::{Connection, explain},
};

use crate::sinks::{self, SchemaTask};

pub const STORE_CHANGED: &str = "StoreChanged";

/// The stores in which the schema was applied before, and others that were accepted since then.
#[derive(Clone, Debug, Default)]
pub struct ExpectedStores {
    pub kafka_cluster: Option<String>,
    /// `SYSTEM_IDENTIFIER/DATABASE`.
    pub postgres_system: Option<String>,
    pub accepted: Vec<String>,
    /// Names of the pipeline that others use in stores at other addresses. They are refused where the store is the same.
    pub taken: Vec<TakenName>,
    /// An existing topic may have any number of replicas.
    pub any_replicas: bool,
}

/// The ids of the stores. A store that was not asked, or does not report its id, has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreIds {
    pub kafka_cluster: Option<String>,
    pub postgres_system: Option<String>,
}

impl ExpectedStores {
    /// Reads the ids. Fails before anything is changed: where a store is another one than expected, or does not say which it is
    /// although one is expected, or another pipeline uses a name there. Kafka and Cassandra are asked only if that matters, because the
    /// tables in PostgreSQL do not need them.
    pub async fn verify(&self, task: &SchemaTask<'_>, postgres: &Connection) -> Result<StoreIds, StoreError> {
        let SchemaTask { pipeline, identities, .. } = *task;
        let client = postgres.connect(&format!("apply-schema {}", pipeline.id)).await?;
        let postgres_system = match postgres_system(&client).await {
            Ok(id) => Some(id),
            Err(error) if self.postgres_system.is_some() => return Err(error),
            Err(_) => None,
        };
        if let Some(id) = &postgres_system {
            identities.add(StoreAddress::postgres(&pipeline.postgres).identified([id.clone()]));
        }
        let kafka_cluster = if self.kafka_cluster.is_some() || !self.taken.is_empty() {
            Some(kafka_cluster(task).await?)
        } else {
            None
        };
        if !self.taken.is_empty() {
            for identifying in sinks::ALL.iter().filter_map(|sink| sink.identify(task)) {
                identities.add(identifying.await?);
            }
        }
        if let Some(error) = refusal(&self.taken, &identities.known()) {
            return Err(error);
        }
        let ids = StoreIds {
            kafka_cluster,
            postgres_system,
        };
        self.compare(&ids).map_or(Ok(ids), Err)
    }

    /// Why the stores are not those that are expected.
    fn compare(&self, ids: &StoreIds) -> Option<StoreError> {
        let stores = [
            ("the Kafka cluster (spec.kafka)", &self.kafka_cluster, &ids.kafka_cluster),
            ("the PostgreSQL server (spec.postgres)", &self.postgres_system, &ids.postgres_system),
        ];
        let changed = stores.into_iter().filter_map(|(store, expected, found)| {
            let (expected, found) = (expected.as_ref()?, found.as_ref()?);
            let text = format!("{store} has the id {found}, and the pipeline's data is in {expected}");
            (expected != found && !self.accepted.contains(found)).then_some((text, found.as_str()))
        });
        let (changed, found): (Vec<String>, Vec<&str>) = changed.unzip();
        if changed.is_empty() {
            return None;
        }
        Some(StoreError::configuration(
            STORE_CHANGED,
            format!(
                "{}. If its data was moved there, or the pipeline may start from scratch, annotate the connection or the pipeline with userpipeline.dev/accept-store={}; otherwise correct the address",
                changed.join("; "),
                found.join(",")
            ),
        ))
    }
}

/// The id of the database that `client` is connected to.
pub async fn postgres_system(client: &impl GenericClient) -> Result<String, StoreError> {
    let statement = "SELECT system_identifier::text || '/' || current_database() FROM pg_control_system()";
    let row = client.query_one(statement, &[]).await;
    row.map(|row| row.get(0))
        .map_err(|e| explain("reading the id of the PostgreSQL server", &e))
}

async fn kafka_cluster(task: &SchemaTask<'_>) -> Result<String, StoreError> {
    let SchemaTask { pipeline, secrets, .. } = *task;
    let connection = KafkaConnection::new(&pipeline.kafka.brokers(), secrets);
    let admin = Admin::connect(&connection, &format!("apply-schema {}", pipeline.id)).await?;
    let id = admin.cluster_id().await?;
    task.identities
        .add(StoreAddress::kafka(&pipeline.kafka.bootstrap_servers).identified([id.clone()]));
    Ok(id)
}

/// Why the pipeline may not use one of its names: another one uses it in the same store.
fn refusal(taken: &[TakenName], stores: &[StoreIdentity]) -> Option<StoreError> {
    let is_here = |name: &&TakenName| stores.iter().any(|store| store.ids.contains(&name.store));
    let TakenName { store, what } = taken.iter().find(is_here)?;
    Some(StoreError::configuration(
        CONFLICT,
        format!(
            "{what} is already used by another UserPipeline, which reaches the same store at another address (its id is {store}): choose another name. \
             Nothing was changed"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_store_is_refused_until_it_is_accepted() {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        for (expected, found, accepted, refused) in [
            (("k1", "p1"), ("k1", "p1"), "", None),
            (("", ""), ("k1", "p1"), "", None),
            (("k1", "p1"), ("k2", "p1"), "", Some("the Kafka cluster (spec.kafka) has the id k2")),
            (
                ("k1", "p1"),
                ("k1", "p2"),
                "",
                Some("the PostgreSQL server (spec.postgres) has the id p2"),
            ),
            (("k1", "p1"), ("k1", "p2"), "p2", None),
            (("k1", "p1"), ("k2", "p2"), "p2", Some("accept-store=k2;")),
            (("k1", "p1"), ("k2", "p2"), "", Some("accept-store=k2,p2;")),
            (("k1", "p1"), ("k2", "p2"), "k2,p2", None),
            (("k1", "p1"), ("", "p1"), "", None),
        ] {
            let stores = ExpectedStores {
                kafka_cluster: text(expected.0),
                postgres_system: text(expected.1),
                accepted: accepted.split(',').map(str::to_owned).collect(),
                ..ExpectedStores::default()
            };
            let ids = StoreIds {
                kafka_cluster: text(found.0),
                postgres_system: text(found.1),
            };
            let error = stores.compare(&ids);
            assert_eq!(error.is_some(), refused.is_some(), "{found:?}: {error:?}");
            assert!(refused.is_none_or(|says| error.unwrap().message.contains(says)), "{found:?}");
        }
    }

    #[test]
    fn a_name_that_another_pipeline_uses_in_the_same_store_is_refused() {
        let stores = [
            StoreAddress::kafka("kafka:9092").identified(["k1".to_owned()]),
            StoreIdentity {
                ids: ["n1", "n2"].map(str::to_owned).to_vec(),
                ..StoreAddress::kafka("cassandra").identified([])
            },
        ];
        let taken = |store: &str| TakenName {
            store: store.to_owned(),
            what: format!("topic at {store}"),
        };
        for (names, refused) in [
            (vec![], None),
            (vec![taken("k2")], None),
            (vec![taken("k2"), taken("k1")], Some("topic at k1 is already used")),
            (vec![taken("n2")], Some("topic at n2 is already used")),
        ] {
            let error = refusal(&names, &stores);
            assert_eq!(error.is_some(), refused.is_some(), "{names:?}");
            if let (Some(error), Some(says)) = (error, refused) {
                assert_eq!(error.reason, CONFLICT);
                assert!(error.message.starts_with(says), "{}", error.message);
            }
        }
        assert_eq!(refusal(&[taken("k1")], &[]), None, "no store says which it is");
    }
}
