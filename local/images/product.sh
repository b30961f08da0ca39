#!/usr/bin/env bash
# Our own binaries, built in release mode, each in its image. A tag is the hash of what is inside, so a Deployment rolls exactly
# when its binary changed; the three binaries of the product share one tag, for the chart takes one.
# The choice stands in CACHE/images/own.env: PRODUCT_REGISTRY, PRODUCT_TAG, SOURCE_IMAGE.
source "$(dirname "$0")/../lib.sh"
source "$LOCAL/images/lib.sh"

# Cargo knows best whether there is something to do, and says so in a second.
ALWAYS=yes
OWN_ENV=$CACHE/images/own.env
RUNTIME_IMAGE=userpipeline/runtime:$(key "$BASE_IMAGE" "$LOCAL/images/runtime")
BINARIES=(userpipeline-operator ingest-job stream-worker randomuser-source)

plan() { [[ -x $(release_dir)/userpipeline-operator ]] || echo "480 Rust release build and its four images"; }

# A binary runs in the image if it was linked against a glibc no newer than the image's, and OpenSSL 3.
host_fits() {
  local glibc
  [[ $(uname -s) == Linux ]] || return 1
  glibc=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2)
  [[ -n $glibc && $(printf '%s\n2.36\n' "$glibc" | sort -V | tail -n 1) == 2.36 ]] &&
    [[ $(pkg-config --modversion openssl 2>/dev/null) == 3.* ]]
}

release_dir() { if host_fits; then echo "$CARGO_TARGET_DIR/release"; else echo "$CACHE/target-bookworm/release"; fi; }

compile() {
  local bins=() name
  for name in "${BINARIES[@]}"; do bins+=(--bin "$name"); done
  if host_fits; then
    command -v cargo >/dev/null || die "cargo is missing. Install Rust 1.90 or later."
    (cd "$ROOT" && cargo build --release --locked "${bins[@]}")
  else
    # Elsewhere the same build runs in a container of the image's Debian.
    mkdir -p "$CACHE/target-bookworm" "$CACHE/cargo"
    docker run --rm --user "$(id -u):$(id -g)" -v "$ROOT:/src:ro" -v "$CACHE/target-bookworm:/target" -v "$CACHE/cargo:/cargo" \
      -e CARGO_HOME=/cargo -e CARGO_TARGET_DIR=/target -w /src "rust:1-$DEBIAN_SUITE" cargo build --release --locked "${bins[@]}"
  fi
}

# image_for IMAGE BINARY
image_for() {
  have_image "$1" && return
  local context
  have_image "$RUNTIME_IMAGE" || {
    have_image "$BASE_IMAGE" || die "the base image is missing; run make up"
    build_image "$RUNTIME_IMAGE" "$LOCAL/images/runtime" --build-arg BASE="$BASE_IMAGE"
  }
  context=$(mktemp -d "$CACHE/context.XXXX")
  cp "$(release_dir)/$2" "$context/"
  sed "s/BINARY/$2/g" "$LOCAL/images/product/Dockerfile" >"$context/Dockerfile"
  build_image "$1" "$context" --build-arg RUNTIME="$RUNTIME_IMAGE"
  rm -rf "$context"
}

run() {
  local dir tag source
  say "building our binaries (release)"
  quietly cargo-release compile
  dir=$(release_dir)
  tag=$(key "$RUNTIME_IMAGE" "$LOCAL/images/product" "$dir"/{userpipeline-operator,ingest-job,stream-worker})
  source=userpipeline/source:$(key "$RUNTIME_IMAGE" "$LOCAL/images/product" "$dir/randomuser-source")
  image_for "userpipeline/operator:$tag" userpipeline-operator
  image_for "userpipeline/ingest-job:$tag" ingest-job
  image_for "userpipeline/stream-worker:$tag" stream-worker
  image_for "$source" randomuser-source
  printf '%s\n' "PRODUCT_REGISTRY=userpipeline" "PRODUCT_TAG=$tag" "SOURCE_IMAGE=$source" >"$OWN_ENV"
  forget_old "$tag" "${source#*:}"
}

# Every change of a binary makes new images; the ones before are of no use. (Docker keeps what a container uses.)
forget_old() {
  local image
  # sed, not grep: to find none is no error.
  docker image ls --format '{{.Repository}}:{{.Tag}}' | sed -nE "/:($1|$2)\$/d; /^userpipeline\/(operator|ingest-job|stream-worker|source):/p" |
    while read -r image; do docker rmi "$image" >/dev/null 2>&1 || true; done
}

# For the manifests: NAME=IMAGE, a line each; nothing before the first build.
[[ ${1:-} == list ]] && {
  [[ -s $OWN_ENV ]] || exit 0
  # shellcheck source=/dev/null
  source "$OWN_ENV"
  echo "source=$SOURCE_IMAGE"
  for name in operator ingest-job stream-worker; do echo "$name=$PRODUCT_REGISTRY/$name:$PRODUCT_TAG"; done
  exit
}
step_main "$@"
