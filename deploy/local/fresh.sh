#!/usr/bin/env bash
# Shows that the demo runs on a fresh machine: makes a Debian 12 with python3, make and
# ca-certificates in it and nothing else, puts the project there, runs one command, removes it all.
#
#   FRESH_COMMAND="make demo SPEED=10"   what is run in there
#   FRESH_FROM=head | work               the last commit, or the files as they lie here
#   FRESH_KEEP=1                         leave the folder for a look
#   FRESH_COLD=1                         use no packages kept from an earlier run
#
# Needs root, debootstrap, and a host whose apt sources offer the suite. The project lies under
# /root in there, where the servers' users cannot go: that way is tried too.
set -euo pipefail

SELF=$(readlink -f "${BASH_SOURCE[0]}")
cd "$(dirname "$SELF")/../.."
readonly SUITE=bookworm
readonly KEPT="$PWD/build/fresh"
COMMAND=${FRESH_COMMAND:-make demo SPEED=10}
FROM=${FRESH_FROM:-head}

say() { printf 'fresh: %s\n' "$*"; }
stop() { printf 'fresh: %s\n' "$*" >&2; exit 1; }

# The mirror and the settings are the host's own; none is written here.
host_mirror() {
  { cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null || true; } |
    awk -v suite="$SUITE" '
      /^URIs:/ { uri = $2 }
      /^Suites:/ { for (i = 2; i <= NF; i++) if ($i == suite) { print uri; exit } }
      /^deb / { for (i = 2; i < NF; i++) if ($(i + 1) == suite) { print $i; exit } }'
}

copy_in() { # each FILE or folder, if the host has it, to the same path
  local path
  for path in "$@"; do
    [ -e "$path" ] || continue
    mkdir -p "$ROOT${path%/*}"
    cp -a "$path" "$ROOT${path%/*}/"
  done
}

copy_settings() {
  local file
  rm -f "$ROOT/etc/apt/sources.list"
  copy_in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/auth.conf.d /etc/apt/keyrings \
    /etc/apt/trusted.gpg.d /usr/share/keyrings /etc/resolv.conf /etc/hosts \
    /usr/local/share/ca-certificates /etc/pip.conf /root/.config/pip /root/.pip /root/.config/uv \
    /etc/uv /root/.m2/settings.xml
  for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
    if grep -qsiE '^[^/#]*(proxy|verify-peer|cainfo)' "$file"; then copy_in "$file"; fi
  done
  chroot "$ROOT" update-ca-certificates >/dev/null 2>&1
}

mount_all() {
  local node
  mount -t proc proc "$ROOT/proc"
  mount -t tmpfs -o mode=755 dev "$ROOT/dev"
  for node in null zero full random urandom tty; do
    touch "$ROOT/dev/$node"
    mount --bind "/dev/$node" "$ROOT/dev/$node"
  done
  ln -s /proc/self/fd "$ROOT/dev/fd"
  ln -s /proc/self/fd/0 "$ROOT/dev/stdin"
  ln -s /proc/self/fd/1 "$ROOT/dev/stdout"
  ln -s /proc/self/fd/2 "$ROOT/dev/stderr"
  mkdir "$ROOT/dev/shm"
  mount -t tmpfs -o mode=1777 shm "$ROOT/dev/shm"
  if [ -z "${FRESH_COLD:-}" ]; then
    mkdir -p "$KEPT/apt/partial" "$KEPT/cache" "$KEPT/m2" "$ROOT/root/.cache" "$ROOT/root/.m2/repository"
    mount --bind "$KEPT/apt" "$ROOT/var/cache/apt/archives"
    mount --bind "$KEPT/cache" "$ROOT/root/.cache"
    mount --bind "$KEPT/m2" "$ROOT/root/.m2/repository"
    echo 'APT::Keep-Downloaded-Packages "true";' >"$ROOT/etc/apt/apt.conf.d/90keep"
  fi
}

copy_project() {
  mkdir -p "$ROOT/root/sizao"
  if [ "$FROM" = work ]; then
    git ls-files -z --cached --others --exclude-standard | xargs -0 ls -d 2>/dev/null |
      tar -c -T - | tar -x -C "$ROOT/root/sizao"
  else
    git archive HEAD | tar -x -C "$ROOT/root/sizao"
  fi
}

# The client settings that live in the environment.
settings_of_host() {
  env -0 | grep -zE '^(PIP_[A-Z_]*|UV_[A-Z_]*|MAVEN_[A-Z_]*|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|(http|https|no|all)_proxy|(HTTP|HTTPS|NO|ALL)_PROXY)=' || true
}

in_there() { # runs a command line in the new machine
  local settings=()
  mapfile -d '' -t settings < <(settings_of_host)
  chroot "$ROOT" /usr/bin/env -i HOME=/root USER=root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    ${settings[@]+"${settings[@]}"} /bin/bash -c "cd /root/sizao && $1"
}

# A setup that behaves leaves none of these.
look_for_leftovers() {
  local left=() name
  [ ! -e "$ROOT/usr/sbin/policy-rc.d" ] || left+=("policy-rc.d")
  compgen -G "$ROOT/var/lib/postgresql/*/main" >/dev/null && left+=("a PostgreSQL cluster")
  compgen -G "$ROOT/etc/rc[2345].d/S*mosquitto" >/dev/null && left+=("the service mosquitto enabled")
  compgen -G "$ROOT/etc/rc[2345].d/S*postgresql" >/dev/null && left+=("the service postgresql enabled")
  if grep -qs sizao "$ROOT/etc/postgresql-common/createcluster.conf"; then left+=("createcluster.conf"); fi
  for name in mosquitto postgres java; do
    if pgrep -x "$name" >/dev/null; then left+=("a running $name"); fi
  done
  [ ${#left[@]} = 0 ] || { printf 'fresh: left behind: %s\n' "${left[@]}" >&2; return 1; }
}

inside() { # in namespaces of our own: all mounts and processes vanish with us
  local began code=0 mirror cache=()
  ROOT=$1
  mirror=${FRESH_MIRROR:-$(host_mirror)}
  [ -n "$mirror" ] || stop "the apt sources here do not offer $SUITE; set FRESH_MIRROR"
  mount -t proc proc /proc
  mkdir -p "$KEPT/debs"
  [ -n "${FRESH_COLD:-}" ] || cache=(--cache-dir="$KEPT/debs")
  say "making a Debian ($SUITE) in $ROOT ..."
  began=$SECONDS
  debootstrap --variant=minbase --include=python3,make,ca-certificates \
    ${cache[@]+"${cache[@]}"} "$SUITE" "$ROOT" "$mirror" \
    >"$KEPT/debootstrap.log" 2>&1 || stop "debootstrap failed; see $KEPT/debootstrap.log"
  chmod 755 "$ROOT" # the servers' users walk through it
  copy_settings
  mount_all
  copy_project
  say "made in $((SECONDS - began)) s; running: $COMMAND"
  began=$SECONDS
  in_there "$COMMAND" || code=$?
  say "'$COMMAND' ended with $code after $((SECONDS - began)) s"
  in_there "make down" >/dev/null 2>&1 || true
  look_for_leftovers || code=1
  return "$code"
}

if [ "${1:-}" = --inside ]; then
  inside "$2"
  exit
fi

[ "$(id -u)" = 0 ] || stop "needs root (it makes a file system and mounts)"
command -v debootstrap >/dev/null || stop "needs debootstrap: install it (apt-get install debootstrap)"
mkdir -p "$KEPT"
ROOT=$(mktemp -d /var/tmp/sizao-fresh.XXXXXX)
clean_up() {
  if [ -n "${FRESH_KEEP:-}" ]; then say "left in $ROOT"; else rm -rf --one-file-system "$ROOT"; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM
unshare --mount --propagation private --pid --fork --kill-child "$SELF" --inside "$ROOT"
say "passed"
