#!/usr/bin/env bash
# Usage: tools/vm.sh PROGRAM [ARGUMENT...]
# Runs a static program (a compiled test) as root in a small virtual machine, which has what
# a container lacks: the device mapper and LVM. Ends with the program's exit code. The
# machine is built once, in .tools/vm/: Debian's cloud kernel, and a minimal Debian of the
# machine's own release, which lives in memory. It is emulated: nothing of it needs KVM.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$(dirname "$0")/apt.sh"

[ $# -gt 0 ] || die "which program?"
vm=$tools/vm

tmp=
trap 'rm -rf "$tmp"' EXIT

# pack: the files named on standard input, as an initramfs.
pack() { cpio --quiet -o -H newc -R 0:0; }

# build: $vm/vmlinuz and $vm/root.cpio.
build() {
  local suite kernel root
  # shellcheck source=/dev/null
  suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  [ -n "$suite" ] && [ -n "$(mirror)" ] || die "this machine is no Debian; the virtual machine needs one"
  say "building a virtual machine with Debian $suite"
  tmp=$(mktemp -d "$tools/vm.XXXXXX")
  root=$tmp/root
  debootstrap --variant=minbase --include=udev,kmod,lvm2,thin-provisioning-tools,xfsprogs,e2fsprogs \
    "$suite" "$root" "$(mirror)" >"$tools/debootstrap.log" 2>&1 ||
    die "debootstrap failed (offline?): $(tail -n 3 "$tools/debootstrap.log")"
  # All of it is unpacked into memory: what is big goes.
  rm -rf "$root"/usr/{share,bin/perl*,bin/python3*,lib/python3*,lib/udev/hwdb*} \
    "$root"/usr/lib/x86_64-linux-gnu/{perl*,gconv,libicu*} "$root"/var/{cache,lib/apt,lib/dpkg}

  # The kernel's package is named by the one that always depends on the latest.
  fetch_deb "$suite" linux-image-cloud-amd64 "$tmp/latest"
  kernel=$(readlink "$tmp/latest/usr/share/doc/linux-image-cloud-amd64")
  fetch_deb "$suite" "$kernel" "$tmp/kernel"
  kernel=${kernel#linux-image-}
  local modules=lib/modules/$kernel dir
  for dir in drivers/md drivers/block fs/xfs lib crypto arch/x86/crypto; do
    mkdir -p "$root/$modules/kernel/$dir"
    cp -a "$tmp/kernel/$modules/kernel/$dir/." "$root/$modules/kernel/$dir/"
  done
  cp "$tmp/kernel/$modules"/modules.{builtin,builtin.modinfo,order} "$root/$modules/"
  chroot "$root" depmod "$kernel"
  cp "$(dirname "$0")/vm/init" "$root/init"

  mkdir -p "$vm"
  (cd "$root" && find . | pack) > "$tmp/root.cpio"
  mv "$tmp/kernel/boot/vmlinuz-$kernel" "$vm/vmlinuz"
  mv "$tmp/root.cpio" "$vm/root.cpio"
  rm -rf "$tmp"
}

if [ ! -e "$vm/root.cpio" ] || [ "$(dirname "$0")/vm/init" -nt "$vm/root.cpio" ]; then
  [ "$(dpkg --print-architecture)" = amd64 ] || die "the virtual machine is for amd64 only"
  [ "$(id -u)" = 0 ] || die "needs root to build $vm"
  missing=()
  command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86 seabios)
  command -v cpio >/dev/null || missing+=(cpio)
  PATH=$PATH:/usr/sbin command -v debootstrap >/dev/null || missing+=(debootstrap)
  if [ ${#missing[@]} -gt 0 ]; then install_debs "${missing[@]}"; fi
  build
fi

# The kernel unpacks a second archive behind the first one.
tmp=$(mktemp -d "$tools/vm.XXXXXX")
mkdir "$tmp/add"
cp "$1" "$tmp/add/program"; shift
printf 'exec /program%s\n' "$(printf ' %q' "$@")" > "$tmp/add/run-tests"
{ cat "$vm/root.cpio"; (cd "$tmp/add" && find . | pack); } > "$tmp/initrd"

timeout 900 qemu-system-x86_64 -accel tcg -cpu max -smp 2 -m 2048 \
  -nodefaults -no-user-config -no-reboot -display none -serial stdio \
  -kernel "$vm/vmlinuz" -initrd "$tmp/initrd" -append 'console=ttyS0 quiet panic=-1' \
  </dev/null | tee "$tmp/log" || die "the virtual machine did not end in time"
code=$(tr -d '\r' <"$tmp/log" | sed -n 's/^vm: exit code //p')
[ -n "$code" ] || die "the virtual machine broke down"
exit "$code"
