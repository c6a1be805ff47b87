# shellcheck shell=bash
# What ./devbox up needs before it can start anything: packages and programs. Sourced; uses src, build, work, say and die.

packages=(gcc libc6-dev cmake ninja-build pkg-config git perl ca-certificates curl procps util-linux
    libuv1-dev libwebsockets-dev libwebsockets-evlib-uv libcurl4-openssl-dev libpq-dev libyajl-dev
    liburing-dev libssl-dev zlib1g-dev librdkafka-dev libsodium-dev libpcre2-dev libarchive-dev
    libseccomp-dev postgresql mmdebstrap erofs-utils debian-archive-keyring)

# Any npm will do: it fetches the Node that builds the IDE.
npm_package() { command -v npm >/dev/null || echo npm; }

install_packages() {
    local missing=()
    for p in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) = installed ]] || missing+=("$p")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null || die "these packages are missing, and there is no apt-get: ${missing[*]}"
    say "installing ${missing[*]}"
    # Debian's package would start a system-wide PostgreSQL; DevBox has its own in the state folder.
    if [[ ! -e /etc/postgresql-common/createcluster.conf ]]; then
        install -d /etc/postgresql-common
        echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
    fi
    (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "${missing[@]}") >"$work/apt.log" 2>&1 ||
        { tail -n 15 "$work/apt.log" >&2; die "could not install packages: see $work/apt.log"; }
}

compile() {
    local log=$work/build.log
    [[ -f $build/build.ninja ]] || say "configuring the build"
    { [[ -f $build/build.ninja ]] || cmake -S "$src" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo; } >"$log" 2>&1 &&
        cmake --build "$build" >>"$log" 2>&1 || { tail -n 30 "$log" >&2; die "the build failed: see $log"; }
}

# Runs a command whose lines are shown with its name in front; its last line of stdout goes to a file.
shown() { # NAME OUT COMMAND...
    local name=$1 out=$2; shift 2
    "$@" 2> >(sed -u "s/^/    $name: /" >&2) >"$out"
}
