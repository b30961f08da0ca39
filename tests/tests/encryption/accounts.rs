//! A user at every service for one test, whose passwords and certificates can change.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use jiff::{Zoned, civil::Date, tz::TimeZone};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{
    Api, Client,
    api::{AttachParams, ListParams},
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use userpipeline_api::names;
use userpipeline_tests::{
    World,
    cluster::SERVICES,
    services::{CA, authority, tls},
    stores,
    tls::Authority,
};

/// The wires, as in metrics, with their blocks. The Secrets `<wire>-credentials` and `<wire>-client` and the ConfigMap `<wire>-ca` are
/// those of the wire.
pub const WIRES: [(&str, &str); 4] = [
    ("postgres", "postgres"),
    ("kafka", "kafka"),
    ("registry", "schemaRegistry"),
    ("cassandra", "cassandra"),
];

/// The day on which the client certificates of a rotation expire, by which they are recognised. The authority is valid for longer.
fn expiry(rotation: i8) -> Result<Date> {
    Ok(Date::new(Zoned::now().year() + 1, 1, rotation)?)
}

/// The same, as workers report it: in seconds since 1970.
pub fn expiry_seconds(rotation: i8) -> Result<i64> {
    Ok(expiry(rotation)?.to_zoned(TimeZone::UTC)?.timestamp().as_second())
}

/// The authority of the services, which can issue further certificates.
pub async fn services_authority(client: &Client) -> Result<Authority> {
    let secret = Api::<Secret>::namespaced(client.clone(), SERVICES).get(CA.0).await?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| -> Result<String> { Ok(String::from_utf8(data.get(key).context("a key of the authority")?.0.clone())?) };
    Authority::existing(&text("tls.crt")?, &text("tls.key")?)
}

pub struct Accounts {
    world: World,
    /// Signs the certificates of servers and clients.
    authority: Authority,
    /// The name of the user at each service.
    user: String,
}

impl Accounts {
    /// Creates the users, and rotates once.
    pub async fn create(world: &World) -> Result<Self> {
        let accounts = Self {
            authority: services_authority(&world.client).await?,
            user: world.namespace.replace('-', "_"),
            world: world.clone(),
        };
        let (user, db) = (&accounts.user, stores::postgres_superuser(&world.client).await?);
        db.batch_execute(&format!(
            "CREATE ROLE {user} LOGIN IN ROLE userpipeline; ALTER ROLE {user} SET role = userpipeline"
        ))
        .await?;
        let session = stores::cassandra_superuser(&world.client).await?;
        session.query_unpaged(format!("CREATE ROLE {user} WITH LOGIN = true"), ()).await?;
        session
            .query_unpaged(format!("GRANT CREATE ON ALL KEYSPACES TO {user}"), ())
            .await?;
        // So that the usual clients of the tests can read what the role writes.
        session.query_unpaged(format!("GRANT {user} TO userpipeline"), ()).await?;
        accounts.rotate(1).await?;
        Ok(accounts)
    }

    /// The pipeline with these users.
    pub fn apply_to(pipeline: &mut Value) {
        for (wire, block) in WIRES {
            let block = &mut pipeline["spec"][block];
            block["tls"] = tls(&format!("{wire}-ca"));
            block["tls"]["clientSecretRef"] = json!({"name": format!("{wire}-client")});
            let login = json!({"name": format!("{wire}-credentials")});
            match wire {
                "kafka" => block["auth"]["scramSha512"]["credentialsSecretRef"] = login,
                "registry" => block["auth"]["basic"]["credentialsSecretRef"] = login,
                _ => block["credentialsSecretRef"] = login,
            }
        }
    }

    /// Changes every password at its service and in its Secret, every client certificate, and every bundle of authorities.
    pub async fn rotate(&self, rotation: i8) -> Result<()> {
        let bundle = format!("{}{}", authority(&self.world.client).await?, Authority::new()?.pem());
        let mut files = Vec::new();
        for (wire, _) in WIRES {
            let password = uuid::Uuid::new_v4().simple().to_string();
            self.set_password(wire, &password)
                .await
                .with_context(|| format!("the password of {wire}"))?;
            let certificate = self.authority.client_identity(&self.user, expiry(rotation)?)?.pem();
            files.push(self.set_files(wire, password, certificate, &bundle));
        }
        // At the same time, because a client that reconnects between two of them has the wrong password.
        try_join_all(files).await.map(drop)
    }

    /// Changes the Secrets and the ConfigMap of a wire.
    async fn set_files(&self, wire: &str, password: String, (certificate, key): (String, String), bundle: &str) -> Result<()> {
        let (login, client, ca) = (format!("{wire}-credentials"), format!("{wire}-client"), format!("{wire}-ca"));
        let pair = [("tls.crt", certificate.as_str()), ("tls.key", key.as_str())];
        let login = self.world.set_secret(&login, &self.user, &password);
        let client = self.world.set_secret_of_type(&client, "kubernetes.io/tls", &pair);
        let ca = self.world.set_authority(&ca, bundle);
        tokio::try_join!(login, client, ca).map(drop)
    }

    async fn set_password(&self, wire: &str, password: &str) -> Result<()> {
        let (client, user) = (&self.world.client, &self.user);
        match wire {
            "postgres" => {
                let db = stores::postgres_superuser(client).await?;
                db.batch_execute(&format!("ALTER ROLE {user} PASSWORD '{password}'")).await?;
                Ok(())
            }
            "cassandra" => {
                let session = stores::cassandra_superuser(client).await?;
                let statement = format!("ALTER ROLE {user} WITH PASSWORD = '{password}'");
                session.query_unpaged(statement, ()).await?;
                Ok(())
            }
            "kafka" => {
                let config = format!("SCRAM-SHA-512=[iterations=4096,password={password}]");
                let alter = [
                    "kafka-configs",
                    "--alter",
                    "--entity-type",
                    "users",
                    "--entity-name",
                    user,
                    "--add-config",
                ];
                self.exec("kafka", "kafka", &[&alter[..], &[config.as_str()]].concat()).await
            }
            // The proxy reads its users for each request.
            _ => {
                let script = "touch /tmp/users && { grep -v \"^$1:\" /tmp/users || true; printf '%s:%s\\n' \"$1\" \"$(openssl passwd -apr1 \"$2\")\"; } >/tmp/users.new && mv /tmp/users.new /tmp/users";
                let command = ["bash", "-c", script, "bash", user, password];
                self.exec("schema-registry", "tls-proxy", &command).await
            }
        }
    }

    /// Runs a command in the pod of a service.
    async fn exec(&self, service: &str, container: &str, command: &[&str]) -> Result<()> {
        let pods = Api::<Pod>::namespaced(self.world.client.clone(), SERVICES);
        let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={service}"));
        let pod = pods.list(&selector).await?.items.into_iter().next().context("its pod")?;
        let name = pod.metadata.name.context("a name")?;
        let params = AttachParams::default().container(container);
        let mut process = pods.exec(&name, command.to_vec(), &params).await?;
        let mut errors = String::new();
        if let Some(mut stderr) = process.stderr() {
            stderr.read_to_string(&mut errors).await?;
        }
        let status = process.take_status().context("how the command ended")?.await.unwrap_or_default();
        ensure!(status.status.as_deref() == Some("Success"), "in the pod of {service}: {errors}");
        Ok(())
    }

    /// The number of connections to PostgreSQL that the user opened before this time, in PostgreSQL's notation.
    pub async fn connections_before(&self, time: &str) -> Result<i64> {
        let db = stores::postgres_superuser(&self.world.client).await?;
        let user = &self.user;
        let statement = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}' AND backend_start < '{time}'");
        stores::number(&db, &statement).await
    }

    /// Removes the users.
    pub async fn clean_up(&self) -> Result<()> {
        let (client, user) = (&self.world.client, &self.user);
        let db = stores::postgres_superuser(client).await?;
        db.batch_execute(&format!("DROP ROLE IF EXISTS {user}")).await?;
        let session = stores::cassandra_superuser(client).await?;
        // First, because its permissions go with the role.
        let keyspace = names::keyspace(&self.world.id());
        session.query_unpaged(format!("DROP KEYSPACE IF EXISTS \"{keyspace}\""), ()).await?;
        session.query_unpaged(format!("DROP ROLE IF EXISTS {user}"), ()).await?;
        let delete = ["kafka-configs", "--alter", "--entity-type", "users", "--entity-name", user];
        let delete = [&delete[..], &["--delete-config", "SCRAM-SHA-512"]].concat();
        self.exec("kafka", "kafka", &delete).await?;
        let script = "grep -v \"^$1:\" /tmp/users >/tmp/users.new; mv /tmp/users.new /tmp/users";
        self.exec("schema-registry", "tls-proxy", &["bash", "-c", script, "bash", user])
            .await?;
        Ok(())
    }
}
