//! Breaks connections in the node's network. Every client of every store uses it, wherever its driver gets addresses from.

use anyhow::{Context, Result};

use super::{Network, node::Node};

const CHAIN: &str = "USERPIPELINE-FAULT";

#[derive(Clone, Debug)]
pub struct Endpoint {
    pub address: String,
    pub port: u16,
    pub pid: u32,
    /// The CIDR of all pods.
    pub pods: String,
    /// The bandwidth of a slowed connection, in the syntax of `tc`.
    pub trickle: &'static str,
}

/// Removes the rules of an earlier trial.
pub async fn heal(node: &Node) -> Result<()> {
    let chain = format!("iptables -w -D FORWARD -j {CHAIN}; iptables -w -F {CHAIN}; iptables -w -X {CHAIN}");
    node.run(&format!(
        "{chain}; for v in $(tc qdisc show | awk '$2 == \"tbf\" {{ print $5 }}'); do tc qdisc del dev $v root; done; true"
    ))
    .await
    .map(drop)
}

/// A broken network. It affects pods only: packets from other addresses pass.
pub struct Broken<'a> {
    node: &'a Node,
    kind: Network,
    device: String,
}

impl<'a> Broken<'a> {
    pub async fn new(node: &'a Node, kind: Network, endpoint: &Endpoint) -> Result<Self> {
        let Endpoint {
            address,
            port,
            pid,
            pods,
            trickle,
        } = endpoint;
        let mut device = String::new();
        let rule = |target: &str| {
            format!(
                "iptables -w -N {CHAIN} && iptables -w -A {CHAIN} -p tcp -s {pods} -d {address} --dport {port} -j {target} && \
                 iptables -w -A {CHAIN} -p tcp -s {address} --sport {port} -d {pods} -j {target} && iptables -w -I FORWARD -j {CHAIN}"
            )
        };
        match kind {
            Network::Cut => drop(node.run(&rule("REJECT --reject-with tcp-reset")).await?),
            Network::BlackHole => drop(node.run(&rule("DROP")).await?),
            Network::Slow => {
                let found = node
                    .run(&format!(
                        "n=$(nsenter -t {pid} -n ip -o link show eth0 | sed -n 's/.*eth0@if\\([0-9]*\\).*/\\1/p') && ip -o link | sed -n \"s/^$n: \\([^@:]*\\).*/\\1/p\""
                    ))
                    .await?;
                device = found;
                node.run(&format!("tc qdisc add dev {device} root tbf {trickle}")).await?;
            }
        }
        Ok(Self { node, kind, device })
    }

    pub async fn affected_packets(&self) -> Result<u64> {
        let counted = match self.kind {
            Network::Slow => {
                self.node
                    .run(&format!(
                        "tc -s qdisc show dev {} root | sed -n 's/.*overlimits \\([0-9]*\\).*/\\1/p'",
                        self.device
                    ))
                    .await?
            }
            Network::Cut | Network::BlackHole => {
                self.node
                    .run(&format!(
                        "iptables -w -nvxL {CHAIN} | awk 'NR > 2 {{ sum += $1 }} END {{ print sum }}'"
                    ))
                    .await?
            }
        };
        counted.parse().with_context(|| format!("a number of packets: {counted}"))
    }

    pub async fn heal(self) -> Result<()> {
        heal(self.node).await
    }
}
