//! A small volume of its own for the trial's tables in PostgreSQL: a tablespace that can be full without hurting anybody else.

use anyhow::Result;
use kube::Client;

use super::{Store, node::Node, services};
use crate::{eventually, stores, world::SOON};

const SIZE: &str = "64m";
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
        let name = name.replace('-', "_");
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
        self.move_tables(client, tables, &self.name).await
    }

    async fn move_tables(&self, client: &Client, tables: &[String], to: &str) -> Result<()> {
        let db = stores::postgres_superuser(client).await?;
        // Where the pipelines' own role finds its tables.
        db.batch_execute("SET search_path = userpipeline, public").await?;
        for table in tables {
            db.batch_execute(&format!("ALTER TABLE \"{table}\" SET TABLESPACE {to}")).await?;
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

    /// Moves the tables away, and takes the volume away.
    pub async fn unmount(self, client: &Client, node: &Node, tables: &[String]) -> Result<()> {
        self.move_tables(client, tables, "pg_default").await?;
        let db = stores::postgres_superuser(client).await?;
        db.batch_execute(&format!("DROP TABLESPACE {}", self.name)).await?;
        node.run(&format!("umount -l {0}; rmdir {0}; true", self.folder)).await.map(drop)
    }
}
