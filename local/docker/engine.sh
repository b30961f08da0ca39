#!/usr/bin/env bash
# A Docker engine that answers. One that runs already is taken as it is; otherwise the installed one is started.
source "$(dirname "$0")/../lib.sh"

plan() { docker info >/dev/null 2>&1 || echo "5 start of the Docker engine"; }

# A killed engine leaves its pid file, and refuses to start while some process, any process, has that number.
remove_stale() {
  local file=$1 name=$2 pid
  [[ -f $file ]] || return 0
  pid=$(<"$file")
  [[ $(cat "/proc/$pid/comm" 2>/dev/null) == "$name" ]] || rm -f "$file"
}

# Bit 24 of the bounding set. Without it runc refuses privileged containers, such as a kind node.
has_sys_resource() {
  local bounding
  bounding=$(awk '/^CapBnd:/ {print $2}' /proc/self/status)
  (((16#$bounding >> 24) & 1))
}

run() {
  [[ $(id -u) == 0 ]] || die "Docker does not answer, and only root can start it. Start Docker, or see why 'docker info' fails."
  command -v dockerd >/dev/null || die "Docker does not answer and dockerd is not installed. Install and start Docker."
  say "starting the Docker engine"
  if [[ -d /run/systemd/system ]] && has_sys_resource; then
    systemctl start docker
  else
    start_by_hand
  fi
  for _ in $(seq 60); do
    docker info >/dev/null 2>&1 && return
    sleep 0.5
  done
  tail -n 20 "$CACHE/logs/dockerd.log" >&2 || true
  die "the Docker engine did not come up in 30 s; its log is $CACHE/logs/dockerd.log"
}

start_by_hand() {
  remove_stale /var/run/docker.pid dockerd
  remove_stale /var/run/docker/containerd/containerd.pid containerd
  local flags=()
  if ! has_sys_resource; then
    # The runtime must outlive a checkout that is moved or deleted, so it stands in the cache.
    install -m 755 "$LOCAL/docker/runc-wrapper" "$CACHE/bin/runc-wrapper"
    flags=(--add-runtime "userpipeline=$CACHE/bin/runc-wrapper" --default-runtime userpipeline)
  fi
  # Its own session, no terminal: it survives the shell that ran `make`.
  setsid nohup dockerd "${flags[@]}" >>"$CACHE/logs/dockerd.log" 2>&1 </dev/null &
  echo $! >"$CACHE/dockerd.pid"
}

step_main "$@"
