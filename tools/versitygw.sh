#!/usr/bin/env bash
# Usage: tools/versitygw.sh
# Builds versitygw, the S3 server of the tests, as .tools/bin/versitygw where it is
# missing or was built from other sources than tools/versitygw/ names now. It is a
# module of its own: its dependencies stay out of the program's. jq is installed
# where it is missing.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$(dirname "$0")/apt.sh"

command -v jq >/dev/null || install_debs jq # RECOVERY.txt puts the bucket back with it

gateway=$tools/bin/versitygw
built=$tools/versitygw.sum # of the sources that the gateway was built from
command -v go >/dev/null || die "go is missing"
cd "$root/tools/versitygw"
[ -x "$gateway" ] && cat go.mod go.sum | cmp -s - "$built" && exit

say "building versitygw"
mkdir -p "$tools/bin"
tmp=$(mktemp -d "$tools/versitygw.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
# Static: it also runs in an image that holds nothing else.
CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$tmp/versitygw" github.com/versity/versitygw/cmd/versitygw
mv -f "$tmp/versitygw" "$gateway"
cat go.mod go.sum >"$built"
