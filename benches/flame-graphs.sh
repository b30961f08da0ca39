#!/usr/bin/env bash
# Draws where the programs spend their CPU time while the benches load them: docs/explanation/flame-graphs/*.svg.
# It needs the local cluster, `perf`, and `cargo install inferno`.
source "$(dirname "$0")/../local/lib.sh"

GRAPHS=$ROOT/docs/explanation/flame-graphs
# With symbols and frame pointers, which released programs do not have.
export CARGO_TARGET_DIR=$CACHE/target-flame-graphs CARGO_PROFILE_RELEASE_STRIP=none
export RUSTFLAGS=-Cforce-frame-pointers=yes CFLAGS=-fno-omit-frame-pointer
RELEASE=$CARGO_TARGET_DIR/release
samples=$(mktemp -d)
trap 'rm -rf "$samples"' EXIT

# sampled PROGRAM: a script that becomes the program once perf samples it. Each process has a file of samples.
sampled() {
  local script=$samples/$1.sh
  cat >"$script" <<SCRIPT
#!/bin/sh
perf record --quiet --event cpu-clock --freq 199 --call-graph fp --output "$samples/$1.\$\$" --pid \$\$ &
until [ -s "$samples/$1.\$\$" ]; do sleep 0.05; done
exec "$RELEASE/$1" "\$@"
SCRIPT
  chmod +x "$script"
  echo "$script"
}

# draw NAME PROGRAM TITLE: the graph of the process that has most samples of those which ended since the last graph.
draw() {
  local file
  while pgrep --full "perf record .*--output $samples/" >/dev/null; do sleep 0.2; done
  file=$(find "$samples" -name "$2.[0-9]*" -printf '%s %p\n' | sort -rn | sed -n '1s/^[0-9]* //p')
  perf script --no-inline --input "$file" 2>/dev/null | inferno-collapse-perf |
    inferno-flamegraph --title "$3" --minwidth 0.3 --hash >"$GRAPHS/$1.svg"
  rm "$samples/$2".[0-9]*
}

(cd "$ROOT" && cargo build --quiet --release --locked --bin stream-worker --bin ingest-job --bin userpipeline-operator \
  --bin bench-worker --bin bench-ingest --bin bench-operator)
mkdir -p "$GRAPHS"
# Some results are short of their targets under perf.
"$RELEASE/bench-worker" run --program "$(sampled stream-worker)" --rounds 1 --only both --no-latency || true
draw worker-backlog stream-worker "stream-worker, a backlog, both stores"
"$RELEASE/bench-worker" run --program "$(sampled stream-worker)" --rows 10000 --rounds 1 --only both || true
draw worker-steady stream-worker "stream-worker, 2,000 messages per second, both stores, TLS"
"$RELEASE/bench-ingest" --program "$(sampled ingest-job)" --alone --rounds 1 || true
draw run ingest-job "ingest-job, 100,000 users"
"$RELEASE/bench-operator" --pipelines 200 --seeded --program "$(sampled userpipeline-operator)" || true
draw operator userpipeline-operator "userpipeline-operator, 200 pipelines"
