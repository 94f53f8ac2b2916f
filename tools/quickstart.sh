#!/usr/bin/env bash
# From a fresh Debian 12 machine to a streamed answer: installs packages, builds, starts a cluster on loopback
# (gateway, tokenizer and two workers with half of the demo model's layers each), asks it for a poem, stops it.
#   tools/quickstart.sh            all of the above
#   tools/quickstart.sh --keep     leaves the cluster running until Ctrl-C
#   tools/quickstart.sh [--keep] PROMPT   asks something else
set -euo pipefail
cd "$(dirname "$0")/.."

keep=no
prompt='写一首题为《春望》的五言律诗。'
while [ $# -gt 0 ]; do
  case "$1" in
    --keep) keep=yes ;;
    -h | --help) sed -n '2,6p' "$0"; exit 0 ;;
    -*) echo "tools/quickstart.sh: unknown option $1" >&2; sed -n '2,6p' "$0" >&2; exit 2 ;;
    *) prompt=$1 ;;
  esac
  shift
done

started=$SECONDS
say() { printf '\n== %s (%d s)\n' "$1" $((SECONDS - started)); }

say "1/4 packages"
tools/install_packages.sh build

say "2/4 build (a few minutes the first time)"
mkdir -p build
cmake --preset release >build/release.configure.log 2>&1 || { tail -n 30 build/release.configure.log >&2; exit 1; }
programs=(yangtuo yangtuo-gateway yangtuo-tokenizer yangtuo-worker)
if [ -t 1 ]; then
  ninja -C build/release -j "$(nproc)" "${programs[@]}"
else
  ninja -C build/release -j "$(nproc)" "${programs[@]}" | awk '!/^\[/ || ++n % 25 == 0; {fflush()}'
fi

say "3/4 start: gateway, tokenizer, two workers"
bin=build/release/bin
state=$(mktemp -d)
up=
stop() {
  trap - EXIT INT TERM
  if [ -n "$up" ] && kill -0 "$up" 2>/dev/null; then
    kill -TERM "$up" 2>/dev/null || true
    wait "$up" 2>/dev/null || true
  fi
  rm -rf "$state"
}
trap 'stop' EXIT
trap 'stop; exit 130' INT TERM
"$bin/yangtuo" up --shards 2 --listen 127.0.0.1:0 --port-file "$state/ports.json" &
up=$!
for _ in $(seq 600); do
  [ -s "$state/ports.json" ] && break
  kill -0 "$up" 2>/dev/null || { echo "tools/quickstart.sh: the cluster did not start (see above)" >&2; exit 1; }
  sleep 0.1
done
[ -s "$state/ports.json" ] || { echo "tools/quickstart.sh: the cluster was not ready within 60 s" >&2; exit 1; }
port=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["grpc"])' "$state/ports.json")
server=127.0.0.1:$port

say "4/4 ask: $prompt"
"$bin/yangtuo" generate --server "$server" --stats "$prompt"

cat <<TEXT

Talk to a running cluster (start one with: $bin/yangtuo up):
  $bin/yangtuo chat                                    a conversation in the terminal
  $bin/yangtuo generate "$prompt"
  $bin/yangtuo status                                  services, load, tokens a second
  deploy/examples/                                     clients in Python, Node, C++ and Go
TEXT
if [ "$keep" = yes ]; then
  printf '\nThe cluster listens on %s (add --server %s to the commands above). Ctrl-C stops it.\n' "$server" "$server"
  wait "$up"
fi
