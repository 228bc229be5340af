#!/usr/bin/env bash
# Usage: tools/fs.sh
# Installs the programs that make file systems for the tests, where they are
# missing: btrfs-progs, xfsprogs, e2fsprogs and attr. The tests mount them by loop devices.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$(dirname "$0")/apt.sh"

missing=()
have() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null; }
have mkfs.btrfs && have btrfs || missing+=(btrfs-progs)
have mkfs.xfs || missing+=(xfsprogs)
have mkfs.ext4 || missing+=(e2fsprogs)
have setfattr || missing+=(attr)
if [ ${#missing[@]} -gt 0 ]; then install_debs "${missing[@]}"; fi
