//! Which pipeline writes to a table, topic, consumer group or subject: `userpipeline.claims` in the pipeline's PostgreSQL.
//!
//! Within one Kubernetes cluster the operator resolves conflicts (the older pipeline wins), so a claim there just moves to the
//! new owner. It knows no pipelines of other clusters; their claims keep two pipelines from writing to the same place. What a pipeline
//! may change or delete follows from the operator's record of what it created: see `created_objects.rs`.

use std::sync::Arc;

use tokio_postgres::{Client, GenericClient};
use userpipeline_api::{StoreObject, StoreObjectKind, names, names::PipelineId};
use userpipeline_stores::{
    StoreError,
    error::CLAIMED,
    postgres::{Connection, explain},
    schema_registry::same_registry,
};

use crate::created_objects::{CreatedObjects, Creator};

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
    /// A subject; its place is the registry's URL.
    Subject,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Table, Self::CassandraTable, Self::Topic, Self::Group, Self::Subject];

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

impl Resource {
    /// Whether its place is this one. A registry has another URL after a change from http to https. Earlier versions find a claim
    /// by the URL in their spec, so each URL has a row of its own.
    fn is_at(&self, place: &str) -> bool {
        self.place == place || self.kind == Kind::Subject && same_registry(&self.place, place)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.kind == other.kind && self.name == other.name && self.is_at(&other.place)
    }
}

impl Kind {
    pub const fn object(self) -> StoreObjectKind {
        match self {
            Self::Table => StoreObjectKind::Table,
            Self::CassandraTable => StoreObjectKind::CassandraTable,
            Self::Topic => StoreObjectKind::Topic,
            Self::Group => StoreObjectKind::ConsumerGroup,
            Self::Subject => StoreObjectKind::Subject,
        }
    }
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

/// A resource with several claims was created by the pipeline if one of them records that.
fn united(claims: &[Claim]) -> Vec<Claim> {
    let created = |claim: &Claim| claims.iter().any(|other| other.created && other.resource.is_same(&claim.resource));
    let united = claims.iter().map(|claim| Claim {
        created: created(claim),
        ..claim.clone()
    });
    united.collect()
}

/// A row of `userpipeline.claims`.
#[derive(Clone, Debug)]
struct Row {
    place: String,
    cluster: String,
    pipeline: String,
    created: bool,
}

#[derive(Clone, Debug)]
pub struct Holder {
    /// The Kubernetes cluster: the uid of its namespace `kube-system`.
    pub cluster: String,
    /// The pipeline, as `namespace/name`.
    pub pipeline: String,
    pub created: Arc<CreatedObjects>,
}

impl Holder {
    /// Claims a resource; the error names its owner. `is_new`: it does not exist yet. Only the first claim records that. Returns who
    /// created it.
    pub async fn claim(&self, db: &impl GenericClient, resource: &Resource, is_new: bool) -> Result<Creator, StoreError> {
        let what = format!("claiming the {resource}");
        let rows = rows(db, resource).await?;
        let known = self.known(resource, &rows)?;
        let places = rows.iter().map(|row| row.place.as_str());
        let elsewhere: Vec<&str> = places.filter(|place| *place != resource.place && resource.is_at(place)).collect();
        let row = db
            .query_one(
                "WITH moved AS (UPDATE userpipeline.claims SET pipeline = $5 WHERE kind = $1 AND name = $3 AND cluster = $4 AND place = ANY($7)) \
                 INSERT INTO userpipeline.claims AS c (kind, place, name, cluster, pipeline, made) VALUES ($1, $2, $3, $4, $5, $6) \
                 ON CONFLICT (kind, place, name) DO UPDATE SET pipeline = CASE WHEN c.cluster = excluded.cluster THEN excluded.pipeline ELSE c.pipeline END \
                 RETURNING cluster, pipeline, made",
                &[
                    &resource.kind.as_str(),
                    &resource.place,
                    &resource.name,
                    &self.cluster,
                    &self.pipeline,
                    &(is_new || known),
                    &elsewhere,
                ],
            )
            .await
            .map_err(|e| explain(&what, &e))?;
        self.compare(resource, row.get("cluster"), row.get("pipeline"))?;
        Ok(self.creator(resource, is_new, known || row.get("made")))
    }

    /// `is_claimed`: its claim says that this pipeline created it.
    fn creator(&self, resource: &Resource, is_new: bool, is_claimed: bool) -> Creator {
        let store = match resource.kind {
            Kind::Table => self.created.database(),
            _ => &resource.place,
        };
        let object = StoreObject::new(resource.kind.object(), store, &resource.name);
        self.created.creator(object, is_new, is_claimed, self.derives(resource))
    }

    /// Whether the name of a topic or group derives from the pipeline, so that no other pipeline may have it.
    fn derives(&self, resource: &Resource) -> bool {
        let Some((namespace, name)) = self.pipeline.split_once('/') else {
            return false;
        };
        let id = PipelineId {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        match resource.kind {
            Kind::Topic => [names::topic(&id), names::dead_letter_topic(&names::topic(&id))].contains(&resource.name),
            Kind::Group => resource.name == names::group_id(&id),
            Kind::Table | Kind::CassandraTable | Kind::Subject => false,
        }
    }

    /// Whether earlier claims of this cluster record that the resource was created; an error if another cluster owns it.
    fn known(&self, resource: &Resource, rows: &[Row]) -> Result<bool, StoreError> {
        // With earlier versions, two clusters could claim one registry at different URLs. Both continue.
        let is_claimed_here = rows.iter().any(|row| row.place == resource.place);
        let mut created = false;
        for row in rows.iter().filter(|row| resource.is_at(&row.place)) {
            if row.place == resource.place || !is_claimed_here {
                self.compare(resource, &row.cluster, &row.pipeline)?;
            }
            created |= row.cluster == self.cluster && row.created;
        }
        Ok(created)
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
        Ok(united(&claims.collect::<Vec<_>>()))
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

/// The claims of resources of this kind and name, at any place, whichever pipeline has them.
async fn rows(db: &impl GenericClient, resource: &Resource) -> Result<Vec<Row>, StoreError> {
    let rows = db
        .query(
            "SELECT place, cluster, pipeline, made FROM userpipeline.claims WHERE kind = $1 AND name = $2",
            &[&resource.kind.as_str(), &resource.name],
        )
        .await
        .map_err(|e| explain("reading userpipeline.claims", &e))?;
    let rows = rows.iter().map(|row| Row {
        place: row.get("place"),
        cluster: row.get("cluster"),
        pipeline: row.get("pipeline"),
        created: row.get("made"),
    });
    Ok(rows.collect())
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

    /// None where nothing is claimed.
    pub fn created(&self) -> Option<&CreatedObjects> {
        self.held.as_ref().map(|(holder, _)| holder.created.as_ref())
    }

    pub const fn are_taken(&self) -> bool {
        self.held.is_some()
    }

    /// See [`Holder::claim`]. None where nothing is claimed.
    pub async fn take(&self, kind: Kind, place: &str, name: &str, is_new: bool) -> Result<Option<Creator>, StoreError> {
        let Some((holder, db)) = &self.held else { return Ok(None) };
        let resource = Resource {
            kind,
            place: place.to_owned(),
            name: name.to_owned(),
        };
        if !self.is_dry_run {
            return holder.claim(db, &resource, is_new).await.map(Some);
        }
        self.creator(&resource, is_new).await
    }

    /// Who created a resource, without a claim of it. None where nothing is claimed.
    pub async fn creator(&self, resource: &Resource, is_new: bool) -> Result<Option<Creator>, StoreError> {
        let Some((holder, db)) = &self.held else { return Ok(None) };
        let row = db.query_one("SELECT to_regclass('userpipeline.claims') IS NULL", &[]).await;
        let is_missing: bool = row.map_err(|e| explain("looking for userpipeline.claims", &e))?.get(0);
        let is_claimed = !is_missing && holder.known(resource, &rows(db, resource).await?)?;
        Ok(Some(holder.creator(resource, is_new, is_claimed)))
    }
}

#[cfg(test)]
mod tests;
