//! A small volume for tables in PostgreSQL: a tablespace that can be full.
//!
//! It holds the trial's tables, and while it is full also the bookkeeping tables of all pipelines. The rest of PostgreSQL's data
//! stays in place, above all the write-ahead log: when that is full, PostgreSQL stops, and killing it already covers this.

use anyhow::{Context, Result};
use kube::Client;
use tokio_postgres::error::SqlState;
use userpipeline_record::bookkeeping;

use super::{Store, node::Node, services};
use crate::{eventually, stores, world::SOON};

/// Large enough for the rejects of a long trial.
const SIZE: &str = "256m";
/// Of tablespaces.
const PREFIX: &str = "exact_";
/// The folder of PostgreSQL's volume on the node and in its pod.
const ON_NODE: &str = "/var/lib/userpipeline/postgres";
const IN_POD: &str = "/data";
const DEFAULT: &str = "pg_default";
/// The search path of the pipelines' role. A session that waits for a table blocks later ones, and after a second PostgreSQL's
/// deadlock detection may end another session; so it gives up earlier.
const SESSION: &str = "SET search_path = userpipeline, public; SET lock_timeout = '500ms'";
/// The relations of the tablespace `$2` in the syntax of `ALTER`: all of them, or the tables `$1` with their indexes.
const RELATIONS: &str = "SELECT format('%s %s', CASE c.relkind WHEN 'r' THEN 'TABLE' ELSE 'INDEX' END, c.oid::regclass) \
     FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indexrelid = c.oid LEFT JOIN pg_tablespace AS s ON s.oid = c.reltablespace \
     WHERE c.relkind IN ('r', 'i') AND c.relnamespace <> 'pg_toast'::regnamespace AND coalesce(s.spcname::text, 'pg_default') = $2 \
     AND ($1::text[] IS NULL OR coalesce(i.indrelid, c.oid) IN (SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name)) \
     ORDER BY c.oid";

pub struct Volume {
    name: String,
    folder: String,
}

impl Volume {
    /// Mounts the volume and replaces PostgreSQL's pod, because a running pod does not get later mounts.
    pub async fn mount(client: &Client, node: &Node, name: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}", name.replace('-', "_"));
        let folder = format!("{ON_NODE}/{name}");
        node.run(&format!(
            "mkdir -p {folder} && mount -t tmpfs -o size={SIZE},mode=700 tmpfs {folder} && chown $(stat -c %u:%g {ON_NODE}) {folder}"
        ))
        .await?;
        services::kill(client, node, Store::Postgres).await?;
        services::wait_until_ready(client, Store::Postgres).await?;
        let db = superuser(client).await?;
        db.batch_execute(&format!("CREATE TABLESPACE {name} LOCATION '{IN_POD}/{name}'"))
            .await?;
        Ok(Self { name, folder })
    }

    pub async fn move_here(&self, client: &Client, tables: &[String]) -> Result<()> {
        let db = superuser(client).await?;
        move_all(&db, Some(tables), DEFAULT, &self.name).await
    }

    /// Moves the bookkeeping to the volume and fills it. Compacts the tables first, because free space in them would take the next rows.
    pub async fn fill(&self, client: &Client, node: &Node, tables: &[String]) -> Result<()> {
        let db = superuser(client).await?;
        let bookkeeping = bookkeeping_tables();
        // Before the move: compacting needs free space.
        compact(&db, &bookkeeping, DEFAULT).await?;
        move_all(&db, Some(&bookkeeping), DEFAULT, &self.name).await?;
        compact(&db, tables, &self.name).await?;
        node.run(&format!("dd if=/dev/zero of={}/filler bs=4k 2>/dev/null; true", self.folder))
            .await
            .map(drop)
    }

    /// Undoes [`Volume::fill`], also after a partial one.
    pub async fn empty(&self, client: &Client, node: &Node) -> Result<()> {
        node.run(&format!("rm -f {}/filler", self.folder)).await?;
        let db = superuser(client).await?;
        move_all(&db, Some(&bookkeeping_tables()), &self.name, DEFAULT).await
    }
}

fn bookkeeping_tables() -> Vec<String> {
    let created = bookkeeping::DDL
        .iter()
        .filter_map(|statement| statement.strip_prefix("CREATE TABLE IF NOT EXISTS userpipeline."));
    created
        .filter_map(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

async fn superuser(client: &Client) -> Result<tokio_postgres::Client> {
    // The node port opens a moment after the pod is ready.
    let connected = async || Ok(Ok(stores::postgres_superuser(client).await?));
    let db = eventually("PostgreSQL to let its superuser in", SOON, connected).await?;
    db.batch_execute(SESSION).await?;
    Ok(db)
}

async fn found(db: &tokio_postgres::Client, tables: Option<&[String]>, tablespace: &str) -> Result<Vec<String>> {
    let rows = db.query(RELATIONS, &[&tables, &tablespace]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Moves all relations of a tablespace, or some tables with their indexes. One statement each, so that no lock is held while waiting
/// for another one.
async fn move_all(db: &tokio_postgres::Client, tables: Option<&[String]>, from: &str, to: &str) -> Result<()> {
    for relation in found(db, tables, from).await? {
        execute_unlocked(db, &format!("ALTER {relation} SET TABLESPACE {to}")).await?;
    }
    Ok(())
}

async fn compact(db: &tokio_postgres::Client, tables: &[String], tablespace: &str) -> Result<()> {
    for relation in found(db, Some(tables), tablespace).await? {
        if let Some(table) = relation.strip_prefix("TABLE ") {
            execute_unlocked(db, &format!("VACUUM FULL {table}")).await?;
        }
    }
    Ok(())
}

/// Retries a statement until it gets its locks.
async fn execute_unlocked(db: &tokio_postgres::Client, statement: &str) -> Result<()> {
    let executed = eventually(statement, SOON, async || {
        Ok(match db.batch_execute(statement).await {
            Err(e) if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Err("it is locked".to_owned()),
            executed => Ok(executed),
        })
    });
    executed.await?.with_context(|| statement.to_owned())
}

/// Removes the volumes of all trials, interrupted ones included. Moves their tables first, because PostgreSQL may not start again
/// without a tablespace.
pub async fn unmount_all(client: &Client, node: &Node) -> Result<()> {
    let db = superuser(client).await?;
    let names = db
        .query("SELECT spcname FROM pg_tablespace WHERE starts_with(spcname, $1)", &[&PREFIX])
        .await?;
    for name in names.iter().map(|row| row.get::<_, String>(0)) {
        move_all(&db, None, &name, DEFAULT).await?;
        db.batch_execute(&format!("DROP TABLESPACE {name}")).await?;
    }
    // So that crash recovery does not need the tablespaces.
    db.batch_execute("CHECKPOINT").await?;
    let folders = format!("{ON_NODE}/{PREFIX}*");
    node.run(&format!("for f in {folders}; do umount -l $f; rmdir $f; done 2>/dev/null; true"))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bookkeeping_table_is_found() {
        let found = bookkeeping_tables();
        let created = bookkeeping::DDL
            .iter()
            .filter(|statement| statement.contains("CREATE TABLE"))
            .count();
        assert_eq!(found.len(), created);
        for table in [
            "runs",
            "rejects",
            "progress",
            "claims",
            "tombstones",
            "source_cursors",
            "reject_totals",
        ] {
            assert!(found.iter().any(|name| name == table), "{table} among {found:?}");
        }
    }
}
