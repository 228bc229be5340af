#!/usr/bin/env bash
# Usage: tools/docker.sh
# Installs a Docker engine (the machine's own docker.io) where none is, and
# compose v2 of the next Debian release in .tools/: as the command
# .tools/bin/docker-compose, and as the plugin of .tools/docker-config
# (DOCKER_CONFIG), so that both ways of calling it can be tested.
# No daemon is started: the tests start a private one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$(dirname "$0")/apt.sh"

missing=()
have() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }
have dockerd && have containerd && have runc || missing+=(docker.io)
have docker || missing+=(docker.io)
have iptables || missing+=(iptables)
have ip || missing+=(iproute2)
have curl || missing+=(curl)
if [ ${#missing[@]} -gt 0 ]; then install_debs "${missing[@]}"; fi
have docker || install_debs docker-cli # later releases have the client apart

compose=$tools/docker-config/cli-plugins/docker-compose
[ -x "$compose" ] && [ -x "$tools/bin/docker-compose" ] && exit
mkdir -p "$tools/bin" "$(dirname "$compose")"
tmp=$(mktemp -d "$tools/compose.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
fetch_deb trixie docker-compose "$tmp"
binary=$(find "$tmp" -type f -name docker-compose -perm -u+x | head -n 1)
[ -n "$binary" ] || die "the package docker-compose of Debian trixie holds no docker-compose"
[[ $("$binary" version --short 2>&1) =~ ^v?2\. ]] || die "$("$binary" version 2>&1 | head -n 1): compose v2 was expected"
mv -f "$binary" "$compose"
ln -sfn ../docker-config/cli-plugins/docker-compose "$tools/bin/docker-compose"
