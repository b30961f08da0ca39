//! The PostgreSQL of the local cluster, from the environment that `local/services/with-servers.sh` sets.

use std::{env, fs, path::Path};

use serde_json::json;
use tempfile::TempDir;
use userpipeline_record::bookkeeping::{self, DDL, exists_query};
use userpipeline_stores::{Secrets, postgres::Connection};

/// The server, with the mounted files that its connection reads.
pub struct Server {
    _files: TempDir,
    connection: Connection,
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with local/services/with-servers.sh"))
}

fn write(folder: &Path, name: &str, content: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), content).unwrap();
}

impl Server {
    pub fn from_env() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let files = tempfile::tempdir().unwrap();
        let (secrets, config_maps) = (files.path().join("secrets"), files.path().join("config-maps"));
        write(&secrets.join("login"), "username", &variable("WIRES_POSTGRES_USERNAME"));
        write(&secrets.join("login"), "password", &variable("WIRES_POSTGRES_PASSWORD"));
        let authority = fs::read_to_string(Path::new(&variable("WIRES_CA")).join("tls.crt")).unwrap();
        write(&config_maps.join("ca"), "ca.crt", &authority);
        let address = variable("WIRES_POSTGRES");
        let (host, port) = address.rsplit_once(':').unwrap();
        let spec = json!({
            "host": host, "port": port.parse::<u16>().unwrap(), "database": "userpipeline",
            "credentialsSecretRef": {"name": "login"}, "tls": {"ca": {"configMapKeyRef": {"name": "ca", "key": "ca.crt"}}},
        });
        let secrets = Secrets::in_dir(secrets).with_config_maps(config_maps);
        Self {
            connection: Connection::new(&serde_json::from_value(spec).unwrap(), &secrets),
            _files: files,
        }
    }

    pub fn connection(&self) -> Connection {
        self.connection.clone()
    }

    pub async fn connect(&self) -> tokio_postgres::Client {
        self.connection.connect("test").await.unwrap()
    }

    /// Creates what is missing of the bookkeeping, as a schema Job does.
    pub async fn create_bookkeeping(&self) {
        let mut client = self.connect().await;
        let transaction = client.transaction().await.unwrap();
        transaction
            .query_one("SELECT pg_advisory_xact_lock($1)", &[&bookkeeping::LOCK])
            .await
            .unwrap();
        for statement in DDL {
            let exists = match exists_query(statement) {
                Some(query) => transaction.query_one(&query, &[]).await.unwrap().get(0),
                None => false,
            };
            if !exists {
                transaction.batch_execute(statement).await.unwrap();
            }
        }
        transaction.commit().await.unwrap();
    }
}
