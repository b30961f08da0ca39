//! Captures the packets of all pods on the kind node, and puts TCP streams together again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{eventually, exact::node::Node};

/// On a tmpfs.
const FOLDER: &str = "/run/userpipeline-capture";
/// The node has Perl, and no tcpdump. Prints each packet from layer 3 on, after its length. Packets of the loopback device (hardware
/// type 772) are those of the control plane. It ends by itself, so that a failed test leaves nothing running.
const PROGRAM: &str = r#"
use strict;
socket(my $socket, 17, 2, unpack("S", pack("n", 3))) or die "socket: $!"; # AF_PACKET, SOCK_DGRAM, ETH_P_ALL
setsockopt($socket, 1, 33, pack("i", 64 << 20)); # SO_RCVBUFFORCE
open(my $out, ">", $ARGV[0]) or die "open: $!";
binmode $out;
my $left = 256 << 20;
$SIG{TERM} = $SIG{ALRM} = sub { $left = 0 };
alarm 600;
print STDERR "capturing\n";
while ($left > 0) {
  my $from = recv($socket, my $packet, 65536, 0);
  next unless defined $from;
  my (undef, undef, undef, $hardware) = unpack("S n i S", $from);
  next if $hardware == 772;
  $left -= length $packet;
  print $out pack("N", length $packet), $packet;
}
close $out;
"#;

pub struct Capture {
    node: Node,
    pid: String,
}

impl Capture {
    pub async fn start() -> Result<Self> {
        let node = Node::enter()?;
        let pid = node
            .run(&format!(
                "rm -rf {FOLDER} && mkdir -p {FOLDER} && cat >{FOLDER}/capture.pl <<'PERL'\n{PROGRAM}\nPERL\nperl {FOLDER}/capture.pl {FOLDER}/packets >{FOLDER}/log 2>&1 &\necho $!"
            ))
            .await?;
        eventually("the capture", Duration::from_secs(20), async || {
            let log = node.run(&format!("cat {FOLDER}/log")).await?;
            Ok(if log == "capturing" { Ok(()) } else { Err(log) })
        })
        .await?;
        Ok(Self { node, pid })
    }

    pub async fn stop(self) -> Result<Streams> {
        let Self { node, pid } = self;
        let encoded = node
            .run(&format!(
                "kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.1; done; base64 -w0 {FOLDER}/packets; rm -rf {FOLDER}"
            ))
            .await?;
        Streams::read(&STANDARD.decode(encoded)?)
    }
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    pub source: (Ipv4Addr, u16),
    pub destination: (Ipv4Addr, u16),
}

impl Flow {
    /// Whether this is the port of the server.
    pub const fn has_port(&self, port: u16) -> bool {
        self.source.1 == port || self.destination.1 == port
    }
}

/// What was sent in each direction of each connection.
#[derive(Default)]
pub struct Streams(BTreeMap<Flow, Vec<u8>>);

impl Streams {
    fn read(mut packets: &[u8]) -> Result<Self> {
        // By sequence number, because a packet is captured once for each device that it passes, and perhaps out of order.
        let mut segments: BTreeMap<Flow, BTreeMap<u32, &[u8]>> = BTreeMap::new();
        while let Some((length, rest)) = packets.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length))?;
            let (packet, rest) = rest.split_at_checked(length).context("a whole packet")?;
            packets = rest;
            if let Some((flow, sequence, payload)) = segment(packet) {
                let known = segments.entry(flow).or_default().entry(sequence).or_default();
                if payload.len() > known.len() {
                    *known = payload;
                }
            }
        }
        let streams = segments
            .into_iter()
            .map(|(flow, parts)| (flow, parts.into_values().flatten().copied().collect()));
        Ok(Self(streams.collect()))
    }

    /// The connections of these pods.
    #[must_use]
    pub fn of(mut self, addresses: &BTreeSet<Ipv4Addr>) -> Self {
        self.0
            .retain(|flow, _| addresses.contains(&flow.source.0) || addresses.contains(&flow.destination.0));
        self
    }

    /// The number of bytes to and from a server's port.
    pub fn bytes(&self, port: u16) -> usize {
        self.0
            .iter()
            .filter(|(flow, _)| flow.has_port(port))
            .map(|(_, sent)| sent.len())
            .sum()
    }

    /// The connections in which one of these texts was sent.
    pub fn containing<T: AsRef<str>>(&self, texts: &[T]) -> BTreeSet<Flow> {
        let contains = |sent: &[u8]| {
            // Bytes that are no text are replaced, which leaves every text as it is.
            let sent = String::from_utf8_lossy(sent);
            texts.iter().any(|text| sent.contains(text.as_ref()))
        };
        self.0.iter().filter(|(_, sent)| contains(sent)).map(|(flow, _)| *flow).collect()
    }
}

/// Flow, sequence number and payload of a TCP packet over IPv4; nothing where there is none.
fn segment(packet: &[u8]) -> Option<(Flow, u32, &[u8])> {
    let (first, protocol) = (*packet.first()?, *packet.get(9)?);
    if first >> 4 != 4 || protocol != 6 {
        return None;
    }
    let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    // Of a packet that the kernel has not segmented yet, the total length is 0.
    let end = if total == 0 { packet.len() } else { total };
    let tcp = packet.get(usize::from(first & 15) * 4..end)?;
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let sequence = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
    let payload = tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?;
    let flow = Flow {
        source: (address(12)?, port(0)?),
        destination: (address(16)?, port(2)?),
    };
    (!payload.is_empty()).then_some((flow, sequence, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TCP packet from 10.0.0.1:4000 to 10.0.0.2:5432, as it is captured.
    fn captured(sequence: u32, payload: &str) -> Vec<u8> {
        let length = u16::try_from(40 + payload.len()).unwrap();
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(4000_u16.to_be_bytes());
        packet.extend(5432_u16.to_be_bytes());
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend(payload.as_bytes());
        let mut captured = u32::from(length).to_be_bytes().to_vec();
        captured.extend(packet);
        captured
    }

    #[test]
    fn a_text_is_found_across_packets_that_were_captured_twice_and_out_of_order() {
        let packets = [
            captured(7, "word"),
            captured(1, "a pass"),
            captured(1, "a pass"),
            captured(11, ""),
            vec![0, 0, 0, 3, 0x60, 0, 0],
        ];
        let streams = Streams::read(&packets.concat()).unwrap();
        let found = streams.containing(&["nothing", "password"]);
        assert_eq!(found.len(), 1);
        assert!(found.iter().all(|flow| flow.has_port(5432) && !flow.has_port(9042)));
        assert!(streams.containing(&["nothing"]).is_empty());
        assert_eq!((streams.bytes(5432), streams.bytes(9042)), (10, 0));
        let pods = |last| BTreeSet::from([Ipv4Addr::new(10, 0, 0, last)]);
        assert_eq!(streams.of(&pods(2)).bytes(5432), 10);
        assert_eq!(Streams::read(&packets.concat()).unwrap().of(&pods(3)).bytes(5432), 0);
    }
}
