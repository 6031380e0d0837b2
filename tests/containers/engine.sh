#!/bin/sh
# Makes a Debian machine ready for the container tests, as root: Docker with Compose v2 and buildx, an engine that runs,
# sshd and MariaDB's programs for the protocol tests, a registry. Does nothing where all of it is there and answers.
#
#   sh tests/containers/engine.sh         make ready; each step is one line with its seconds
#   sh tests/containers/engine.sh stop    stop the engine, if this script started it
#
# Ends with 3 where it may not or cannot do that; the tests that need it are then skipped, or fail with CI=true.
set -eu

# Compose v2 and buildx are in no older release of Debian than this one, and run on older ones as they are.
plugins_suite=trixie
plugins="docker-compose docker-buildx"
plugins_folder=/usr/local/lib/docker/cli-plugins
started=/run/fedparty-test-engine.pid
log=/var/log/fedparty-test-engine.log
wait_s=60

packages_of() { # PROGRAM: the package that brings it
    case $1 in
    dockerd) echo docker.io ;;
    iptables | debootstrap | docker-registry) echo "$1" ;;
    ssh) echo openssh-client ;;
    sshd) echo openssh-server ;;
    mariadbd) echo mariadb-server ;;
    ip) echo iproute2 ;;
    esac
}

PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export PATH DEBIAN_FRONTEND=noninteractive

has() { command -v "$1" >/dev/null 2>&1; }

has_engine() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

has_plugins() { timeout 20 docker compose version >/dev/null 2>&1 && timeout 20 docker buildx version >/dev/null 2>&1; }

missing_packages() {
    for program in ssh sshd mariadbd ip debootstrap docker-registry; do
        has "$program" || packages_of "$program"
    done
    if ! has_engine; then
        for program in dockerd iptables; do
            has "$program" || packages_of "$program"
        done
    fi
}

# What a command says is shown only where it fails, by `clean_up`; the command must not stand in a condition, where a failure
# inside of it would be passed over.
step() { # NAME COMMAND...
    name=$1
    shift
    began=$(date +%s)
    "$@" >"$said" 2>&1
    echo "engine: $name: $(($(date +%s) - began)) s"
    name=
}

clean_up() {
    if [ -n "$name" ]; then
        cat "$said" >&2
        echo "engine: $name: failed" >&2
    fi
    rm -rf "$work"
    [ -z "$policy" ] || rm -f "$policy"
}

# Installs packages and starts no service: there may be no init system, and the tests start what they need.
install_packages() {
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 0755 "$policy"
    fi
    apt-get -qq update
    # shellcheck disable=SC2086  # several words
    apt-get -qq install --yes --no-install-recommends $1
}

# The machine's own mirror of Debian: from deb822 files, else from lines "deb [options] URI suite ...".
mirror() {
    {
        sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/*.sources || :
        sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\).*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list || :
    } 2>/dev/null | grep '/debian/*$' | head -n 1
}

install_plugins() {
    from=$(mirror)
    [ -n "$from" ] || { echo "no mirror of Debian among apt's sources"; return 1; }
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/files" "$plugins_folder"
    chmod 0755 "$work"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $from $plugins_suite main" >"$work/sources.list"
    : >"$work/status"
    set -- -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o "Dir::State=$work/state" \
        -o "Dir::State::status=$work/status" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root
    apt-get "$@" update
    # shellcheck disable=SC2086  # several words
    (cd "$work" && apt-get "$@" download $plugins)
    for package in "$work"/*.deb; do dpkg -x "$package" "$work/files"; done
    cp "$work"/files/usr/libexec/docker/cli-plugins/* "$plugins_folder/"
}

# What a killed engine leaves would stop the next one: its pid file, its socket, its containerd.
clear_leftovers() {
    for file in /var/run/docker/containerd/containerd.pid /var/run/docker.pid; do
        stop_engine_process "$file"
    done
    rm -f /var/run/docker.sock /var/run/docker/containerd/*.sock /var/run/docker/containerd/*.sock.ttrpc
}

stop_engine_process() { # FILE with its process id, which may be another program's by now: return when it is gone
    pid=$(cat "$1" 2>/dev/null) || return 0
    rm -f "$1"
    case $(cat "/proc/$pid/comm" 2>/dev/null) in
    containerd | dockerd) ;;
    *) return 0 ;;
    esac
    kill "$pid" 2>/dev/null || return 0
    timeout 20 tail --pid="$pid" -f /dev/null || kill -9 "$pid"
}

start_engine() {
    clear_leftovers
    setsid dockerd --pidfile /var/run/docker.pid >"$log" 2>&1 </dev/null &
    echo $! >"$started"
    tries=$((wait_s * 5))
    until has_engine; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ] || ! kill -0 "$(cat "$started")" 2>/dev/null; then
            tail -n 20 "$log"
            rm -f "$started"
            return 1
        fi
        sleep 0.2
    done
}

if [ "${1:-}" = stop ]; then
    stop_engine_process "$started"
    exit
fi
packages=$(missing_packages)
if [ -z "$packages" ] && has_engine && has_plugins; then
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "engine: not root, so nothing is installed or started here" >&2
    exit 3
fi
if ! has apt-get || ! has dpkg; then
    echo "engine: this is no Debian; install Docker with Compose v2, sshd and mariadbd by hand" >&2
    exit 3
fi
work=$(mktemp -d)
said=$work/said
name=
policy=
trap clean_up EXIT
[ -z "$packages" ] || step "packages $(echo $packages)" install_packages "$packages"
has docker || { echo "engine: there is dockerd and no docker: install Docker's client" >&2; exit 3; }
has_plugins || step "Compose v2 and buildx" install_plugins
has_engine || step "dockerd" start_engine
