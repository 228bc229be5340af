#!/usr/bin/env bash
# Usage: tools/nspawn.sh
# Installs systemd-nspawn and debootstrap where they are missing, and builds
# .tools/nspawn-root once: a minimal Debian of the machine's own release that
# boots systemd as PID 1. Tests boot it through a copy-on-write layer.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$(dirname "$0")/apt.sh"

target=$tools/nspawn-root
[ -e "$target/etc/ocbackup-tests" ] && command -v systemd-nspawn >/dev/null && exit

missing=()
command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
PATH=$PATH:/usr/sbin command -v debootstrap >/dev/null || missing+=(debootstrap)
if [ ${#missing[@]} -gt 0 ]; then install_debs "${missing[@]}"; fi
[ "$(id -u)" = 0 ] || die "needs root to build $target"

# shellcheck source=/dev/null
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$suite" ] && [ -n "$(mirror)" ] || die "this machine is no Debian; the systemd scenarios need one"
say "building a Debian $suite for the systemd scenarios"
tmp=$(mktemp -d "$tools/nspawn.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
chmod 0755 "$tmp"
debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,attr \
  "$suite" "$tmp" "$(mirror)" >"$tools/debootstrap.log" 2>&1 ||
  die "debootstrap failed (offline?): $(tail -n 3 "$tools/debootstrap.log")"

# Only what the scenarios look at: no timers, consoles or waits of the distribution's own.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
  systemd-timesyncd.service getty.target console-getty.service \
  systemd-journal-flush.service systemd-update-utmp.service systemd-networkd-wait-online.service; do
  ln -sfn /dev/null "$tmp/etc/systemd/system/$unit"
done
ln -sfn /usr/lib/systemd/system/multi-user.target "$tmp/etc/systemd/system/default.target"
rm -rf "$tmp"/var/cache/apt/* "$tmp"/var/lib/apt/lists/* "$tmp"/usr/share/{doc,man,locale}/*
echo test-machine > "$tmp/etc/hostname"
: > "$tmp/etc/machine-id"
date -u > "$tmp/etc/ocbackup-tests"
rm -rf "$target"
mv "$tmp" "$target"
