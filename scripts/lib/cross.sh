# shellcheck shell=bash
# A toolchain for the other architecture, so that everything of ours can be checked and built for it on this machine, and
# run in a lab of it. Made of Debian's packages, unpacked under the cache, never installed:
#
#   C      gcc 12 and the C library of Debian 12, so that what is linked runs in the lab and on any later Debian
#   Rust   this machine's own, where rustup has the target (rustup target add aarch64-unknown-linux-gnu); else Debian's rustc
#          with the target's standard library, which is another compiler: its results lie in a folder of their own
#
# Needs common.sh, debian.sh and tools.sh before.

# can_cross ARCH: is there something to check for ARCH, and can it be done? REASON says why not.
can_cross() {
    if [ "$(uname -m)" = "$1" ]; then
        REASON="this machine is of that architecture"
    elif ! command -v apt-get > /dev/null || [ ! -r "$DEBIAN_KEYRING" ]; then
        REASON="the compiler for it is made of Debian's packages, and this is no Debian-like machine"
    else
        return 0
    fi
    return 1
}

# use_cross [check]: afterwards `cargo … "${CROSS[@]}"` works for $ARCH; what it builds is in $PROGRAMS/{debug,release}.
# With `check` only `cargo check` does: that needs no C.
use_cross() {
    CROSS=() PROGRAMS=${CARGO_TARGET_DIR:-$REPO/target}
    [ "$ARCH" != "$(uname -m)" ] || return 0
    RUST_TARGET=$ARCH-unknown-linux-gnu
    local variable=${RUST_TARGET//-/_} rust=$CACHE/cross/$ARCH/rust
    CROSS=(--target "$RUST_TARGET")
    if [ "${1:-}" = check ]; then
        # SQLite is then expected to be there already, and nobody looks, since nothing is linked.
        export LIBSQLITE3_SYS_USE_PKG_CONFIG=1 SQLITE3_LIB_DIR=/nonexistent
    else
        use_cross_compiler
        export "CC_$variable=${CROSS_COMPILE}cc" "AR_$variable=${CROSS_COMPILE}ar" "CARGO_TARGET_${variable^^}_LINKER=${CROSS_COMPILE}cc"
    fi
    if [ ! -d "$(rustc --print target-libdir --target "$RUST_TARGET" 2> /dev/null)" ]; then
        with_lock "cross-$ARCH" make_cross "$rust" rustc-web
        PROGRAMS=$PROGRAMS/cross
        export RUSTC=$rust/programs/rustc CARGO_TARGET_DIR=$PROGRAMS
    fi
    PROGRAMS=$PROGRAMS/$RUST_TARGET
}

# use_cross_compiler: afterwards ${CROSS_COMPILE}cc compiles C for $ARCH, and its binary utilities lie beside it.
use_cross_compiler() {
    local root=$CACHE/cross/$ARCH/c
    with_lock "cross-$ARCH" make_cross "$root" "gcc-12-${ARCH//_/-}-linux-gnu" "libc6-dev-$DEB_ARCH-cross"
    CROSS_COMPILE=$root/programs/
}

# make_cross FOLDER PACKAGE…: unpacks this machine's packages with what they need, once, and writes into FOLDER/programs the
# programs that make them work where they are.
make_cross() {
    local root=$1 wanted=$ARCH packages name
    shift
    [ -e "$root/done" ] || fetch_cross "$@"
    mkdir -p "$root/programs"
    if [ "$1" = rustc-web ]; then
        cross_program rustc rustc
    else
        # The system root is where the compiler looks for the C library: not at /.
        cross_program cc "$ARCH-linux-gnu-gcc-12" --sysroot="$root"
        for name in ar ld nm objcopy objdump readelf strip; do cross_program "$name" "$ARCH-linux-gnu-$name"; done
    fi
    touch "$root/done"
}

fetch_cross() {
    local of_it="-e cross -e rust -e ${wanted//_/-}"
    say "fetching a toolchain for $wanted, once: $1"
    rm -rf "$root"
    select_arch "$(uname -m)"
    debian_configure
    debian_update
    # What this machine has of it is not used, but for libraries: these must be those of its own C library.
    # shellcheck disable=SC2086 # a list of words
    {
        mapfile -t packages < <(closure_of -o Dir::State::status=/dev/null "$@" | grep $of_it)
        mapfile -t -O ${#packages[@]} packages < <(closure_of "$@" | grep -v $of_it)
    }
    fetch_and_unpack "$root" "${packages[@]}"
    select_arch "$wanted"
    [ "$1" = rustc-web ] || return 0
    debian_configure
    debian_update
    fetch_and_unpack "$root" libstd-rust-web-dev # the target's
}

# cross_program NAME PROGRAM ARGUMENT…: $root/programs/NAME runs PROGRAM with the libraries beside it.
cross_program() {
    local name=$1 libraries
    libraries=$root/usr/lib/$(uname -m)-linux-gnu
    shift
    {
        echo '#!/bin/bash' # others lose variables with hyphens in their names, which cargo sets
        printf 'export LD_LIBRARY_PATH=%q${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\n' "$libraries"
        printf 'exec %q' "$root/usr/bin/$1"
        shift
        [ $# -eq 0 ] || printf ' %q' "$@"
        printf ' "$@"\n'
    } > "$root/programs/$name.new"
    chmod +x "$root/programs/$name.new"
    mv "$root/programs/$name.new" "$root/programs/$name"
}
