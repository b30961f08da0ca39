# Everything that is built or downloaded is kept here, outside the checkout; `make clean` removes it.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/userpipeline
export CARGO_TARGET_DIR := $(CACHE)/target

.DEFAULT_GOAL := help
.PHONY: help up cluster down clean env check lint generate test test-long test-exact test-encryption test-spark bench bench-worker bench-curves flame-graphs bench-ingest bench-operator packages checkout

help: ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { gsub(/\$$\$$/, "$$", $$2); printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: checkout ## A local cluster with everything in it and an example pipeline, until rows are in both stores.
	@local/up.sh demo

cluster: checkout ## The same without the example: what the end-to-end tests need.
	@local/up.sh cluster

down: ## Removes the cluster with its data; what was built is kept.
	@local/down.sh cluster

clean: ## Removes the cluster and the cache with everything that was built.
	@local/down.sh cache

env: ## Prints what puts kubectl, helm, kind and the cluster into your shell: eval "$$(make -s env)".
	@echo 'export PATH="$(CACHE)/bin:$$PATH" KUBECONFIG="$(CACHE)/kubeconfig" CARGO_TARGET_DIR="$(CARGO_TARGET_DIR)"'

check: lint ## Formatting, lints, every test that needs no cluster, drift of generated files, the chart.
	cargo test --locked --workspace --exclude userpipeline-tests

lint: checkout packages ## The same without tests.
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo run --quiet --locked -p userpipeline-api --bin generate -- --check
	charts/check.sh

generate: checkout ## Writes what follows from api/: the CRD, the chart's template of it, the reference.
	cargo run --quiet --locked -p userpipeline-api --bin generate

# One at a time, from whichever checkout: they share the cluster, and `make test` begins by removing what others have left in it.
ALONE = flock "$(CACHE)/tests.lock"
SWEEP = cargo run --quiet --locked -p userpipeline-tests --bin sweep

test: cluster ## Every test: unit, integration, and end-to-end in the local cluster, without what earlier ones have left there.
	KUBECONFIG="$(CACHE)/kubeconfig" PATH="$(CACHE)/bin:$$PATH" $(ALONE) sh -c \
	  'cargo test --quiet --locked --workspace --no-run && "$(CARGO_TARGET_DIR)/debug/sweep" && \
	  cargo test --locked --workspace -- --test-threads=5 && \
	  local/services/with-servers.sh cargo test --locked --workspace --test wires -- --ignored'

test-long: cluster ## The operator, crashed at each write of each scenario (CRASH_SCENARIO=… plays one of them), a backlog of a million, and a changed connection of 30 pipelines: an hour.
	KUBECONFIG="$(CACHE)/kubeconfig" CRASH_TRIALS=all $(ALONE) cargo test --locked -p userpipeline-tests --test crashes -- --nocapture
	KUBECONFIG="$(CACHE)/kubeconfig" BACKLOG_ROWS=1000000 $(ALONE) cargo test --locked -p userpipeline-tests --test back_pressure -- --nocapture backlog
	KUBECONFIG="$(CACHE)/kubeconfig" CONNECTION_PIPELINES=30 $(ALONE) cargo test --locked -p userpipeline-tests --test pipelines -- --nocapture a_changed_connection_reaches_few

test-exact: cluster ## Everything breaks while records go the whole way, then all is compared: FAULTS=10 of each in the order of SEED=1.
	KUBECONFIG="$(CACHE)/kubeconfig" PATH="$(CACHE)/bin:$$PATH" EXACT_SEED="$(SEED)" EXACT_FAULTS="$(or $(FAULTS),10)" EXACT_ONLY="$(ONLY)" \
	  $(ALONE) sh -c '$(SWEEP) && cargo test --locked -p userpipeline-tests --test exact -- --nocapture'

test-encryption: cluster ## What the network carries is unreadable; real servers with expired certificates are refused; and all passwords and certificates are rotated while records flow.
	KUBECONFIG="$(CACHE)/kubeconfig" $(ALONE) sh -c \
	  '$(SWEEP) && cargo test --locked -p userpipeline-tests --test encryption -- --ignored --nocapture --test-threads=1'

test-spark: cluster packages ## PySpark and a pipeline have the same totals of the same items.
	benches/peers/install.sh
	KUBECONFIG="$(CACHE)/kubeconfig" PYSPARK_PYTHON="$(CACHE)/peers/venv/bin/python" $(ALONE) sh -c \
	  '$(SWEEP) && cargo test --locked -p userpipeline-tests --test spark -- --ignored --nocapture'

bench: ## What everything costs, each result against its target; fails if any is short.
	@failed=; for one in bench-worker bench-ingest "bench-operator SEEDED=1"; do $(MAKE) $$one || failed="$$failed $$one"; done; \
	  [ -z "$$failed" ] || { echo "short of a target:$$failed"; exit 1; }

N ?= 1000
bench-operator: cluster ## What the operator costs, with N suspended pipelines (N=1000); with SEEDED=1, only one of them needs Jobs.
	cargo build --quiet --locked --release --bin userpipeline-operator
	KUBECONFIG="$(CACHE)/kubeconfig" $(ALONE) cargo run --quiet --locked --release --bin bench-operator -- \
	  --pipelines $(N) $(if $(SEEDED),--seeded) --program "$(CARGO_TARGET_DIR)/release/userpipeline-operator"

# With the commit log that most clusters have.
PERIODIC = benches/with-periodic-commit-log.sh
bench-worker: cluster packages ## What a worker costs, against Cassandra's driver alone and against Spark.
	benches/peers/install.sh
	cargo build --quiet --locked --release --bin stream-worker --bin bench-worker
	KUBECONFIG="$(CACHE)/kubeconfig" PATH="$(CACHE)/bin:$$PATH" $(ALONE) $(PERIODIC) "$(CARGO_TARGET_DIR)/release/bench-worker" run \
	  --program "$(CARGO_TARGET_DIR)/release/stream-worker"

flame-graphs: cluster ## Draws where the programs spend their CPU time (docs/explanation/flame-graphs). It needs perf and inferno.
	KUBECONFIG="$(CACHE)/kubeconfig" PATH="$(CACHE)/bin:$$PATH" $(ALONE) $(PERIODIC) benches/flame-graphs.sh

bench-curves: cluster ## How a worker's throughput and memory depend on partitions, workers and batches.
	cargo build --quiet --locked --release --bin stream-worker --bin bench-worker
	KUBECONFIG="$(CACHE)/kubeconfig" PATH="$(CACHE)/bin:$$PATH" $(ALONE) $(PERIODIC) "$(CARGO_TARGET_DIR)/release/bench-worker" curves \
	  --program "$(CARGO_TARGET_DIR)/release/stream-worker"

bench-ingest: cluster packages ## What a run costs that lands 100,000 users, against a bare COPY of the same rows, and dlt.
	benches/peers/install.sh
	cargo build --quiet --locked --release --bin ingest-job
	KUBECONFIG="$(CACHE)/kubeconfig" $(ALONE) cargo run --quiet --locked --release --bin bench-ingest -- \
	  --program "$(CARGO_TARGET_DIR)/release/ingest-job"

# What the checks need of Debian, installed where it is missing.
packages:
	@local/docker/packages.sh run check

# Checkouts share the target directory, and cargo, which goes by times, would take what another one has built for its own.
checkout:
	@mkdir -p $(CARGO_TARGET_DIR)
	@[ "$$(cat $(CARGO_TARGET_DIR)/checkout 2>/dev/null)" = "$(CURDIR)" ] || find . -name '*.rs' -exec touch {} +
	@echo "$(CURDIR)" >$(CARGO_TARGET_DIR)/checkout
