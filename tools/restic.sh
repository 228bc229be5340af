#!/usr/bin/env bash
# Usage: tools/restic.sh
# Puts restic 0.18 and 0.19, of later Debian releases, into .tools/restic-0.18/
# and .tools/restic-0.19/, and links .tools/bin/restic to the first. The
# machine's own packages and sources stay as they are.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$(dirname "$0")/apt.sh"

# get DIR WANTED SUITE...: the first of the suites whose restic is of the wanted line.
get() {
  local dir=$tools/restic-$1 wanted=$1 suite; shift
  [ -x "$dir/restic" ] && return
  for suite; do
    local tmp; tmp=$(mktemp -d "$tools/restic.XXXXXX")
    fetch_deb "$suite" restic "$tmp"
    if [[ $("$tmp/usr/bin/restic" version) == "restic $wanted."* ]]; then
      mkdir -p "$dir"
      mv -f "$tmp/usr/bin/restic" "$dir/restic"
      rm -rf "$tmp"
      return
    fi
    rm -rf "$tmp"
  done
  die "none of the Debian releases $* carries restic $wanted"
}

mkdir -p "$tools/bin"
get 0.18 trixie
get 0.19 sid forky
ln -sfn ../restic-0.18/restic "$tools/bin/restic"
