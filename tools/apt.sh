# shellcheck shell=bash
# Sourced by the other tools: packages of another Debian release, unpacked into
# the project's own .tools/ without touching the machine's package choices.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
tools=${OCBACKUP_TOOLS:-$root/.tools}

die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
say() { printf '%s\n' "$*" >&2; }

# apt_sources SUITE: the machine's own Debian sources with only the suite changed.
apt_sources() {
  local list=/etc/apt/sources.list deb822=/etc/apt/sources.list.d/debian.sources
  if [ -s "$deb822" ]; then
    # The first stanza that is neither security nor disabled.
    awk -v RS= -v suite="$1" '
      /(^|\n)Types:[^\n]*deb/ && !/-security/ && !/(^|\n)Enabled: *no/ {
        n = split($0, line, "\n")
        for (i = 1; i <= n; i++) {
          if (line[i] ~ /^#/) continue
          if (line[i] ~ /^Types:/) line[i] = "Types: deb"
          if (line[i] ~ /^Suites:/) line[i] = "Suites: " suite
          if (line[i] ~ /^Components:/) line[i] = "Components: main"
          print line[i]
        }
        exit
      }' "$deb822"
  elif [ -s "$list" ]; then
    awk -v suite="$1" '
      $1 == "deb" && !/-security/ && !/cdrom:/ {
        i = 2; opts = ""
        if ($2 ~ /^\[/) { do opts = opts $(i) " "; while ($(i++) !~ /\]$/ && i <= NF) }
        signed = opts; if (!sub(/.*signed-by=/, "", signed)) signed = ""; sub(/[] ].*/, "", signed)
        print "Types: deb\nURIs: " $i "\nSuites: " suite "\nComponents: main"
        if (signed != "") print "Signed-By: " signed
        exit
      }' "$list"
  fi
}

# mirror: the address of the machine's Debian mirror.
mirror() { apt_sources any | sed -n 's/^URIs: *\([^ ]*\).*/\1/p'; }

# fetch_deb SUITE PACKAGE DIR: unpacks the package of that release into DIR.
fetch_deb() {
  local suite=$1 package=$2 dir=$3 state=$tools/apt/$1 deb
  command -v apt-get >/dev/null || die "no apt-get here: install $package by hand (README, \"Other systems\")"
  mkdir -p "$state"/{lists/partial,cache/archives/partial,deb,parts}
  apt_sources "$suite" > "$state/suite.sources"
  [ -s "$state/suite.sources" ] || die "found no Debian source to derive $suite from in /etc/apt; install $package by hand"
  local opts=(
    -qq
    -o Dir::Etc::sourcelist="$state/suite.sources"
    -o Dir::Etc::sourceparts="$state/parts"
    -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o Dir::State::lists="$state/lists"
    -o Dir::Cache="$state/cache"
    -o Acquire::Languages=none
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false
    -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false
    -o Acquire::Retries=2
    -o APT::Sandbox::User="$(id -un)"
  )
  if [ -z "$(find "$state/lists" -maxdepth 1 -name '*Packages*' -mmin -720 2>/dev/null)" ]; then
    say "reading the package list of Debian $suite"
    apt-get "${opts[@]}" -o APT::Update::Error-Mode=any update >"$state/log" 2>&1 ||
      die "the package list of Debian $suite cannot be read (offline?): $(tail -n 3 "$state/log")"
    find "$state/lists" -maxdepth 1 -name '*Packages*' -exec touch {} +
  fi
  rm -f "$state"/deb/"$package"_*
  (cd "$state/deb" && apt-get "${opts[@]}" download "$package") >"$state/log" 2>&1 ||
    die "$package of Debian $suite cannot be downloaded (offline?): $(tail -n 3 "$state/log")"
  deb=$(ls "$state"/deb/"$package"_*.deb)
  mkdir -p "$dir"
  dpkg -x "$deb" "$dir" || die "$deb cannot be unpacked"
  rm -f "$deb"
}

# install_debs PACKAGE...: from the machine's own release, the ordinary way.
install_debs() {
  [ "$(id -u)" = 0 ] || die "needs root to install: apt-get install $*"
  local log=$tools/apt-install.log
  mkdir -p "$tools"
  say "installing $*"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -qq --no-install-recommends "$@" >"$log" 2>&1 || {
    apt-get update -qq >"$log" 2>&1
    apt-get install -y -qq --no-install-recommends "$@" >>"$log" 2>&1
  } || die "apt-get install $* failed: $(tail -n 3 "$log")"
}
