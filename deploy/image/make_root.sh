#!/usr/bin/env bash
# Lays out the root file system of the image: the programs, the libraries that they load, nothing else (no shell, no package
# manager, no setuid file). The Dockerfile beside this script runs it; so can anybody who packs images another way.
#   deploy/image/make_root.sh PROGRAMS ROOT     PROGRAMS: a build's bin folder; ROOT: a new folder
set -euo pipefail
if [ $# -ne 2 ] || [ ! -x "$1/yangtuo-worker" ]; then
  sed -n '2,4p' "$0"
  exit 2
fi
programs=$(cd "$1" && pwd)
mkdir -p "$2"
root=$(cd "$2" && pwd)
if [ -n "$(ls -A "$root")" ]; then
  echo "make_root.sh: $root is not empty" >&2
  exit 1
fi
source=$(cd "$(dirname "$0")/../.." && pwd)

install -d "$root"/usr/bin "$root"/usr/lib/yangtuo "$root"/usr/share/yangtuo/models "$root"/etc "$root"/proc "$root"/dev \
  "$root"/sys "$root"/models "$root"/etc/yangtuo
install -d -m 1777 "$root"/tmp
# As on Debian: what asks for /lib or /lib64 finds /usr.
ln -s usr/bin "$root/bin"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"
install -d "$root/usr/lib64"

for program in yangtuo yangtuo-gateway yangtuo-tokenizer yangtuo-worker; do
  install -m 755 "$programs/$program" "$root/usr/bin/"
done
install -m 644 "$programs/libyangtuo_sentencepiece.so" "$root/usr/lib/yangtuo/"
strip "$root"/usr/bin/yangtuo* "$root"/usr/lib/yangtuo/*.so

# "name => /path (address)" and, for the loader, "/path (address)". A library that is missing stops us. libgcc_s is loaded by
# glibc itself when a thread is cancelled.
for file in "$root"/usr/bin/yangtuo* "$root"/usr/lib/yangtuo/*.so; do
  ldd "$file"
done | awk '/not found/ {print; missing = 1} $2 == "=>" {print $3} $1 ~ /^\// {print $1} END {exit missing}' |
  sort -u | while read -r library; do
  place=$(dirname "$library")
  case "$place" in /usr/*) ;; *) place=/usr$place ;; esac
  name=$(basename "$library")
  install -d "$root$place"
  if [ "$place" = /usr/lib64 ]; then
    # The loader. Its file lies among the libraries, where it is looked for when the tokenizer loads sentencepiece into a link
    # namespace of its own.
    real=$(readlink -f "$library")
    install -D -m 755 "$real" "$root/usr${real#/usr}"
    ln -s "$(realpath -m --relative-to "$root$place" "$root/usr${real#/usr}")" "$root$place/$name"
  else
    install -m 755 "$(readlink -f "$library")" "$root$place/$name"
  fi
done

# Names for the one user, and where host names come from (glibc's own resolver needs no further files).
echo 'yangtuo:x:65532:65532:Yangtuo:/:/nonexistent' >"$root/etc/passwd"
echo 'yangtuo:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
cp -r "$source/deploy/models/poem-alpaca" "$root/usr/share/yangtuo/models/"
cp "$source/LICENSE" "$root/usr/share/yangtuo/"

size() { du -sk "$@" | awk '{sum += $1} END {printf "%.1f MB", sum / 1024}'; }
echo "programs:  $(size "$root"/usr/bin "$root"/usr/lib/yangtuo)"
echo "libraries: $(size "$root"/usr/lib/x86_64-linux-gnu "$root"/usr/lib64 2>/dev/null || true)"
echo "model:     $(size "$root/usr/share")"
echo "root:      $(size "$root")"
