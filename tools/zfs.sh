#!/usr/bin/env bash
# Usage: tools/zfs.sh
# Puts the zfs-fuse of Debian 12, a ZFS that takes no kernel module, into .tools/zfs/, with
# its libraries. Tests start it themselves. Nothing is installed, nothing is started.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$(dirname "$0")/apt.sh"

target=$tools/zfs
[ -x "$target/zfs" ] && exit

mkdir -p "$tools"
tmp=$(mktemp -d "$tools/zfs.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
for package in zfs-fuse libfuse2 libaio1 libssl3 libtirpc3 \
  libgssapi-krb5-2 libkrb5-3 libk5crypto3 libkrb5support0 libkeyutils1; do
  fetch_deb bookworm "$package" "$tmp/root"
done
mkdir -p "$tmp/zfs/lib"
find "$tmp/root" -name 'lib*.so*' -exec mv -t "$tmp/zfs/lib" {} +
for program in zfs zpool zfs-fuse; do
  mv "$tmp/root/sbin/$program" "$tmp/zfs/lib/"
  printf '#!/bin/sh\nlib=${0%%/*}/lib\nLD_LIBRARY_PATH=$lib exec "$lib/%s" "$@"\n' $program > "$tmp/zfs/$program"
  chmod +x "$tmp/zfs/$program"
done
chmod 0755 "$tmp/zfs"
rm -rf "$target"
mv "$tmp/zfs" "$target"
