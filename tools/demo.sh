#!/usr/bin/env bash
# Usage: tools/demo.sh
# The main job on real input, in a temporary directory: trees recorded from real
# OpenCloud servers are put under a stand-in server, backed up, listed, verified,
# wiped, restored, and compared with what they were. Ends with 0 only if all of it
# is equal. Nothing outside the temporary directory and .tools/ is touched.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$(dirname "$0")/apt.sh"

[ "$(id -u)" = 0 ] || die "needs root: owners can't be restored otherwise (sudo make demo)"
for c in tar go make; do
  command -v "$c" >/dev/null || die "$c is missing"
done

# What it needs. All of it is quick once it is there.
"$root/tools/restic.sh"
make -s -C "$root" build
mkdir -p "$tools/bin"
(cd "$root" && CGO_ENABLED=0 go build -o "$tools/bin/" ./integration/standin ./integration/treesum)
export PATH=$root/bin:$tools/bin:$PATH

bold='' green='' red='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; fi

# A directory on a file system with user xattrs: that is where OpenCloud's metadata are.
dir=
for parent in "${TMPDIR:-/tmp}" /var/tmp "$tools"; do
  [ -d "$parent" ] && [ -w "$parent" ] || continue
  dir=$(mktemp -d "$parent/ocbackup-demo.XXXXXX")
  if treesum --takes-xattrs "$dir"; then break; fi
  say "$parent takes no extended attributes of users, trying another directory"
  rmdir "$dir"
  dir=
done
[ -n "$dir" ] || die "found no directory whose file system takes user extended attributes; set TMPDIR to one"

cleanup() {
  local code=$? ctl
  trap '' INT TERM HUP
  for ctl in "$dir"/*/server; do
    [ -x "$ctl" ] && "$ctl" kill
  done
  rm -rf "$dir"
  exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# run COMMAND...: shows the command, and runs it.
run() {
  printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
  "$@"
}

pass() { printf '%sPASS%s %s\n' "$green" "$plain" "$*"; }
fail() { printf '%sFAIL%s %s\n' "$red" "$plain" "$*"; failed=1; }
failed=0

used=" "
# free_port: a port of the loopback interface that nobody listens on, in $port.
free_port() {
  while :; do
    port=$((20000 + RANDOM % 12000))
    case $used in *" $port "*) continue ;; esac
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
  done
  used+="$port "
}

# make_server: the script by which the stand-in under $PWD is controlled, as the
# admin of a server without systemd and Docker would write one.
make_server() {
  local web idm debug port
  free_port; web=$port
  free_port; idm=$port
  free_port; debug=$port
  cat > server.env <<EOT
export OC_CONFIG_DIR=$PWD/config OC_BASE_DATA_PATH=$PWD/data STORAGE_USERS_DRIVER=posix
export OC_URL=https://localhost:$web PROXY_HTTP_ADDR=127.0.0.1:$web
export IDM_LDAPS_ADDR=127.0.0.1:$idm SEARCH_DEBUG_ADDR=127.0.0.1:$debug
export STANDIN_WRITE=0 STANDIN_VERSION=$1
EOT
  cat > server <<EOT
#!/bin/sh
# Controls the server: start, stop, status (0 running, 3 stopped), exec ARGS, kill.
. '$PWD/server.env'
binary='$tools/bin/standin'
pid=\$(cat '$PWD/server.pid' 2>/dev/null)
running() { [ -n "\$pid" ] && [ "\$(readlink "/proc/\$pid/exe")" = "\$binary" ]; }
case \$1 in
  start)
    running && exit 0
    setsid "\$binary" server </dev/null >>'$PWD/server.log' 2>&1 &
    echo \$! >'$PWD/server.pid' ;;
  stop)
    running && kill -TERM "\$pid"
    while running; do sleep 0.05; done ;;
  kill)
    running && kill -KILL "\$pid"
    while running; do sleep 0.05; done ;;
  status)
    running || exit 3
    echo "process \$pid, \$(cut -d' ' -f22 "/proc/\$pid/stat")" ;;
  exec)
    shift
    exec "\$binary" "\$@" ;;
esac
EOT
  chmod 755 server
  web_addr=127.0.0.1:$web idm_addr=127.0.0.1:$idm
}

# await_server: until the stand-in answers, or has ended.
await_server() {
  local i
  for ((i = 0; i < 200; i++)); do
    if (exec 3<>"/dev/tcp/${web_addr%:*}/${web_addr#*:}") 2>/dev/null; then return; fi
    ./server status >/dev/null || break
    sleep 0.05
  done
  die "the stand-in server does not start: $(tail -n 3 server.log)"
}

# demo TITLE ARCHIVE VERSION
demo() {
  local started=$SECONDS name=$2
  printf '\n%s=== %s ===%s\n' "$bold" "$1" "$plain"
  mkdir "$dir/$name"
  cd "$dir/$name"
  tar --xattrs --xattrs-include='*' --numeric-owner --strip-components=1 -xzpf "$root/integration/testdata/$name.tar.gz"
  make_server "$3"
  ./server start
  await_server

  export OCBACKUP_CONFIG=$PWD/ocbackup.toml OCBACKUP_LOG_FORMAT=console
  INIT
  run ocbackup backup
  treesum config data > before
  run ocbackup list
  run ocbackup verify

  # The disk dies.
  printf '\n%s$ rm -rf config data%s          (and the server with them)\n' "$bold" "$plain"
  ./server kill
  rm -rf config data

  run ocbackup restore --yes

  treesum config data > after
  printf '\n'
  local entries attrs
  entries=$(grep -c '^"[^"]*" [dLDpSc-]' before || true)
  attrs=$(grep -c '^"[^"]*" user\.' before || true)
  if cmp -s before after; then
    pass "$1: $entries files and directories with $attrs extended attributes are the same as before"
  else
    fail "$1: the restored tree differs:"
    diff before after | head -n 20 || true
  fi
  if ./server status >/dev/null; then
    pass "$1: the server runs again, $((SECONDS - started)) s after the demo of it began"
  else
    fail "$1: the server does not run"
  fi
  ./server kill
  cd "$root"
}

demo "OpenCloud 0.1 (February 2025), posix" opencloud-posix 0.1.0-dev
demo "OpenCloud 4.0, posix" opencloud-4.0-posix 4.0.0-rc.3

printf '\n'
if [ "$failed" = 0 ]; then
  pass "the demo, in $SECONDS s"
else
  fail "the demo, in $SECONDS s"
  exit 1
fi
