#!/usr/bin/env bash
# Runs one program inside a root file system that make_root.sh made, the way an image runs: root read-only, own /proc and /tmp, user
# 65532, no capabilities, no new privileges. Needs bubblewrap (Debian package), no container engine and no root.
#   deploy/image/run_in_root.sh ROOT [--at HOST-FOLDER:PLACE]... [--write HOST-FOLDER:PLACE]... PROGRAM [ARGUMENT]...
# Ports are the machine's own. Ending this script by SIGTERM kills the program; for its graceful drain send SIGTERM to the program
# itself (its process id is in the --port-file).
set -euo pipefail
usage() {
  sed -n '2,6p' "$0"
  exit 2
}
[ $# -ge 2 ] && [ -x "$1/usr/bin/yangtuo" ] || usage
root=$1
shift
# Places to put folders at must be there: a read-only root takes no new ones.
binds=()
while [ $# -ge 2 ]; do
  case "$1" in
    --at) binds+=(--ro-bind "${2%%:*}" "${2#*:}") ;;
    --write) binds+=(--bind "${2%%:*}" "${2#*:}") ;;
    *) break ;;
  esac
  shift 2
done
[ $# -ge 1 ] || usage
exec bwrap --unshare-user --uid 65532 --gid 65532 --unshare-ipc --unshare-uts --cap-drop ALL --new-session --die-with-parent \
  --ro-bind "$root" / --proc /proc --dev /dev --tmpfs /tmp "${binds[@]}" --chdir / \
  --setenv PATH /usr/bin --unsetenv HOME "$@"
