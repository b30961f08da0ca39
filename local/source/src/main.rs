//! The command line of the stand-in source.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context;
use clap::Parser;
use jiff::SignedDuration;
use randomuser_source::{Config, TlsListener, serve};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// A stand-in for randomuser.me 1.4, with faults on request.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Address and port to listen on.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Address and port to listen on for HTTPS, with a certificate.
    #[arg(long, default_value = "0.0.0.0:8443")]
    tls_listen: SocketAddr,
    /// Certificate chain in PEM. Without it, there is no HTTPS.
    #[arg(long, requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Private key in PEM.
    #[arg(long, requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Users per client address and window; 0 is no limit.
    #[arg(long, default_value_t = 20_000)]
    limit_users: u64,
    /// Window of the limit.
    #[arg(long, default_value = "5m", value_parser = duration)]
    limit_window: Duration,
    /// Upper bound of the fault `hang`.
    #[arg(long, default_value = "10m", value_parser = duration)]
    hang_cap: Duration,
    /// Concurrent requests for users; one more is answered 503.
    #[arg(long, default_value_t = 256)]
    max_in_flight: usize,
    /// How long SIGTERM waits for running requests.
    #[arg(long, default_value = "10s", value_parser = duration)]
    drain: Duration,
    /// Log filter in the syntax of `RUST_LOG`.
    #[arg(long, default_value = "info")]
    log: String,
}

/// Parses `90s`, `5m`, `1h30m`; zero is refused.
fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text.parse().map_err(|error| format!("{error}"))?;
    let duration = Duration::try_from(duration).map_err(|error| error.to_string())?;
    if duration.is_zero() {
        return Err("must be longer than zero".into());
    }
    Ok(duration)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(EnvFilter::try_new(&cli.log).context("--log")?)
        .init();

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let http = bind(cli.listen).await?;
    let https = match (&cli.tls_certificate, &cli.tls_key) {
        (Some(certificate), Some(key)) => Some(TlsListener::new(bind(cli.tls_listen).await?, certificate, key)?),
        _ => None,
    };

    let config = Config {
        limit_users: cli.limit_users,
        limit_window: cli.limit_window,
        hang_cap: cli.hang_cap,
        max_in_flight: cli.max_in_flight,
    };
    let stop = CancellationToken::new();
    let mut server = tokio::spawn(serve(http, https, config, stop.clone()));
    tokio::select! {
        ended = &mut server => return Ok(ended??),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    stop.cancel();
    if let Ok(ended) = tokio::time::timeout(cli.drain, server).await {
        return Ok(ended??);
    }
    tracing::warn!("requests were still running");
    Ok(())
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_is_longer_than_zero() {
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5_400)));
        for bad in ["", "0s", "5", "-5m", "soon"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_certificate_and_its_key_come_together() {
        let both = ["randomuser-source", "--tls-certificate", "tls.crt", "--tls-key", "tls.key"];
        assert!(Cli::try_parse_from(both).is_ok());
        assert!(Cli::try_parse_from(&both[..3]).is_err(), "no key");
        assert!(
            Cli::try_parse_from(["randomuser-source", "--tls-key", "tls.key"]).is_err(),
            "no certificate"
        );
    }

    #[test]
    fn the_command_line_and_the_library_have_the_same_defaults() {
        let cli = Cli::parse_from(["randomuser-source"]);
        let config = Config::default();
        assert_eq!(cli.limit_users, config.limit_users);
        assert_eq!(cli.limit_window, config.limit_window);
        assert_eq!(cli.hang_cap, config.hang_cap);
        assert_eq!(cli.max_in_flight, config.max_in_flight);
    }
}
