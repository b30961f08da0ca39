#!/usr/bin/env bash
# Debian packages that the later steps need. Only what is missing, only on Debian and as root; elsewhere it is said what to install.
# `packages.sh run check` looks only at what `make check` needs, `packages.sh run base` at what a base image is made with.
source "$(dirname "$0")/../lib.sh"
ONLY=${2:-}

# COMMAND-OR-FILE:PACKAGES that bring it.
needs() {
  # Asked for only where no image registry answers.
  [[ $ONLY != base ]] || { echo "debootstrap:debootstrap"; return 0; }
  # What our Rust build links: OpenSSL and zlib for librdkafka.
  echo "c++:build-essential pkg-config:pkg-config /usr/include/openssl/ssl.h:libssl-dev /usr/include/zlib.h:zlib1g-dev"
  if [[ $ONLY == check ]]; then
    # The chart's validator lives in a virtual environment of its own.
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo "ensurepip:python3,python3-venv"
    return 0
  fi
  # The compiler is for tests/contract.
  echo "jq:jq curl:curl mvn:maven javac:default-jdk-headless pip3:python3-pip"
  # An engine that answers needs nothing; a client alone may stand on a machine without an engine.
  docker info >/dev/null 2>&1 || echo "docker:docker.io dockerd:docker.io,containerd,runc,iptables"
}

missing() {
  local line
  for line in $(needs); do
    command -v "${line%%:*}" >/dev/null || [[ -e ${line%%:*} ]] || tr ',' '\n' <<<"${line#*:}"
  done | sort -u
}

plan() {
  local packages
  packages=$(missing | tr '\n' ' ')
  [[ -z $packages ]] || echo "60 Debian packages: $packages"
}

run() {
  local packages
  mapfile -t packages < <(missing)
  is_debian_root || die "not root on Debian, so nothing is installed by itself. Please install what these Debian packages hold: ${packages[*]}"
  say "installing ${packages[*]}"
  # No service may start by itself: the engine is started by engine.sh, with the settings this machine needs.
  export DEBIAN_FRONTEND=noninteractive
  if [[ ! -e /usr/sbin/policy-rc.d ]]; then
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  quietly apt-update apt-get update
  quietly apt-install apt-get install -y --no-install-recommends "${packages[@]}"
}

step_main "$@"
