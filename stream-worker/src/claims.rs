//! Whose a table, a topic, a consumer group or a subject is: `userpipeline.claims` in the pipeline's PostgreSQL.
//!
//! Within one Kubernetes cluster the operator knows all pipelines and lets the elder win, so a claim there just moves on. Of
//! a pipeline in another cluster it knows nothing; the claim that one has left keeps the two from writing to the same place.

use tokio_postgres::{Client, GenericClient};
use userpipeline_api::Postgres;
use userpipeline_stores::{
    Secrets, StoreError,
    error::CLAIMED,
    postgres::{connect, explain},
};

/// What can be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A table in this database.
    Table,
    /// A table in Cassandra, as `keyspace.table`; its place is the name of the cluster.
    CassandraTable,
    /// A topic; its place is the id of the Kafka cluster.
    Topic,
    /// A consumer group; its place is the id of the Kafka cluster.
    Group,
    /// A subject; its place is the registry's address.
    Subject,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Table, Self::CassandraTable, Self::Topic, Self::Group, Self::Subject];

    /// As it is stored, and told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::CassandraTable => "Cassandra table",
            Self::Topic => "topic",
            Self::Group => "consumer group",
            Self::Subject => "subject",
        }
    }
}

/// Something that only one pipeline may write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thing {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub place: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Thing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// A thing that is the holder's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The thing.
    pub thing: Thing,
    /// It was not there before its pipeline.
    pub made: bool,
}

/// Who claims.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The Kubernetes cluster: the uid of its namespace `kube-system`.
    pub cluster: String,
    /// The pipeline, as `namespace/name`.
    pub pipeline: String,
}

impl Holder {
    /// Claims a thing, or says whose it is. `made`: it is not there yet; remembered from the first claim on, and given back.
    pub async fn claim(&self, db: &impl GenericClient, thing: &Thing, made: bool) -> Result<bool, StoreError> {
        let what = format!("claiming the {thing}");
        let row = db
            .query_one(
                "INSERT INTO userpipeline.claims AS c (kind, place, name, cluster, pipeline, made) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (kind, place, name) DO UPDATE SET pipeline = CASE WHEN c.cluster = excluded.cluster THEN excluded.pipeline ELSE c.pipeline END \
                 RETURNING cluster, pipeline, made",
                &[&thing.kind.as_str(), &thing.place, &thing.name, &self.cluster, &self.pipeline, &made],
            )
            .await
            .map_err(|e| explain(&what, &e))?;
        self.compare(thing, row.get(0), row.get(1))?;
        Ok(row.get(2))
    }

    /// Says whose a thing is, if it is that of another cluster; claims nothing. The result is whether it was made by the one who claims it.
    async fn look(&self, db: &Client, thing: &Thing) -> Result<bool, StoreError> {
        let found = db
            .query_opt(
                "SELECT cluster, pipeline, made FROM userpipeline.claims WHERE kind = $1 AND place = $2 AND name = $3",
                &[&thing.kind.as_str(), &thing.place, &thing.name],
            )
            .await
            .map_err(|e| explain("reading userpipeline.claims", &e))?;
        let Some(row) = found else { return Ok(false) };
        self.compare(thing, row.get(0), row.get(1))?;
        Ok(row.get(2))
    }

    fn compare(&self, thing: &Thing, cluster: &str, pipeline: &str) -> Result<(), StoreError> {
        if cluster == self.cluster {
            return Ok(());
        }
        Err(StoreError::configuration(
            CLAIMED,
            format!(
                "the {thing} is that of UserPipeline {pipeline} in another Kubernetes cluster ({cluster}): choose another name or database. Where that \
                 cluster is gone for good, let go of what it had: DELETE FROM userpipeline.claims WHERE cluster = '{cluster}'"
            ),
        ))
    }

    /// Everything that is the holder's.
    pub async fn claims(&self, db: &impl GenericClient) -> Result<Vec<Claim>, StoreError> {
        let rows = db
            .query(
                "SELECT kind, place, name, made FROM userpipeline.claims WHERE cluster = $1 AND pipeline = $2 ORDER BY kind, place, name",
                &[&self.cluster, &self.pipeline],
            )
            .await
            .map_err(|e| explain("reading userpipeline.claims", &e))?;
        let claims = rows.iter().filter_map(|row| {
            let kind: String = row.get(0);
            Some(Claim {
                thing: Thing {
                    kind: Kind::ALL.into_iter().find(|known| known.as_str() == kind)?,
                    place: row.get(1),
                    name: row.get(2),
                },
                made: row.get(3),
            })
        });
        Ok(claims.collect())
    }

    /// Lets go of a thing.
    pub async fn let_go(&self, db: &impl GenericClient, thing: &Thing) -> Result<(), StoreError> {
        db.execute(
            "DELETE FROM userpipeline.claims WHERE kind = $1 AND place = $2 AND name = $3 AND cluster = $4 AND pipeline = $5",
            &[&thing.kind.as_str(), &thing.place, &thing.name, &self.cluster, &self.pipeline],
        )
        .await
        .map(drop)
        .map_err(|e| explain(&format!("letting go of the {thing}"), &e))
    }
}

/// Claims for what is not in this database. Nobody claims where a file is applied by hand.
pub struct Claims {
    held: Option<(Holder, Client)>,
    /// Nothing is claimed, but whose a thing is still matters.
    plan: bool,
}

impl Claims {
    /// Ready to claim for `holder`.
    pub async fn open(holder: Option<&Holder>, postgres: &Postgres, secrets: &Secrets, plan: bool) -> Result<Self, StoreError> {
        let held = match holder {
            Some(holder) => Some((holder.clone(), connect(postgres, secrets, "userpipeline-claims").await?)),
            None => None,
        };
        Ok(Self { held, plan })
    }

    /// Whether anybody claims.
    pub const fn are_taken(&self) -> bool {
        self.held.is_some()
    }

    /// Claims a thing; see [`Holder::claim`]. What nobody claims is nobody's.
    pub async fn take(&self, kind: Kind, place: &str, name: &str, made: bool) -> Result<bool, StoreError> {
        let Some((holder, db)) = &self.held else { return Ok(false) };
        let thing = Thing {
            kind,
            place: place.to_owned(),
            name: name.to_owned(),
        };
        if !self.plan {
            return holder.claim(db, &thing, made).await;
        }
        let row = db.query_one("SELECT to_regclass('userpipeline.claims') IS NULL", &[]).await;
        let nobody_claims: bool = row.map_err(|e| explain("looking for userpipeline.claims", &e))?.get(0);
        if nobody_claims { Ok(false) } else { holder.look(db, &thing).await }
    }
}
