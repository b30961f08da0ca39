# Sourced by every script in local/: paths, versions, messages, and a kubectl that reaches our cluster only.
# shellcheck shell=bash
# shellcheck disable=SC2034 # what is set here is used by those who source this
set -euo pipefail

LOCAL=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(dirname "$LOCAL")
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/userpipeline
# shellcheck source=versions.env
source "$LOCAL/versions.env"

CLUSTER=userpipeline
NODE=$CLUSTER-control-plane
export PATH="$CACHE/bin:$PATH"
export KUBECONFIG="$CACHE/kubeconfig"
export CARGO_TARGET_DIR="$CACHE/target"
mkdir -p "$CACHE"/{bin,images,logs}

# The time `make up` began, handed down to the scripts it calls.
export UP_STARTED=${UP_STARTED:-$(date +%s)}

say() { printf '[%3ds] %s\n' "$(($(date +%s) - UP_STARTED))" "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# These two shadow the programs: whatever a user's own kubeconfig says, our scripts reach this one cluster.
kubectl() { command kubectl --kubeconfig "$KUBECONFIG" --context "kind-$CLUSTER" "$@"; }
helm() { command helm --kubeconfig "$KUBECONFIG" --kube-context "kind-$CLUSTER" "$@"; }

# key PATH|TEXT...: twelve digits that change when a text, a file or any file of a folder changes.
key() {
  local part
  for part; do
    if [[ -e $part ]]; then
      (cd "$(dirname "$part")" && find "$(basename "$part")" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum)
    else
      printf '%s\n' "$part"
    fi
  done | sha256sum | cut -c1-12
}

# quietly NAME COMMAND...: runs it with its output in a log, which is shown only if it fails; a line each minute says it lives.
quietly() {
  local name=$1 log="$CACHE/logs/$1.log" heartbeat failed=''
  shift
  (while sleep 60 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do say "still at it: $name (log: $log)"; done) &
  heartbeat=$!
  "$@" >"$log" 2>&1 || failed=yes
  kill "$heartbeat" 2>/dev/null || true
  [[ -z $failed ]] || {
    tail -n 30 "$log" >&2
    die "$name failed; the whole output is in $log"
  }
}

is_debian_root() { [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

# Commands of a step: `plan` prints "SECONDS WHAT" if there is something to do, and nothing otherwise; `run` does it,
# and with ALWAYS set even where the plan is empty.
step_main() {
  case ${1:-} in
    plan) plan ;;
    run) [[ -z ${ALWAYS:-} && -z $(plan) ]] || run ;;
    *) die "usage: $0 plan|run" ;;
  esac
}
