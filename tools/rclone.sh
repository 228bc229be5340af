#!/usr/bin/env bash
# Usage: tools/rclone.sh
# Puts an rclone of 1.70 or later (of Debian testing or unstable) into
# .tools/rclone/: "make bench" measures against it. The machine's own packages and
# sources stay as they are.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$(dirname "$0")/apt.sh"

least=1.70
rclone=$tools/rclone/rclone
[ -x "$rclone" ] && exit
mkdir -p "$tools"
seen=
for suite in sid forky; do
  tmp=$(mktemp -d "$tools/rclone.XXXXXX")
  trap 'rm -rf "$tmp"' EXIT
  fetch_deb "$suite" rclone "$tmp"
  version=$("$tmp/usr/bin/rclone" version | sed -n '1s/^rclone v//p')
  if [ "$(printf '%s\n' "$least" "$version" | sort -V | head -n 1)" = "$least" ]; then
    mkdir -p "${rclone%/*}"
    mv -f "$tmp/usr/bin/rclone" "$rclone"
    exit
  fi
  rm -rf "$tmp"
  seen+=" $suite: $version"
done
die "no rclone of $least or later for the benchmark ($seen ); put one at $rclone by hand"
