#!/bin/sh
# Usage: tools/standin-ctl.sh DIR start|stop|kill|status|exec ARGS...
# Controls a stand-in server, or a real one ($OPENCLOUD_BIN), as the admin of a server
# without systemd and Docker would ([control] type "command"). DIR/server.env holds its environment, with the
# program in STANDIN. It may also define the functions before_start and after_stop,
# to have something done while the server is stopped. status: 0 running, 3 stopped.
dir=$1 action=$2
shift 2
pid=$(cat "$dir/server.pid" 2>/dev/null)

before_start() { :; }
after_stop() { :; }
. "$dir/server.env" || exit 1

# A process that has ended and waits for its parent has no exe any more.
running() { [ -n "$pid" ] && [ "$(readlink "/proc/$pid/exe")" = "$(readlink -f "$STANDIN")" ]; }

case $action in
  start)
    if ! running; then
      before_start || exit 1
      setsid "$STANDIN" server </dev/null >>"$dir/server.log" 2>&1 &
      pid=$!
      echo "$pid" >"$dir/server.pid"
      # Until it is the server, it is this shell, or setsid.
      while exe=$(readlink "/proc/$pid/exe") && [ "$exe" != "$(readlink -f "$STANDIN")" ]; do sleep 0.01; done
    fi ;;
  stop)
    if running; then
      kill -TERM "$pid"
      while running; do sleep 0.05; done
      after_stop || exit 1
    fi ;;
  kill)
    if running; then kill -KILL "$pid"; fi
    while running; do sleep 0.05; done
    # A real server is a child of the process, and is killed with it.
    if [ -n "$OPENCLOUD_BIN" ] && [ -n "$pid" ]; then
      while pgrep -g "$pid" -r R,S,D >/dev/null; do sleep 0.05; done
    fi ;;
  status)
    running || exit 3
    echo "process $pid, started at $(cut -d' ' -f22 "/proc/$pid/stat")" ;;
  exec)
    exec "$STANDIN" "$@" ;;
  *)
    echo "unknown action $action" >&2
    exit 2 ;;
esac
