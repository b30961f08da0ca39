//! A small volume of its own for the trial's tables in PostgreSQL: a tablespace that can be full without hurting anybody else.

use anyhow::Result;
use kube::Client;

use super::{Store, node::Node, services};
use crate::{eventually, stores, world::SOON};

const SIZE: &str = "64m";
/// How their names begin.
const PREFIX: &str = "exact_";
/// The folder of PostgreSQL's volume: on the node, and in its pod.
const ON_NODE: &str = "/var/lib/userpipeline/postgres";
const IN_POD: &str = "/data";

/// A small volume and its tablespace.
pub struct Volume {
    name: String,
    folder: String,
}

impl Volume {
    /// Mounts the volume. PostgreSQL's pod is replaced, for it does not see what is mounted later.
    pub async fn mount(client: &Client, node: &Node, name: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}", name.replace('-', "_"));
        let folder = format!("{ON_NODE}/{name}");
        node.run(&format!(
            "mkdir -p {folder} && mount -t tmpfs -o size={SIZE},mode=700 tmpfs {folder} && chown $(stat -c %u:%g {ON_NODE}) {folder}"
        ))
        .await?;
        services::kill(client, node, Store::Postgres).await?;
        services::back(client, Store::Postgres).await?;
        // The way there from this machine opens a moment after the pod is ready.
        let connected = async || Ok(Ok(stores::postgres_superuser(client).await?));
        let db = eventually("PostgreSQL to let its superuser in", SOON, connected).await?;
        db.batch_execute(&format!("CREATE TABLESPACE {name} LOCATION '{IN_POD}/{name}'"))
            .await?;
        Ok(Self { name, folder })
    }

    /// Moves tables to it.
    pub async fn take(&self, client: &Client, tables: &[String]) -> Result<()> {
        let db = stores::postgres_superuser(client).await?;
        // Where the pipelines' own role finds its tables.
        db.batch_execute("SET search_path = userpipeline, public").await?;
        for table in tables {
            db.batch_execute(&format!("ALTER TABLE \"{table}\" SET TABLESPACE {}", self.name))
                .await?;
        }
        Ok(())
    }

    /// Leaves no byte of it, and none in its tables, which would take the next rows for a while.
    pub async fn fill(&self, client: &Client, node: &Node, tables: &[String]) -> Result<()> {
        let folder = &self.folder;
        let db = stores::postgres(client).await?;
        for table in tables {
            db.batch_execute(&format!("VACUUM FULL \"{table}\"")).await?;
        }
        node.run(&format!("dd if=/dev/zero of={folder}/filler bs=4k 2>/dev/null; true"))
            .await
            .map(drop)
    }

    /// Gives back what [`Volume::fill`] took.
    pub async fn empty(&self, node: &Node) -> Result<()> {
        node.run(&format!("rm -f {}/filler", self.folder)).await.map(drop)
    }
}

/// Takes away the volumes of all trials, those that were cut off included, once their tables are elsewhere: a PostgreSQL that is
/// killed with one of them gone might not start again.
pub async fn unmount_all(client: &Client, node: &Node) -> Result<()> {
    let connected = async || Ok(Ok(stores::postgres_superuser(client).await?));
    let db = eventually("PostgreSQL to let its superuser in", SOON, connected).await?;
    let found = db
        .query("SELECT spcname FROM pg_tablespace WHERE starts_with(spcname, $1)", &[&PREFIX])
        .await?;
    for name in found.iter().map(|row| row.get::<_, String>(0)) {
        db.batch_execute(&format!("ALTER TABLE ALL IN TABLESPACE {name} SET TABLESPACE pg_default"))
            .await?;
        db.batch_execute(&format!("DROP TABLESPACE {name}")).await?;
    }
    // Nothing that it would do again after a crash is about them any more.
    db.batch_execute("CHECKPOINT").await?;
    let folders = format!("{ON_NODE}/{PREFIX}*");
    node.run(&format!("for f in {folders}; do umount -l $f; rmdir $f; done 2>/dev/null; true"))
        .await
        .map(drop)
}
