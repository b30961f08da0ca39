//! The check Job: it connects to each server of a connection as workers and runs do, and reports what it found. What is wrong with
//! a server is a result, and no failure of the Job.

mod blocks;
mod result;

use userpipeline_api::{document::CheckedConnection, report::ConnectionReport};
use userpipeline_stores::Secrets;

use super::runner::{self, Finished, TaskFiles};

/// The reason of a report.
const CHECKED: &str = "Checked";

/// Checks, and leaves a [`ConnectionReport`]; returns the exit code.
pub async fn run(files: &TaskFiles) -> u8 {
    let read = |text: &str| CheckedConnection::read(text).map_err(|e| e.to_string());
    runner::run(files, read, async |connection| {
        Finished::done(check(&connection, &files.secrets).await)
    })
    .await
}

async fn check(connection: &CheckedConnection, secrets: &Secrets) -> ConnectionReport {
    let blocks = blocks::check_all(&connection.spec, secrets).await;
    for block in &blocks {
        let (reason, message) = (
            block.reason.as_deref().unwrap_or(CHECKED),
            block.message.as_deref().unwrap_or_default(),
        );
        tracing::info!(
            block = block.block,
            reason,
            message,
            latency = block.latency_milliseconds,
            "checked"
        );
    }
    ConnectionReport {
        reason: CHECKED.to_owned(),
        message: format!("{} blocks of connection {} were checked", blocks.len(), connection.name),
        blocks,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use userpipeline_stores::error::SOURCE_UNREACHABLE;

    use super::*;

    #[tokio::test]
    async fn each_block_is_checked_on_its_own_and_no_secret_is_in_the_report() {
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("login");
        std::fs::create_dir(&secret).unwrap();
        std::fs::write(secret.join("username"), "ann").unwrap();
        std::fs::write(secret.join("password"), "s3cr3t-of-ann").unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let closed = {
            let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            closed.local_addr().unwrap()
        };
        let login = json!({"name": "login"});
        let plain = json!({"mode": "Disable"});
        let spec = json!({
            "postgres": {"host": "127.0.0.1", "port": closed.port(), "database": "d", "credentialsSecretRef": login, "tls": plain},
            "schemaRegistry": {"url": format!("http://{closed}")},
            "http": {"baseUrl": format!("http://{open}/api")},
        });
        let connection = CheckedConnection {
            name: "stores".to_owned(),
            spec: serde_json::from_value(spec).unwrap(),
        };
        let report = check(&connection, &Secrets::in_dir(dir.path())).await;
        let reasons: Vec<_> = report
            .blocks
            .iter()
            .map(|block| (block.block.as_str(), block.reason.as_deref()))
            .collect();
        assert_eq!(
            reasons,
            [
                ("postgres", Some("PostgresUnreachable")),
                ("schemaRegistry", Some("RegistryUnreachable")),
                ("http", None)
            ]
        );
        assert!(report.blocks[2].latency_milliseconds.is_some());
        let text = serde_json::to_string(&report).unwrap();
        assert!(!text.contains("s3cr3t") && !text.contains("ann"), "{text}");
        drop(listener);
        let gone = json!({"http": {"baseUrl": format!("http://{open}")}});
        let connection = CheckedConnection {
            spec: serde_json::from_value(gone).unwrap(),
            ..connection
        };
        let report = check(&connection, &Secrets::in_dir(dir.path())).await;
        assert_eq!(report.blocks[0].reason.as_deref(), Some(SOURCE_UNREACHABLE));
    }
}
