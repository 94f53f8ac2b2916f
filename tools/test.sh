#!/usr/bin/env bash
# Builds and runs every test. Installs what is missing first (Debian packages; npm packages under build/).
#   tools/test.sh            layout, release tests, and the libraries under TSan, fuzzers, ASan and UBSan
#   tools/test.sh --quick    layout and release tests only
#   tools/test.sh --full     also clang's thread-safety analysis, ASan and UBSan over every program, and more of the cluster on
#                            many (virtual) machines
# Exit code 0 only when everything passed. Can be run again at once; ccache makes the second run short.
set -uo pipefail
cd "$(dirname "$0")/.."

quick=no
full=no
case "${1:-}" in
  "") ;;
  --quick) quick=yes ;;
  --full) full=yes ;;
  *) sed -n '2,7p' "$0"; [ "${1:-}" = --help ] && exit 0; exit 2 ;;
esac

jobs=$(nproc)
started=$SECONDS
step=0
steps=3
[ "$quick" = yes ] || steps=6
[ "$full" = no ] || steps=7
begin() {
  step=$((step + 1))
  printf '\n[%d/%d] %s (%d min %02d s so far)\n' "$step" "$steps" "$1" $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))
}
fail() {
  printf '\ntools/test.sh: FAILED: %s\n' "$1" >&2
  exit 1
}
# Prints ninja's progress in place on a terminal, every tenth step otherwise.
build() {
  local preset=$1
  shift
  cmake --preset "$preset" >"build/$preset.configure.log" 2>&1 || { tail -n 30 "build/$preset.configure.log" >&2; fail "configure $preset"; }
  if [ -t 1 ]; then
    ninja -C "build/$preset" -j "$jobs" "$@" || fail "build $preset"
  else
    ninja -C "build/$preset" -j "$jobs" "$@" | awk '!/^\[/ || ++n % 25 == 0; {fflush()}' || fail "build $preset"
  fi
}
run_tests() {
  ctest --test-dir "build/$1" --output-on-failure --no-tests=error -j "$jobs" "${@:2}" >"build/$1.ctest.log" 2>&1
  local code=$?
  if [ $code -ne 0 ]; then
    # What failed, in full; a passing test's line says nothing here.
    grep -vE '^ *Start +[0-9]+:|Passed +[0-9.]+ sec$|^$' "build/$1.ctest.log" | tail -n 300
  else
    tail -n 12 "build/$1.ctest.log"
  fi
  return $code
}

mkdir -p build
begin "packages"
tools/install_packages.sh test || fail "packages"
begin "layout: format, include arrows"
git ls-files -z '*.cc' '*.h' | xargs -0 clang-format --dry-run -Werror || fail "clang-format (clang-format -i on the files above)"
python3 .ci/check_layers.py || fail "layers"
begin "release: build and test"
build release
# Tests that are long look at this; sanitizers run the short ones.
[ "$full" = no ] || export YANGTUO_FULL=1
run_tests release || fail "release tests (all output: build/release.ctest.log)"
unset YANGTUO_FULL
if [ "$quick" = yes ]; then
  exit 0
fi
if [ "$full" = yes ]; then
  begin "thread-safety analysis (clang)"
  # The programs and everything they link.
  build tsa yangtuo yangtuo-gateway yangtuo-tokenizer yangtuo-worker
fi
begin "ThreadSanitizer: targets without gRPC and oneDNN"
build tsan
run_tests tsan || fail "tsan tests (all output: build/tsan.ctest.log)"
begin "fuzzers"
build fuzz fuzzers
run_tests fuzz -R '_fuzzer$' || fail "fuzzers (all output: build/fuzz.ctest.log)"
asan=asan-core
[ "$full" = no ] || asan=asan
begin "AddressSanitizer and UndefinedBehaviorSanitizer ($asan)"
build $asan
run_tests $asan || fail "$asan tests (all output: build/$asan.ctest.log)"
printf '\nall passed in %d min %02d s\n' $(((SECONDS - started) / 60)) $(((SECONDS - started) % 60))
tail -n 4 build/$asan.ctest.log
