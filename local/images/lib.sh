# Sourced by the scripts that build images. An image's tag is the key of what it was made from, so a tag that exists is right,
# in the engine or as a tar in the cache, from where an emptied engine gets it back.
# shellcheck shell=bash

BASE_IMAGE=userpipeline/base:$(key "$DEBIAN_SUITE" "$LOCAL/images/base.sh")
# kind's files come with its module; go.sum of the module proxy vouches for them.
NODE_IMAGE=userpipeline/node:$(key "$KUBERNETES_VERSION $KIND_VERSION" "$BASE_IMAGE" "$LOCAL"/kubernetes/{go.mod,go.sum,compile.sh,coredns,etcd,pause} "$LOCAL/node-image" "$LOCAL/docker/runc-wrapper")

# Images are built here unless a registry answered. Not knowing yet (no engine so far) counts as having to build.
builds_base() { [[ ! -s $CACHE/image-registry || $(<"$CACHE/image-registry") == no ]]; }

tar_of() { echo "$CACHE/images/$(tr '/:' '__' <<<"$1").tar"; }
in_engine() { docker image inspect "$1" >/dev/null 2>&1; }
image_saved() { in_engine "$1" || [[ -s $(tar_of "$1") ]]; }
node_image_saved() { image_saved "$NODE_IMAGE"; }

# have_image IMAGE: in the engine, if need be from the cache. False if it must be built.
have_image() {
  in_engine "$1" && return
  [[ -s $(tar_of "$1") ]] && docker load -q -i "$(tar_of "$1")" >/dev/null
}

# save_image IMAGE: into the cache, in place of its older versions there.
save_image() {
  local file old
  file=$(tar_of "$1")
  docker save -o "$file.new" "$1"
  for old in "${file%_*}"_*.tar; do rm -f "$old"; done
  mv "$file.new" "$file"
}

# build_image IMAGE DIR ARGS...: the host's network, because a fresh engine's bridge cannot always resolve names.
build_image() {
  local image=$1 dir=$2
  shift 2
  quietly "image-$(basename "${image%:*}")" docker build --network host -t "$image" "$@" "$dir"
}
