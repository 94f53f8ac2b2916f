#!/usr/bin/env bash
# Installs what Yangtuo needs from Debian's own packages (Debian 12; asks for root only when something is missing).
#   tools/install_packages.sh build   compiler and libraries
#   tools/install_packages.sh test    the above, and what the tests use
set -euo pipefail

build=(g++ cmake ninja-build ccache mold pkg-config
  libgrpc++-dev protobuf-compiler protobuf-compiler-grpc libprotobuf-dev libprotoc-dev libabsl-dev
  libsentencepiece-dev libdnnl-dev prometheus-cpp-dev libgtest-dev libgmock-dev libbenchmark-dev
  libboost1.81-dev nlohmann-json3-dev libcli11-dev libspdlog-dev libssl-dev zlib1g-dev python3)
test=(clang clang-format libclang-rt-14-dev libomp-dev python3-grpcio python3-protobuf python3-numpy python3-torch openssl
  nodejs npm git procps iproute2 kubernetes-client python3-yaml prometheus bubblewrap dnsmasq-base curl chromium
  golang-go golang-google-grpc-dev golang-google-protobuf-dev protoc-gen-go protoc-gen-go-grpc)

case "${1:-}" in
  build) wanted=("${build[@]}") ;;
  test) wanted=("${build[@]}" "${test[@]}") ;;
  *) sed -n '2,4p' "$0"; exit 2 ;;
esac

# node and kubectl may come from elsewhere: their packages are wanted only when the command is missing.
if command -v node >/dev/null && command -v npm >/dev/null; then
  for i in "${!wanted[@]}"; do
    case "${wanted[$i]}" in nodejs | npm) unset "wanted[$i]" ;; esac
  done
fi
if command -v kubectl >/dev/null; then
  for i in "${!wanted[@]}"; do
    case "${wanted[$i]}" in kubernetes-client) unset "wanted[$i]" ;; esac
  done
fi

missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ "${#missing[@]}" -eq 0 ]; then
  exit 0
fi
echo "installing ${#missing[@]} packages: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  as_root=(sudo)
fi
log=$(mktemp)
if ! { "${as_root[@]}" apt-get update -qq &&
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "tools/install_packages.sh: apt-get failed (log above, all of it in $log)" >&2
  exit 1
fi
rm -f "$log"
