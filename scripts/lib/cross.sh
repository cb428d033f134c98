# shellcheck shell=bash
# A Rust and C toolchain for the other architecture, so that everything of ours can be checked, built and unit-tested for it
# on this machine. Three ways, the first that there is:
#
#   1. this machine is of that architecture: nothing to do
#   2. rustup has the target (rustup target add aarch64-unknown-linux-gnu), and a C compiler for it is installed
#   3. Debian's packages, unpacked under the cache, never installed: its rustc with the standard library of the target, its
#      cross compiler with the C library, QEMU's user emulation to run tests. What it links runs on Debian 12 and later.
#
# Needs common.sh, debian.sh and tools.sh before.

# use_cross: afterwards `cargo … "${CROSS[@]}"` works for $ARCH; what it builds is in $CROSS_TARGET_DIR/{debug,release}.
use_cross() {
    RUST_TARGET=$ARCH-unknown-linux-gnu CROSS=() CROSS_TARGET_DIR=${CARGO_TARGET_DIR:-$REPO/target}
    [ "$ARCH" != "$(uname -m)" ] || return 0
    local variable=${RUST_TARGET//-/_} compiler root=$CACHE/cross/$ARCH
    CROSS=(--target "$RUST_TARGET")
    if [ -d "$(rustc --print target-libdir --target "$RUST_TARGET" 2> /dev/null)" ] && compiler=$(command -v "$ARCH-linux-gnu-gcc"); then
        export "CARGO_TARGET_${variable^^}_LINKER=$compiler"
    else
        with_lock "cross-$ARCH" make_cross "$root"
        export RUSTC=$root/bin/rustc "CC_$variable=$root/bin/cc" "AR_$variable=$root/bin/ar" "CARGO_TARGET_${variable^^}_LINKER=$root/bin/cc"
        export "CARGO_TARGET_${variable^^}_RUNNER=$root/bin/run"
        # Another compiler than the rest of the repository is built with.
        export CARGO_TARGET_DIR=$CROSS_TARGET_DIR/cross
        CROSS_TARGET_DIR=$CARGO_TARGET_DIR
    fi
    CROSS_TARGET_DIR=$CROSS_TARGET_DIR/$RUST_TARGET
}

# Unpacks the packages, once, and writes the programs that make them work where they are.
make_cross() {
    local root=$1 wanted=$ARCH packages compiler=gcc-12-$ARCH-linux-gnu headers=libc6-dev-$DEB_ARCH-cross
    [ ! -e "$root/done" ] || return 0
    say "fetching a toolchain for $ARCH, once (rustup target add $RUST_TARGET, with $compiler installed, would do as well)"
    rm -rf "$root"
    select_arch "$(uname -m)"
    debian_configure
    debian_update
    mapfile -t packages < <(closure_of rustc-web "$compiler" "$headers" qemu-user-static)
    fetch_and_unpack "$root" "${packages[@]}"
    select_arch "$wanted"
    debian_configure
    debian_update
    fetch_and_unpack "$root" libstd-rust-web-dev
    write_cross_programs "$root"
    touch "$root/done"
}

write_cross_programs() {
    local root=$1 programs=$1/usr/bin libraries
    libraries=$root/usr/lib/$(uname -m)-linux-gnu
    mkdir -p "$root/bin"
    cross_program rustc "$programs/rustc"
    # The system root is where the compiler looks for the C library: not at /.
    cross_program cc "$programs/$ARCH-linux-gnu-gcc-12" --sysroot="$root"
    cross_program ar "$programs/$ARCH-linux-gnu-ar"
    cross_program run "$programs/qemu-$ARCH-static" -L "$root/usr/$ARCH-linux-gnu"
}

# cross_program NAME COMMAND…: $root/bin/NAME runs COMMAND with the unpacked libraries.
cross_program() {
    local name=$1
    shift
    {
        echo '#!/bin/sh'
        printf 'export LD_LIBRARY_PATH=%q${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\n' "$libraries"
        printf 'exec'
        printf ' %q' "$@"
        printf ' "$@"\n'
    } > "$root/bin/$name"
    chmod +x "$root/bin/$name"
}
