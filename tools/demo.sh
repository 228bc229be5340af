#!/usr/bin/env bash
# Usage: tools/demo.sh
# The main job on real input, in a temporary directory: trees recorded from real
# OpenCloud servers are put under a stand-in server, backed up, listed, verified,
# searched for a file, wiped, restored, and compared with what they were. Ends with 0 only if all of it
# is equal. Nothing outside the temporary directory and .tools/ is touched.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=apt.sh
. "$(dirname "$0")/apt.sh"

[ "$(id -u)" = 0 ] || die "needs root: owners can't be restored otherwise (sudo make demo)"
for c in tar go make; do
  command -v "$c" >/dev/null || die "$c is missing"
done

# What it needs. All of it is quick once it is there.
"$root/tools/restic.sh" 0.18
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
  local code=$? env
  trap '' INT TERM HUP
  for env in "$dir"/*/server.env; do
    if [ -f "$env" ]; then "$root/tools/standin-ctl.sh" "$(dirname "$env")" kill; fi
  done
  rm -rf "$dir"
  exit "$code"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# run COMMAND...: shows the command, and runs it.
run() {
  local word line=
  for word; do
    case $word in *" "*) word="\"$word\"" ;; esac
    line+=" $word"
  done
  printf '\n%s$%s%s\n' "$bold" "$line" "$plain"
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

# make_server VERSION: a stand-in on config/ and data/ of the present directory.
make_server() {
  local debug port
  free_port; web_addr=127.0.0.1:$port
  free_port; idm_addr=127.0.0.1:$port
  free_port; debug=127.0.0.1:$port
  # Where it listens; "ocbackup init" finds it there.
  printf 'http:\n  addr: %s\n' "$web_addr" > config/proxy.yaml
  printf 'idm:\n  ldaps_addr: %s\n' "$idm_addr" > config/idm.yaml
  cat > server.env <<EOT
STANDIN='$tools/bin/standin'
export OC_CONFIG_DIR='$PWD/config' OC_BASE_DATA_PATH='$PWD/data' STORAGE_USERS_DRIVER=posix
export OC_URL=https://localhost:${web_addr#*:} PROXY_HTTP_ADDR=$web_addr
export IDM_LDAPS_ADDR=$idm_addr SEARCH_DEBUG_ADDR=$debug
export STANDIN_WRITE=0 STANDIN_VERSION=$1
# What is compared: the trees as the backup found them, and as the restore left them.
after_stop() { (cd '$PWD' && treesum config data > at-stop); }
before_start() { (cd '$PWD' && treesum config data > at-start); }
EOT
  # The admin of this server stops and starts it by a command.
  printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$root/tools/standin-ctl.sh" "$PWD" > server
  chmod 755 server
}

# await_server: until the stand-in answers, or has ended.
await_server() {
  local i
  for ((i = 0; i < 1200; i++)); do
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

  export OCBACKUP_CONFIG=$PWD/ocbackup.toml OCBACKUP_LOG_FORMAT=console OCBACKUP_STATE_DIR=$PWD/state
  run ocbackup init --config-dir config --data-dir data --name demo --repository repository --password-file password \
    --start "$PWD/server start" --stop "$PWD/server stop" --status "$PWD/server status" --exec "$PWD/server exec"
  run ocbackup backup
  run ocbackup list
  run ocbackup verify
  run ocbackup spaces
  run ocbackup find versioned-fx --versions
  run ocbackup get Admin:/versioned-fx.txt --version 2 --to got
  # What was put in first, by the record of it.
  if grep -q "^VERS.*	2	$(sha256sum < got/versioned-fx.txt | cut -d ' ' -f 1)$" expected.tsv; then
    pass "$1: the oldest version of a file came back by its name"
  else
    fail "$1: the oldest version of the file came back as $(cat got/versioned-fx.txt)"
  fi

  # The disk dies.
  printf '\n%s$ rm -rf config data%s          (and the server with them)\n' "$bold" "$plain"
  ./server kill
  rm -rf config data

  run ocbackup restore --yes

  printf '\n'
  local entries attrs
  attrs=$(grep -cE '^"[^"]*" (user|trusted|security|system)\.' at-stop || true)
  entries=$(($(wc -l < at-stop) - attrs))
  if cmp -s at-stop at-start; then
    pass "$1: $entries files and directories with $attrs extended attributes are as they were when the backup was made"
  else
    fail "$1: the restored tree differs:"
    diff at-stop at-start | head -n 20 || true
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
