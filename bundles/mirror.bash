# SPDX-License-Identifier: Apache-2.0
# Sourced by get-runsc and build-images: where this machine gets its Debian packages from. No host is named here; the
# machine's own apt sources are asked (DEVBOX_DEBIAN_MIRROR overrules them), and apt fetches, so that its proxies and
# credentials hold for us too.

DEVBOX_SUITE=trixie

# URIs of the machine's apt sources, in order, each once.
apt_uris() {
    local files=() f
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
        [[ -r $f ]] && files+=("$f")
    done
    ((${#files[@]})) || return 0
    awk 'function out(u) { sub(/\/+$/, "", u); if (u != "" && !seen[u]++) print u }
         FILENAME ~ /\.sources$/ {
             if (tolower($1) == "uris:") { in_uris = 1; $1 = "" } else if ($0 !~ /^[ \t]/) in_uris = 0
             if (in_uris) for (i = 1; i <= NF; i++) out($i)
             next
         }
         $1 == "deb" {
             sub(/\[[^]]*\]/, ""); out($2)
         }' "${files[@]}"
}

# has_suite URI SUITE: whether a Debian archive of that suite stands there.
has_suite() {
    local tmp rc=1
    tmp=$(mktemp -d)
    chmod 755 "$tmp"
    if /usr/lib/apt/apt-helper -o Acquire::Retries=2 download-file "$1/dists/$2/InRelease" "$tmp/r" \
        >/dev/null 2>&1; then
        grep -q '^Origin: Debian' "$tmp/r" && grep -q "^Codename: ${2}\$" "$tmp/r" && rc=0
    fi
    rm -rf "$tmp"
    return $rc
}

# Prints "URI" of an archive that has the suite, and fails with words when there is none.
debian_mirror() {
    local uri
    for uri in ${DEVBOX_DEBIAN_MIRROR:-$(apt_uris)}; do
        if has_suite "$uri" "$DEVBOX_SUITE"; then
            echo "$uri"
            return 0
        fi
    done
    echo "none of this machine's apt sources serves Debian $DEVBOX_SUITE:" \
        "set DEVBOX_DEBIAN_MIRROR to the URI of one that does" >&2
    return 1
}

# The same for the suite's security updates; prints nothing where there are none.
debian_security_mirror() {
    local uri
    for uri in $(apt_uris); do
        if has_suite "$uri" "$DEVBOX_SUITE-security"; then
            echo "$uri"
            return 0
        fi
    done
}

# fetch_debs DIR PACKAGE...: downloads the suite's packages (not what they depend on) into DIR, without touching this
# machine's own package lists.
fetch_debs() {
    local dir=$1 mirror state arch
    shift
    mirror=$(debian_mirror) || return 1
    arch=$(dpkg --print-architecture)
    state=$(mktemp -d)
    chmod 755 "$state"
    mkdir -p "$state"/{etc/apt.conf.d,lists/partial,archives/partial} "$dir"
    : >"$state/status"
    echo "deb $mirror $DEVBOX_SUITE main" >"$state/etc/sources.list"
    local options=(
        -q -o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o Acquire::Languages=none
        -o Acquire::Retries=3 -o APT::Sandbox::User=root -o "Dir::Etc::sourcelist=$state/etc/sources.list"
        -o Dir::Etc::sourceparts=- -o "Dir::State::Lists=$state/lists" -o "Dir::State::status=$state/status"
        -o "Dir::Cache=$state"
    )
    local rc=0
    apt-get "${options[@]}" update >&2 && (cd "$dir" && apt-get "${options[@]}" download "$@" >&2) || rc=1
    rm -rf "$state"
    return $rc
}

need() { # TOOL...: fails with words that name what is missing
    local tool missing=()
    for tool in "$@"; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    ((${#missing[@]} == 0)) || {
        echo "missing on this machine: ${missing[*]}" >&2
        return 1
    }
}
