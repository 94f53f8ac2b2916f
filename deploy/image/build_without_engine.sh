#!/usr/bin/env bash
# Makes the image's root file system where no container engine and no registry is at hand: debootstrap in place of the Dockerfile's
# debian:12, then the very commands of its first stage, read from the Dockerfile beside this script. Needs root and Debian's debootstrap.
#   deploy/image/build_without_engine.sh FOLDER     FOLDER: gets build/ (2 GB) and root-of-image/; kept for the next run
# Set CCACHE_DIR to use a compiler cache from outside.
set -euo pipefail
if [ $# -ne 1 ]; then
  sed -n '2,5p' "$0"
  exit 2
fi
source=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
stage=$folder/build

# The first stage's RUN, with its continued lines.
commands=$(awk '/^FROM / {stage++} stage == 1 && /^RUN / {run = 1; sub(/^RUN /, "")} run {print; run = /\\$/}' \
  "$source/deploy/image/Dockerfile")
[ -n "$commands" ] || { echo "build_without_engine.sh: no RUN in the Dockerfile's first stage" >&2; exit 1; }

if [ ! -x "$stage/usr/bin/apt-get" ]; then
  debootstrap --variant=minbase bookworm "$stage" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
fi
# What COPY takes: everything that .dockerignore leaves in. A build folder of an earlier run stays.
mkdir -p "$stage/source"
rm -rf "$stage/root-of-image"
(cd "$source" && git ls-files -co --exclude-standard | tar -cf - -T -) | tar -C "$stage/source" -xf -

export stage commands
# Mounts of a namespace of its own go with it.
unshare --mount bash -euo pipefail -c '
  mount -t proc proc "$stage/proc"
  mount --rbind /dev "$stage/dev"
  if [ -n "${CCACHE_DIR:-}" ]; then
    mkdir -p "$stage/ccache"
    mount --bind "$CCACHE_DIR" "$stage/ccache"
    export CCACHE_DIR=/ccache
  fi
  exec chroot "$stage" /bin/sh -c "cd /source && $commands"'
rm -rf "$folder/root-of-image"
mv "$stage/root-of-image" "$folder/root-of-image"
echo "$folder/root-of-image"
