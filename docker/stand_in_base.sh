#!/usr/bin/env bash
# Make a base image from Debian packages alone, for machines that reach no image registry: Debian 13 with its Python 3.13.
# Usage: docker/stand_in_base.sh NAME [ARCHITECTURE], e.g. docker/stand_in_base.sh dagster-stand-in-base amd64
#
# MIRROR=URL takes another mirror of Debian than its own, DOCKER=PATH another client. Takes a minute and 160 MB. For the
# processor of another machine the kernel must be able to run its programs (Debian: qemu-user-static, binfmt-support).
set -euo pipefail

readonly PACKAGES=python3,python3-venv,ca-certificates

fail() {
  printf 'ERROR: %s\n' "$*" >&2
  exit 1
}

main() {
  local name=${1:-} architecture=${2:-} docker=${DOCKER:-docker} mirror=() layer
  [ -n "$name" ] || fail "No name for the image was given, e.g. $0 dagster-stand-in-base"
  command -v mmdebstrap >/dev/null || fail "mmdebstrap is missing. As root: apt-get install mmdebstrap"
  [[ ${name##*/} == *:* ]] || name+=:latest
  if [ -z "$architecture" ]; then architecture=$(dpkg --print-architecture); fi
  [ -z "${MIRROR:-}" ] || mirror=("$MIRROR")
  # A file, not a pipe: an image of half a system must not get the name.
  directory=$(mktemp -d)
  trap 'rm -rf "$directory"' EXIT
  mmdebstrap --quiet --variant=minbase --architectures="$architecture" --include="$PACKAGES" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='APT::Install-Recommends "false"' \
    trixie "$directory/layer.tar" "${mirror[@]}" ||
    fail "The packages of Debian could not be installed; the reason is above. No image was made."
  # `docker import` would do, but Docker 20.10 gives what it imports the architecture of this machine.
  layer=$(sha256sum "$directory/layer.tar" | cut -d ' ' -f 1)
  printf '{"architecture": "%s", "os": "linux", "config": {"Cmd": ["/bin/bash"]},
    "history": [{"created_by": "mmdebstrap"}], "rootfs": {"type": "layers", "diff_ids": ["sha256:%s"]}}\n' "$architecture" "$layer" >"$directory/config.json"
  printf '[{"Config": "config.json", "RepoTags": ["%s"], "Layers": ["layer.tar"]}]\n' "$name" >"$directory/manifest.json"
  tar -C "$directory" -cf - manifest.json config.json layer.tar | "$docker" load --quiet >/dev/null
  echo "$name is made: DAGSTER_IMAGE_BASE=$name make build"
}

main "$@"
