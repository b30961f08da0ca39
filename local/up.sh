#!/usr/bin/env bash
# Brings the local cluster up, from whatever is there. Usage: up.sh cluster|demo
#   cluster: engine, images, kind cluster, services, operator
#   demo:    all that, and an example pipeline with rows in both stores
source "$(dirname "$0")/lib.sh"

goal=${1:-demo}
# Each step is a script with `plan` and `run`. The two lanes go side by side: much of the first is waiting and downloading.
FIRST=(docker/packages.sh docker/engine.sh images/base.sh)
LANE_CLUSTER=(kubernetes/build.sh kubernetes/tools.sh node-image/build.sh cluster/create.sh images/services.sh services/install.sh)
LANE_PRODUCT=(images/product.sh)
LAST=(services/source.sh operator.sh)
[[ $goal != demo ]] || LAST+=(demo.sh)

# One at a time: two would build the same images and create the same cluster.
exec 8>"$CACHE/lock"
flock -n 8 || {
  say "another make is at work on the cluster: waiting for it"
  flock 8
}

announce() {
  local step seconds what total=0 lines=()
  for step in "${FIRST[@]}" "${LANE_CLUSTER[@]}" "${LANE_PRODUCT[@]}" "${LAST[@]}"; do
    while read -r seconds what; do
      lines+=("$(printf '  %4ds  %s' "$seconds" "$what")") total=$((total + seconds))
    done < <("$LOCAL/$step" plan)
  done
  ((total)) || { say "everything is built already: checking that it runs"; return 0; }
  echo "To do, with about how long each takes on two cores (together about $(((total + 59) / 60)) min; everything is kept in $CACHE):"
  printf '%s\n' "${lines[@]}"
}

run_steps() {
  local step
  # Said outright, because `set -e` does not reach into a function that is called with `||`.
  # 8 is the lock; what a step leaves running, an engine above all, must not hold it.
  for step; do "$LOCAL/$step" run 8>&- || return 1; done
}

announce
run_steps "${FIRST[@]}"
run_steps "${LANE_CLUSTER[@]}" &
lane=$!
failed=''
(run_steps "${LANE_PRODUCT[@]}") || failed=yes
wait "$lane" || failed=yes
[[ -z $failed ]] || die "stopped; what is finished is kept, so the next run goes on from here"
run_steps "${LAST[@]}"
say "done"
