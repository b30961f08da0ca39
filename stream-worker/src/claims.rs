//! Which pipeline owns a table, topic, consumer group or subject: `userpipeline.claims` in the pipeline's PostgreSQL.
//!
//! Within one Kubernetes cluster the operator resolves conflicts (the older pipeline wins), so a claim there just moves to the
//! new owner. It knows no pipelines of other clusters; their claims keep two pipelines from writing to the same place.

use tokio_postgres::{Client, GenericClient};
use userpipeline_stores::{
    StoreError,
    error::CLAIMED,
    postgres::{Connection, explain},
};

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

    /// As it is stored and reported.
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

/// What only one pipeline may write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub kind: Kind,
    pub place: String,
    pub name: String,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The resource.
    pub resource: Resource,
    /// It did not exist before its pipeline.
    pub created: bool,
}

#[derive(Clone, Debug)]
pub struct Holder {
    /// The Kubernetes cluster: the uid of its namespace `kube-system`.
    pub cluster: String,
    /// The pipeline, as `namespace/name`.
    pub pipeline: String,
}

impl Holder {
    /// Claims a resource; the error names its owner. `created`: it does not exist yet. Only the first claim records that, and
    /// every claim returns it.
    pub async fn claim(&self, db: &impl GenericClient, resource: &Resource, created: bool) -> Result<bool, StoreError> {
        let what = format!("claiming the {resource}");
        let row = db
            .query_one(
                "INSERT INTO userpipeline.claims AS c (kind, place, name, cluster, pipeline, made) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (kind, place, name) DO UPDATE SET pipeline = CASE WHEN c.cluster = excluded.cluster THEN excluded.pipeline ELSE c.pipeline END \
                 RETURNING cluster, pipeline, made",
                &[&resource.kind.as_str(), &resource.place, &resource.name, &self.cluster, &self.pipeline, &created],
            )
            .await
            .map_err(|e| explain(&what, &e))?;
        self.compare(resource, row.get("cluster"), row.get("pipeline"))?;
        Ok(row.get("made"))
    }

    /// Says whose a thing is, if it is that of another cluster; claims noresource. The result is whether it was made by the one who claims it.
    async fn inspect(&self, db: &Client, resource: &Resource) -> Result<bool, StoreError> {
        let found = db
            .query_opt(
                "SELECT cluster, pipeline, made FROM userpipeline.claims WHERE kind = $1 AND place = $2 AND name = $3",
                &[&resource.kind.as_str(), &resource.place, &resource.name],
            )
            .await
            .map_err(|e| explain("reading userpipeline.claims", &e))?;
        let Some(row) = found else { return Ok(false) };
        self.compare(resource, row.get("cluster"), row.get("pipeline"))?;
        Ok(row.get("made"))
    }

    fn compare(&self, resource: &Resource, cluster: &str, pipeline: &str) -> Result<(), StoreError> {
        if cluster == self.cluster {
            return Ok(());
        }
        Err(StoreError::configuration(
            CLAIMED,
            format!(
                "the {resource} is that of UserPipeline {pipeline} in another Kubernetes cluster ({cluster}): choose another name or database. Where that \
                 cluster is gone for good, let go of what it had: DELETE FROM userpipeline.claims WHERE cluster = '{cluster}'"
            ),
        ))
    }

    pub async fn claims(&self, db: &impl GenericClient) -> Result<Vec<Claim>, StoreError> {
        let rows = db
            .query(
                "SELECT kind, place, name, made FROM userpipeline.claims WHERE cluster = $1 AND pipeline = $2 ORDER BY kind, place, name",
                &[&self.cluster, &self.pipeline],
            )
            .await
            .map_err(|e| explain("reading userpipeline.claims", &e))?;
        let claims = rows.iter().filter_map(|row| {
            let kind: String = row.get("kind");
            Some(Claim {
                resource: Resource {
                    kind: Kind::ALL.into_iter().find(|known| known.as_str() == kind)?,
                    place: row.get("place"),
                    name: row.get("name"),
                },
                created: row.get("made"),
            })
        });
        Ok(claims.collect())
    }

    pub async fn release(&self, db: &impl GenericClient, resource: &Resource) -> Result<(), StoreError> {
        db.execute(
            "DELETE FROM userpipeline.claims WHERE kind = $1 AND place = $2 AND name = $3 AND cluster = $4 AND pipeline = $5",
            &[
                &resource.kind.as_str(),
                &resource.place,
                &resource.name,
                &self.cluster,
                &self.pipeline,
            ],
        )
        .await
        .map(drop)
        .map_err(|e| explain(&format!("letting go of the {resource}"), &e))
    }
}

/// Claims for resources outside of this database. Nothing is claimed where a file is applied by hand.
pub struct Claims {
    held: Option<(Holder, Client)>,
    /// Nothing is claimed, but a foreign owner is still an error.
    is_dry_run: bool,
}

impl Claims {
    pub async fn open(holder: Option<&Holder>, connection: &Connection, is_dry_run: bool) -> Result<Self, StoreError> {
        let held = match holder {
            Some(holder) => Some((holder.clone(), connection.connect("userpipeline-claims").await?)),
            None => None,
        };
        Ok(Self { held, is_dry_run })
    }

    pub const fn are_taken(&self) -> bool {
        self.held.is_some()
    }

    /// See [`Holder::claim`]. False where nothing is claimed.
    pub async fn take(&self, kind: Kind, place: &str, name: &str, created: bool) -> Result<bool, StoreError> {
        let Some((holder, db)) = &self.held else { return Ok(false) };
        let resource = Resource {
            kind,
            place: place.to_owned(),
            name: name.to_owned(),
        };
        if !self.is_dry_run {
            return holder.claim(db, &resource, created).await;
        }
        let row = db.query_one("SELECT to_regclass('userpipeline.claims') IS NULL", &[]).await;
        let is_missing: bool = row.map_err(|e| explain("looking for userpipeline.claims", &e))?.get(0);
        if is_missing {
            Ok(false)
        } else {
            holder.inspect(db, &resource).await
        }
    }
}
