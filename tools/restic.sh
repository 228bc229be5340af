#!/usr/bin/env bash
# Usage: tools/restic.sh [0.18] [0.19]
# Puts restic 0.18 (of Debian 13) and a restic of 0.19 or later (of Debian testing
# or unstable), or just the one that is named, into .tools/restic-0.18/ and
# .tools/restic-0.19/, and links .tools/bin/restic to the first. The machine's own
# packages and sources stay as they are.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$(dirname "$0")/apt.sh"

# fits LINE VERSION: 0.18 is that line alone; 0.19 is what later releases have.
fits() {
  case $1 in
    0.18) [[ $2 == 0.18.* ]] ;;
    *) [ "$(printf '%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ] ;;
  esac
}

# get LINE SUITE...: the restic of the first of the suites that has a fitting one.
get() {
  local line=$1 dir=$tools/restic-$1 suite version seen=; shift
  [ -x "$dir/restic" ] && return
  for suite; do
    local tmp; tmp=$(mktemp -d "$tools/restic.XXXXXX")
    fetch_deb "$suite" restic "$tmp"
    version=$("$tmp/usr/bin/restic" version | awk '{ print $2; exit }')
    if fits "$line" "$version"; then
      mkdir -p "$dir"
      mv -f "$tmp/usr/bin/restic" "$dir/restic"
      rm -rf "$tmp"
      return
    fi
    rm -rf "$tmp"
    seen+=" $suite: $version"
  done
  die "no restic $line for the tests ($seen ); put one at $dir/restic by hand"
}

mkdir -p "$tools/bin"
[ $# -gt 0 ] || set -- 0.18 0.19
for line; do
  case $line in
    0.18) get 0.18 trixie ;;
    0.19) get 0.19 sid forky ;;
    *) die "unknown version $line: 0.18 or 0.19" ;;
  esac
done
if [ -x "$tools/restic-0.18/restic" ]; then ln -sfn ../restic-0.18/restic "$tools/bin/restic"; fi
