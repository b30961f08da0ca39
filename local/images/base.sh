#!/usr/bin/env bash
# The image everything stands on: a slim Debian, pulled where an image registry answers and made by debootstrap elsewhere.
source "$(dirname "$0")/../lib.sh"
source "$LOCAL/images/lib.sh"

plan() {
  image_saved "$BASE_IMAGE" && [[ -s $CACHE/image-registry ]] || echo "40 base image, Debian $DEBIAN_SUITE"
}

run() {
  local pull=debian:$DEBIAN_SUITE-slim root
  if timeout 60 docker pull -q "$pull" >/dev/null 2>&1; then
    echo yes >"$CACHE/image-registry"
    docker tag "$pull" "$BASE_IMAGE"
    return
  fi
  echo no >"$CACHE/image-registry"
  have_image "$BASE_IMAGE" && return
  say "no image registry answers: making a Debian base image by debootstrap"
  root=$(mktemp -d "$CACHE/debootstrap.XXXX")
  # shellcheck disable=SC2064 # expanded now: the variable is gone when the trap runs
  trap "rm -rf '$root'" EXIT
  "$LOCAL/docker/packages.sh" run base
  quietly debootstrap debootstrap --variant=minbase "$DEBIAN_SUITE" "$root"
  # What debian:bookworm-slim leaves out as well.
  rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/usr/share/{doc,man,info,locale}/*
  printf '%s\n' 'path-exclude /usr/share/doc/*' 'path-exclude /usr/share/man/*' 'path-exclude /usr/share/locale/*' \
    >"$root/etc/dpkg/dpkg.cfg.d/slim"
  tar -C "$root" -c . | docker import - "$BASE_IMAGE" >/dev/null
  save_image "$BASE_IMAGE"
}

step_main "$@"
