#!/usr/bin/env bash
# Puts on this machine what Sizao needs and is not there yet:  setup.sh run|test|dev
# (setup.sh lock, after run: makes requirements/*.txt anew from pyproject.toml)
#
# Order: look, say what will be installed, install, remember. Nothing is touched that is there already.
# No service of the system starts or stays: Sizao runs servers of its own, privately (servers.py).
# Each step is remembered under a hash of what it was made from (build/setup/*.stamp), so that a
# second run only compares hashes.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly STATE=build/setup LOG=build/setup/setup.log
readonly KAFKA_USER=sizao-kafka JAVA_MIN=17 POSTGRES_MIN=15
readonly POLICY=/usr/sbin/policy-rc.d POLICY_KEPT=/usr/sbin/policy-rc.d.sizao-kept
readonly NO_CLUSTER=/etc/postgresql-common/createcluster.d/sizao-setup.conf
readonly CLUSTER_CONF=/etc/postgresql-common/createcluster.conf
readonly TO_DISABLE=$STATE/to-disable
readonly NEEDED_SYSTEM="Debian 12, Ubuntu 24.04 or newer"
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
# The machine's own certificates, not uv's: pip and maven trust those too.
export UV_SYSTEM_CERTS=true UV_PYTHON_DOWNLOADS=never UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}"
unset VIRTUAL_ENV

say() { printf 'setup: %s\n' "$*"; }
stop() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# step WORDS COMMAND...: runs the command into the log; a failure names the step and the log.
step() {
  local words=$1 began=$SECONDS code
  shift
  printf 'setup: %s ... ' "$words"
  printf '\n--- %s\n' "$words" >>"$LOG"
  # Not `if ! "$@"`: inside a condition the shell goes on after a command that failed.
  set +e
  (set -e; "$@") >>"$LOG" 2>&1 </dev/null
  code=$?
  set -e
  if [ "$code" != 0 ]; then
    printf 'FAILED\n'
    tail -n 12 "$LOG" | sed 's/^/  | /' >&2
    stop "step '$words' failed; the whole story is in $PWD/$LOG"
  fi
  printf '%d s\n' $((SECONDS - began))
}

# --- what is here -----------------------------------------------------------------------------

find_python() {
  local name
  for name in python3 python3.14 python3.13 python3.12 python3.11; do
    "$name" -c 'import sys; v = sys.version_info; v >= (3, 11) and print(sys.executable)' \
      2>/dev/null | grep . && return
  done
  return 1
}

java_major() { # of $1; 1.8.0 counts as 1, which is too old as well
  # Not on line 1 where JAVA_TOOL_OPTIONS is set: Java tells that first.
  "$1" -version 2>&1 | sed -n 's/^.* version "\([0-9]*\).*/\1/p'
}

has_java() {
  local java major
  for java in "$(command -v java)" /usr/lib/jvm/*/bin/java; do
    [ -x "$java" ] || continue
    major=$(java_major "$java")
    [ "${major:-0}" -ge "$JAVA_MIN" ] && return
  done
  return 1
}

has_postgres() {
  local initdb major
  for initdb in /usr/lib/postgresql/*/bin/initdb "$(command -v initdb)"; do
    [ -x "$initdb" ] || continue
    major=$("$initdb" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
    [ "${major:-0}" -ge "$POSTGRES_MIN" ] && return
  done
  return 1
}

has() { command -v "$1" >/dev/null; }

venv_package() {
  case "$PYTHON" in
    */python3) echo python3-venv ;;
    *) echo "${PYTHON##*/}-venv" ;; # python3.12 where python3 is too old
  esac
}
has_venv() { "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null; }

java_package() { # default-jre-headless is Java 11 on these
  case "$SYSTEM" in
    debian11 | ubuntu20.04 | ubuntu22.04) echo openjdk-17-jre-headless ;;
    *) echo default-jre-headless ;;
  esac
}

# --- stamps -----------------------------------------------------------------------------------

# key WORDS FILE...: a hash of the words and of the files' content.
key() {
  local words=$1
  shift
  { printf '%s\n' "$words"; cat "$@"; } | sha256sum | cut -c1-40
}
stamped() { [ "$(cat "$STATE/$1.stamp" 2>/dev/null)" = "$2" ]; }
stamp() { printf '%s\n' "$2" >"$STATE/$1.stamp"; }

# --- packages of the system ---------------------------------------------------------------------

AS_ROOT=()
find_rights() { # sets AS_ROOT to what makes a command run as root
  [ "$(id -u)" = 0 ] && return
  has sudo && sudo -n true 2>/dev/null && { AS_ROOT=(sudo -n); return; }
  has sudo && [ -t 0 ] && sudo -v && { AS_ROOT=(sudo); return; }
  return 1
}
as_root() { "${AS_ROOT[@]+"${AS_ROOT[@]}"}" "$@"; }

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Acquire::Retries=3 \
    -o DPkg::Lock::Timeout=300 "$@"
}

update_lists() { # a third-party source that cannot be reached must not stop us
  apt update || echo "some lists are missing; the installation itself decides"
}

offers_postgres() { # said before anything is installed
  local candidate major
  candidate=$(LC_ALL=C apt-cache policy postgresql | sed -n 's/^ *Candidate: //p')
  major=${candidate%%[!0-9]*}
  [ "${major:-0}" -ge "$POSTGRES_MIN" ] ||
    stop "apt offers PostgreSQL ${candidate:-(none)} here, needed is $POSTGRES_MIN or newer: $NEEDED_SYSTEM"
}

# While we install, invoke-rc.d is told that nothing may start. A policy that was there before is
# set aside and comes back.
forbid_services() {
  lift_forbiddance
  [ -e "$POLICY" ] && as_root mv "$POLICY" "$POLICY_KEPT"
  printf '#!/bin/sh\n# sizao-setup %s: no service starts while packages are installed\nexit 101\n' $$ |
    as_root tee "$POLICY" >/dev/null
  as_root chmod 755 "$POLICY"
}
lift_forbiddance() {
  if grep -qs sizao-setup "$POLICY"; then as_root rm -f "$POLICY"; fi
  if [ -e "$POLICY_KEPT" ]; then as_root mv -f "$POLICY_KEPT" "$POLICY"; fi
  if [ -e "$NO_CLUSTER" ]; then
    as_root rm -f "$NO_CLUSTER"
    as_root rmdir --ignore-fail-on-non-empty "${NO_CLUSTER%/*}"
  fi
  if grep -qs sizao-setup "$CLUSTER_CONF"; then as_root sed -i '/sizao-setup/d' "$CLUSTER_CONF"; fi
}

# Debian's postgresql makes and starts a cluster "main" on installation: not for us.
forbid_cluster() {
  if grep -qs '^include_dir' "$CLUSTER_CONF"; then
    as_root mkdir -p "${NO_CLUSTER%/*}"
    echo 'create_main_cluster = false' | as_root tee "$NO_CLUSTER" >/dev/null
  else
    echo 'create_main_cluster = false # sizao-setup' | as_root tee -a "$CLUSTER_CONF" >/dev/null
  fi
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# What comes with a service, as "PACKAGE SERVICE" a line. A service whose package was there before
# is the user's, who may need it: postgresql-common also serves an older PostgreSQL.
services_of() {
  local package
  for package in "$@"; do
    case "$package" in
      mosquitto) installed mosquitto || echo mosquitto mosquitto ;;
      postgresql) installed postgresql-common || echo postgresql-common postgresql ;;
    esac
  done
}

disable_services() { # of what we have installed; an interrupted run has not installed everything
  local package service
  while read -r package service; do
    installed "$package" || continue
    if has systemctl; then
      as_root systemctl disable "$service" </dev/null
    else
      as_root update-rc.d "$service" disable </dev/null
    fi
  done <"$TO_DISABLE"
  rm "$TO_DISABLE"
}

begin_installing() {
  trap lift_forbiddance EXIT
  trap 'exit 130' INT TERM HUP
  forbid_services
}

end_installing() {
  if [ -s "$TO_DISABLE" ]; then step "disabling the services of the system" disable_services; fi
  rm -f "$TO_DISABLE"
  lift_forbiddance
  trap - EXIT INT TERM HUP
}

install_packages() {
  step "asking for the lists of packages" update_lists
  case " $* " in *" postgresql "*) offers_postgres ;; esac
  services_of "$@" >"$TO_DISABLE" # before apt, so that a run that is killed in it is worked off
  begin_installing
  case " $* " in
    *" postgresql "*)
      step "postgresql-common" apt install --no-install-recommends postgresql-common
      step "no cluster of the system" forbid_cluster
      ;;
  esac
  step "installing $*" apt install --no-install-recommends "$@"
  end_installing
}

# What a run that was killed while it installed has left: our policy, packages half configured,
# services enabled. Nobody else would notice: the programs are there, so nothing seems missing.
interrupted() {
  at_work && return 1
  [ -e "$TO_DISABLE" ] || [ -e "$POLICY_KEPT" ] || [ -e "$NO_CLUSTER" ] ||
    grep -qs sizao-setup "$POLICY" "$CLUSTER_CONF"
}

at_work() { # the setup of another folder, which has put its policy there
  local pid
  pid=$(sed -n 's/^# sizao-setup \([0-9]*\):.*/\1/p' "$POLICY" 2>/dev/null) || return 1
  [ -n "$pid" ] && grep -qs setup.sh "/proc/$pid/cmdline"
}

put_right() {
  find_rights || stop "an installation was interrupted: run $0 once as root or with sudo"
  say "an installation was interrupted; putting that right"
  begin_installing
  if [ -e "$TO_DISABLE" ]; then
    if [ -e "$CLUSTER_CONF" ]; then step "no cluster of the system" forbid_cluster; fi
    step "finishing what is half installed" as_root dpkg --configure -a
  fi
  end_installing
}

# --- the parts of our own -----------------------------------------------------------------------

make_uv() {
  rm -rf build/uv
  "$PYTHON" -m venv build/uv
  build/uv/bin/python -m pip install -q --disable-pip-version-check --require-hashes \
    --only-binary :all: -r deploy/local/uv.txt
}

# uv does not read pip's settings: a machine that has its registry there would be lost.
borrow_pip_settings() {
  local index cert
  index=$(build/uv/bin/python -m pip config get global.index-url 2>/dev/null || true)
  cert=$(build/uv/bin/python -m pip config get global.cert 2>/dev/null || true)
  index=${PIP_INDEX_URL:-$index} cert=${PIP_CERT:-$cert}
  if [ -n "$index" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"; fi
  if [ -n "$cert" ]; then export SSL_CERT_FILE="${SSL_CERT_FILE:-$cert}"; fi
}

make_venv() {
  local uv=build/uv/bin/uv
  borrow_pip_settings
  if ! stamped python "$PYTHON_KEY"; then
    "$uv" venv --quiet --clear --python "$PYTHON" .venv
    stamp python "$PYTHON_KEY"
  fi
  export VIRTUAL_ENV="$PWD/.venv"
  "$uv" pip sync --require-hashes --compile-bytecode "requirements/$LEVEL.txt"
  # The build back end comes from the same lock, so nothing unpinned is fetched to build ourselves.
  "$uv" pip install --no-deps --build-constraints requirements/dev.txt -e .
}

compile_lock() { # uv's settings for a lock that names no registry: pinned, with hashes
  build/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --upgrade --no-header --no-annotate --no-emit-index-url --no-emit-find-links "$@"
}

make_lock() {
  borrow_pip_settings
  compile_lock pyproject.toml -o requirements/run.txt
  compile_lock pyproject.toml --group test -o requirements/test.txt
  compile_lock pyproject.toml --group dev -o requirements/dev.txt
  echo uv | compile_lock - -o deploy/local/uv.txt
}

copy_jars() {
  rm -rf build/kafka/libs.new
  mvn -B -q -f deploy/kafka/pom.xml dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$PWD/build/kafka/libs.new"
  rm -rf build/kafka/libs
  mv build/kafka/libs.new build/kafka/libs
}

add_kafka_user() {
  as_root useradd --system --user-group --no-create-home --home-dir /nonexistent \
    --shell /usr/sbin/nologin "$KAFKA_USER"
}

# --- main -----------------------------------------------------------------------------------------

if [ "${1:-}" = lock ]; then
  deploy/local/setup.sh run
  make_lock
  exit
fi
LEVEL=${1:-run}
case "$LEVEL" in
  run | test | dev) ;;
  *) stop "unknown mode '$LEVEL': run, test, dev or lock" ;;
esac
mkdir -p "$STATE" build/kafka
# Two at once would tread on each other; the second waits (flock is in util-linux, always there).
exec 9>"$STATE/lock"
flock -w 900 9 || stop "another setup has held $PWD/$STATE/lock for 15 minutes; end it first"

# shellcheck source=/dev/null
SYSTEM=$( (. /etc/os-release && echo "$ID$VERSION_ID") 2>/dev/null || echo unknown)
# shellcheck source=/dev/null
FAMILY=$( (. /etc/os-release && echo "$ID ${ID_LIKE:-}") 2>/dev/null || echo unknown)
PYTHON=$(find_python) || stop "needs Python 3.11 or newer, as in $NEEDED_SYSTEM: install python3 (>= 3.11) and python3-venv"
PYTHON_KEY=$(key "$PYTHON $("$PYTHON" -V)" /dev/null)
UV_KEY=$(key "$PYTHON_KEY" deploy/local/uv.txt)
KAFKA_KEY=$(key kafka deploy/kafka/pom.xml)
# A virtual environment made for more (dev holds test holds run) also serves for less.
rank() { case "$1" in dev) echo 3 ;; test) echo 2 ;; run) echo 1 ;; *) echo 0 ;; esac; }
DONE_LEVEL=$(cat "$STATE/level" 2>/dev/null || echo none)
if [ "$(rank "$DONE_LEVEL")" -gt "$(rank "$LEVEL")" ]; then LEVEL=$DONE_LEVEL; fi
VENV_KEY=$(key "$PYTHON_KEY $UV_KEY $LEVEL" pyproject.toml requirements/*.txt)

packages=() parts=() user=no
has_venv || packages+=("$(venv_package)")
has mosquitto || packages+=(mosquitto)
has_postgres || packages+=(postgresql)
has_java || packages+=("$(java_package)")
stamped uv "$UV_KEY" && [ -x build/uv/bin/uv ] || parts+=("uv from PyPI into build/uv")
stamped venv "$VENV_KEY" && [ -x .venv/bin/python ] || parts+=("requirements/$LEVEL.txt into .venv")
if ! stamped kafka "$KAFKA_KEY" || [ ! -d build/kafka/libs ]; then
  parts+=("Kafka's jars into build/kafka/libs")
  has mvn || packages+=(maven)
fi
if [ "$(id -u)" = 0 ] && ! getent passwd "$KAFKA_USER" >/dev/null; then user=yes; fi

if interrupted; then put_right; fi
if [ ${#packages[@]} = 0 ] && [ ${#parts[@]} = 0 ] && [ "$user" = no ]; then exit 0; fi

by_hand="install by hand: ${packages[*]-}"
if [ ${#packages[@]} -gt 0 ]; then
  case " $FAMILY " in
    *" debian "* | *" ubuntu "*) has apt-get || stop "no apt-get here; $by_hand" ;;
    *) stop "this is neither Debian nor Ubuntu; $by_hand" ;;
  esac
  find_rights || stop "neither root nor sudo here; $by_hand"
  say "will install, by apt-get: ${packages[*]}"
fi
for part in ${parts[@]+"${parts[@]}"}; do say "will put $part"; done
[ "$user" = no ] || say "will add the system user $KAFKA_USER (as root, Kafka runs as that)"
: >"$LOG"

if [ ${#packages[@]} -gt 0 ]; then install_packages "${packages[@]}"; fi
has_venv || stop "$PYTHON has no venv; install $(venv_package)"
has mosquitto || stop "mosquitto is still not found; $by_hand"
has_java || stop "needs Java $JAVA_MIN or newer: install openjdk-$JAVA_MIN-jre-headless"
has_postgres || stop "needs PostgreSQL $POSTGRES_MIN or newer: install postgresql-$POSTGRES_MIN"
[ "$user" = no ] || step "adding the user $KAFKA_USER" add_kafka_user

if ! stamped uv "$UV_KEY" || [ ! -x build/uv/bin/uv ]; then
  step "uv" make_uv
  stamp uv "$UV_KEY"
fi
if ! stamped kafka "$KAFKA_KEY" || [ ! -d build/kafka/libs ]; then
  step "Kafka's jars" copy_jars
  stamp kafka "$KAFKA_KEY"
fi
if ! stamped venv "$VENV_KEY" || [ ! -x .venv/bin/python ]; then
  [ -x .venv/bin/python ] || rm -f "$STATE/python.stamp"
  rm -f "$STATE/venv.stamp" "$STATE/level"
  step "Python packages ($LEVEL)" make_venv
  stamp venv "$VENV_KEY"
  echo "$LEVEL" >"$STATE/level"
fi
say "ready"
