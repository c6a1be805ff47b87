# SPDX-License-Identifier: Apache-2.0
# Sourced, after mirror.bash, by who builds a Go program that a go.mod pins (its go.sum holds the hashes).
#
# Building needs Go as new as that go.mod says. An older one (from 1.21) fetches the newer toolchain through GOPROXY by itself;
# where there is none at all, Debian's is unpacked for that, and removed again with the temporary folder.

# "go1.26.8" against the version in go.mod: newer or the same.
go_new_enough() { # GO WANTED
    local have
    have=$(cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
    [[ $(printf '%s\n' "$2" "${have#go}" | sort -V | head -n 1) == "$2" ]]
}
go_can_switch() { # GO: 1.21 and later fetch the toolchain that go.mod names
    local have
    have=$(cd / && GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
    [[ $(printf '%s\n' 1.21 "${have#go}" | sort -V | head -n 1) == 1.21 ]]
}

# Prints the path of Debian's go, unpacked below the folder $1. Its halves are joined by relative links.
debian_go() {
    local deb package
    need dpkg-deb apt-get || return 1
    say "there is no Go on this machine: unpacking Debian's for the time of the build"
    fetch_debs "$1/debs" golang-go || return 1 # only names the version
    package=$(dpkg-deb -f "$1"/debs/golang-go_*.deb Depends | grep -o 'golang-[0-9.]*-go' | head -n 1) || return 1
    fetch_debs "$1/debs" "$package" "${package%-go}-src" || return 1
    for deb in "$1"/debs/golang-[0-9]*.deb; do
        dpkg-deb -x "$deb" "$1/root" || return 1
    done
    rm -rf "$1/debs"
    echo "$1"/root/usr/lib/go-*/bin/go
}

# The version of MODULE in the go.mod of FOLDER.
go_version_of() { # FOLDER MODULE
    awk -v m="$2" '$2 == m { print $3 } $1 == m { print $2 }' "$1/go.mod"
}

# go_prepare TMP FOLDER: in TMP/src stands what FOLDER has, and go_run can build there. TMP exists and is removed by the caller.
go_prepare() {
    local tmp=$1 from=$2 go wanted toolchain=auto env=()
    wanted=$(awk '$1 == "go" { print $2 }' "$from/go.mod")
    go=$(command -v go || true)
    if [[ ! $go ]] || { ! go_new_enough "$go" "$wanted" && ! go_can_switch "$go"; }; then
        go=$(debian_go "$tmp/go") || return 1
        # Nobody else on this machine needs what it downloads.
        env=("GOPATH=$tmp/gopath" "GOCACHE=$tmp/gocache")
    fi
    if go_new_enough "$go" "$wanted"; then
        toolchain=local
    else
        say "this Go is older than $wanted, and fetches that by itself"
    fi
    cp -r "$from" "$tmp/src" || return 1
    go_words=(env "${env[@]}" CGO_ENABLED=0 "GOTOOLCHAIN=$toolchain" GOWORK=off GO111MODULE=on "$go")
}
go_run() { # TMP ARGUMENT...: go, in what go_prepare made
    local tmp=$1
    shift
    (cd "$tmp/src" && "${go_words[@]}" "$@")
}

# go_build TMP FOLDER OUT ARGUMENT... PACKAGE: builds what FOLDER's go.mod pins.
go_build() {
    local tmp=$1 from=$2 out=$3
    shift 3
    go_prepare "$tmp" "$from" && go_run "$tmp" build -mod=readonly -trimpath -buildvcs=false -o "$out" "$@" >&2
}
