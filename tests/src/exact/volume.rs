//! A small volume of its own for tables in PostgreSQL: a tablespace that can be full.
//!
//! On it are the trial's own tables, and while it is full also those that all pipelines of the database keep for themselves. What
//! else PostgreSQL writes stays where it is, above all its write-ahead log: without room for that it does not refuse, it stops,
//! which is told by killing it.

use anyhow::{Context, Result};
use kube::Client;
use tokio_postgres::error::SqlState;
use userpipeline_record::bookkeeping;

use super::{Store, node::Node, services};
use crate::{eventually, stores, world::SOON};

/// There must be room for the rejects of a long trial.
const SIZE: &str = "256m";
/// How their names begin.
const PREFIX: &str = "exact_";
/// The folder of PostgreSQL's volume: on the node, and in its pod.
const ON_NODE: &str = "/var/lib/userpipeline/postgres";
const IN_POD: &str = "/data";
/// Where tables are that nobody has moved.
const DEFAULT: &str = "pg_default";
/// How a session finds tables, as the pipelines' own role does. While it waits for a table, whoever comes later waits as well; and it
/// must give up before PostgreSQL looks for deadlocks, after a second, and ends somebody else.
const SESSION: &str = "SET search_path = userpipeline, public; SET lock_timeout = '500ms'";
/// What is in the tablespace `$2`, as `ALTER` takes it: everything, or the tables `$1` with their indexes.
const FOUND: &str = "SELECT format('%s %s', CASE c.relkind WHEN 'r' THEN 'TABLE' ELSE 'INDEX' END, c.oid::regclass) \
     FROM pg_class AS c LEFT JOIN pg_index AS i ON i.indexrelid = c.oid LEFT JOIN pg_tablespace AS s ON s.oid = c.reltablespace \
     WHERE c.relkind IN ('r', 'i') AND c.relnamespace <> 'pg_toast'::regnamespace AND coalesce(s.spcname::text, 'pg_default') = $2 \
     AND ($1::text[] IS NULL OR coalesce(i.indrelid, c.oid) IN (SELECT to_regclass(quote_ident(name)) FROM unnest($1::text[]) AS name)) \
     ORDER BY c.oid";

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
        let db = superuser(client).await?;
        db.batch_execute(&format!("CREATE TABLESPACE {name} LOCATION '{IN_POD}/{name}'"))
            .await?;
        Ok(Self { name, folder })
    }

    /// Moves tables to it.
    pub async fn take(&self, client: &Client, tables: &[String]) -> Result<()> {
        let db = superuser(client).await?;
        move_all(&db, Some(tables), DEFAULT, &self.name).await
    }

    /// Moves the bookkeeping to it as well. Leaves no byte of it, and none in the tables, which would take the next rows for a while.
    pub async fn fill(&self, client: &Client, node: &Node, tables: &[String]) -> Result<()> {
        let db = superuser(client).await?;
        let bookkeeping = bookkeeping_tables();
        // Before it moves: where it is there is room for it.
        pack(&db, &bookkeeping, DEFAULT).await?;
        move_all(&db, Some(&bookkeeping), DEFAULT, &self.name).await?;
        pack(&db, tables, &self.name).await?;
        node.run(&format!("dd if=/dev/zero of={}/filler bs=4k 2>/dev/null; true", self.folder))
            .await
            .map(drop)
    }

    /// Gives back what [`Volume::fill`] took, however far that came.
    pub async fn empty(&self, client: &Client, node: &Node) -> Result<()> {
        node.run(&format!("rm -f {}/filler", self.folder)).await?;
        let db = superuser(client).await?;
        move_all(&db, Some(&bookkeeping_tables()), &self.name, DEFAULT).await
    }
}

/// The tables that all pipelines keep for themselves.
fn bookkeeping_tables() -> Vec<String> {
    let made = bookkeeping::DDL
        .iter()
        .filter_map(|statement| statement.strip_prefix("CREATE TABLE IF NOT EXISTS userpipeline."));
    made.filter_map(|rest| rest.split_whitespace().next()).map(str::to_owned).collect()
}

async fn superuser(client: &Client) -> Result<tokio_postgres::Client> {
    // The way there from this machine opens a moment after the pod is ready.
    let connected = async || Ok(Ok(stores::postgres_superuser(client).await?));
    let db = eventually("PostgreSQL to let its superuser in", SOON, connected).await?;
    db.batch_execute(SESSION).await?;
    Ok(db)
}

async fn found(db: &tokio_postgres::Client, tables: Option<&[String]>, tablespace: &str) -> Result<Vec<String>> {
    let rows = db.query(FOUND, &[&tables, &tablespace]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Moves everything from a tablespace to another one, or some tables with their indexes. One after the other: who holds one and waits
/// for the next would keep others waiting, or they it.
async fn move_all(db: &tokio_postgres::Client, tables: Option<&[String]>, from: &str, to: &str) -> Result<()> {
    for relation in found(db, tables, from).await? {
        unless_locked(db, &format!("ALTER {relation} SET TABLESPACE {to}")).await?;
    }
    Ok(())
}

/// Leaves no room in tables.
async fn pack(db: &tokio_postgres::Client, tables: &[String], tablespace: &str) -> Result<()> {
    for relation in found(db, Some(tables), tablespace).await? {
        if let Some(table) = relation.strip_prefix("TABLE ") {
            unless_locked(db, &format!("VACUUM FULL {table}")).await?;
        }
    }
    Ok(())
}

/// Executes a statement when nobody holds what it needs.
async fn unless_locked(db: &tokio_postgres::Client, statement: &str) -> Result<()> {
    let executed = eventually(statement, SOON, async || {
        Ok(match db.batch_execute(statement).await {
            Err(e) if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => Err("it is locked".to_owned()),
            executed => Ok(executed),
        })
    });
    executed.await?.with_context(|| statement.to_owned())
}

/// Takes away the volumes of all trials, those that were cut off included, once their tables are elsewhere: a PostgreSQL that is
/// killed with one of them gone might not start again.
pub async fn unmount_all(client: &Client, node: &Node) -> Result<()> {
    let db = superuser(client).await?;
    let names = db
        .query("SELECT spcname FROM pg_tablespace WHERE starts_with(spcname, $1)", &[&PREFIX])
        .await?;
    for name in names.iter().map(|row| row.get::<_, String>(0)) {
        move_all(&db, None, &name, DEFAULT).await?;
        db.batch_execute(&format!("DROP TABLESPACE {name}")).await?;
    }
    // Nothing that it would do again after a crash is about them any more.
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
    fn all_tables_of_the_bookkeeping_are_found() {
        let found = bookkeeping_tables();
        let made = bookkeeping::DDL
            .iter()
            .filter(|statement| statement.contains("CREATE TABLE"))
            .count();
        assert_eq!(found.len(), made);
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
