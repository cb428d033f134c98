# shellcheck shell=bash
# What a lab is made of, prepared under the cache: an emulator, a kernel, a first RAM disk, and the `skin`: files laid over
# this machine's root inside the lab (kernel modules, an ssh server, our init). Each step is skipped when its result is
# there; results appear by rename, so an interrupted step is simply done again.
# Needs common.sh, debian.sh, tools.sh and select_arch before.

# The kernel is newer than Debian 12's own 6.1: what was proven here is 6.12 (nested SVM under emulation, nft, vhost).
LAB_KERNEL_PATTERN='^linux-image-6\.12\..*-%s-unsigned$'
# What the first RAM disk loads to reach its root over 9p.
LAB_INITRAMFS_MODULES=(virtio_pci virtio_net 9pnet_virtio 9p overlay)

lab_paths() {
    QEMU_ROOT=$CACHE/qemu/$ARCH
    LAB_HOME=$CACHE/lab/$ARCH
    LAB_KERNEL=$LAB_HOME/vmlinuz
    LAB_SKIN=$LAB_HOME/skin
    LAB_INITRAMFS=$LAB_HOME/initramfs.gz
}

prepare_lab() {
    lab_paths
    need_tools lab
    prepare_qemu
    prepare_lab_kernel
    prepare_lab_skin
    prepare_lab_initramfs
}

# QEMU from backports (10.x), unpacked beside the machine's own: 7.2 of Debian 12 would conflict with newer qemu-utils, and
# nothing on the machine changes.
prepare_qemu() {
    if [ ! -e "$QEMU_ROOT/done" ]; then
        local packages wanted=$ARCH package=$QEMU_PACKAGE
        select_arch "$(uname -m)" # the emulator runs on this machine, whatever it emulates
        debian_configure
        debian_update
        mapfile -t packages < <(closure_of -t "$DEBIAN_SUITE-backports" "$package")
        rm -rf "$QEMU_ROOT"
        [ ${#packages[@]} -eq 0 ] || fetch_and_unpack "$QEMU_ROOT" "${packages[@]}"
        select_arch "$wanted"
        mkdir -p "$QEMU_ROOT"
        touch "$QEMU_ROOT/done"
    fi
    qemu --version > "$QEMU_ROOT/version" 2>&1 ||
        { rm -f "$QEMU_ROOT/done"; die "QEMU does not run: $(head -n 1 "$QEMU_ROOT/version")" "run this again; it will be fetched anew"; }
}

# The arguments that make our QEMU run from its unpacked place; the machine's own where apt found nothing to add.
qemu_command() {
    local libraries
    libraries=$QEMU_ROOT/usr/lib/$(uname -m)-linux-gnu
    if [ -x "$QEMU_ROOT/usr/bin/$QEMU_BINARY" ]; then
        QEMU=(env "LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$QEMU_ROOT/usr/bin/$QEMU_BINARY"
            -L "$QEMU_ROOT/usr/share/qemu" -L "$QEMU_ROOT/usr/share/seabios" -L "$QEMU_ROOT/usr/lib/ipxe/qemu")
    else
        QEMU=("$QEMU_BINARY")
    fi
}

qemu() { qemu_command && "${QEMU[@]}" "$@"; }

# Kernel and all its modules, these in the skin, where the lab finds them at their usual place.
prepare_lab_kernel() {
    [ -e "$LAB_KERNEL" ] && return
    debian_configure
    debian_update
    local package pattern work
    # shellcheck disable=SC2059 # the format is ours
    pattern=$(printf "$LAB_KERNEL_PATTERN" "$DEB_ARCH")
    package=$(apt-cache search --names-only "$pattern" | awk '$1 !~ /-(cloud|rt)-/ { print $1 }' | sort -V | tail -n 1)
    [ -n "$package" ] || die "Debian's lists name no kernel like $pattern" "the mirror may lack $DEBIAN_SUITE-backports"
    work=$LAB_HOME/kernel.partial
    rm -rf "$work"
    fetch_and_unpack "$work" "$package"
    say "listing the modules of $package"
    depmod --basedir "$work/usr" "$(ls "$work/usr/lib/modules")"
    rm -rf "$LAB_HOME/modules"
    mv "$work/usr/lib/modules" "$LAB_HOME/modules"
    mv "$work"/boot/vmlinuz-* "$LAB_KERNEL.partial"
    rm -rf "$work"
    mv "$LAB_KERNEL.partial" "$LAB_KERNEL"
}

# The programs of a lab that this machine does not have. An ssh server small enough to start at once under emulation carries
# commands in; where the lab is of another architecture, none of this machine's programs run in it, and it gets its own.
lab_packages() {
    echo dropbear-bin
    if [ "$ARCH" != "$(uname -m)" ]; then
        echo bash busybox-static coreutils dash e2fsprogs fdisk findutils gawk grep hostname iproute2 kmod mount nftables procps python3 sed util-linux
    fi
}

# Our scripts are the init. What is in the skin hides what this machine has at the same place.
prepare_lab_skin() {
    local digest packages work=$LAB_SKIN.partial programs=$LAB_HOME/programs
    digest=$(digest_of scripts/lib/lab)
    [ "$(cat "$LAB_SKIN/digest" 2> /dev/null)" = "$digest" ] && return
    if [ "$(cat "$programs/done" 2> /dev/null)" != "$(lab_packages)" ]; then
        debian_configure
        debian_update
        rm -rf "$programs"
        # shellcheck disable=SC2046 # a list of words
        mapfile -t packages < <(closure_of $(lab_packages))
        [ ${#packages[@]} -eq 0 ] || fetch_and_unpack "$programs" "${packages[@]}"
        mkdir -p "$programs/usr/bin"
        [ ! -e "$programs/usr/bin/dash" ] || ln -sf dash "$programs/usr/bin/sh"
        lab_packages > "$programs/done"
    fi
    rm -rf "$work"
    mkdir -p "$work/usr/lib/cumulet-lab" "$work/etc"
    cp -a --link "$programs/usr/." "$work/usr/"
    if [ "$ARCH" = "$(uname -m)" ] && [ -d "$TOOLS_ROOT/usr" ]; then cp -a --link --no-clobber "$TOOLS_ROOT/usr/." "$work/usr/"; fi
    cp -a --link "$LAB_HOME/modules" "$work/usr/lib/"
    cp "$(PATH=$programs/usr/bin:$PATH command -v busybox)" "$work/usr/lib/cumulet-lab/busybox"
    install -m 755 "$REPO"/scripts/lib/lab/{boot,shutdown,run} "$work/usr/lib/cumulet-lab/"
    install -m 644 "$REPO/scripts/lib/lab/inittab" "$work/etc/inittab"
    echo "$digest" > "$work/digest"
    rm -rf "$LAB_SKIN"
    mv "$work" "$LAB_SKIN"
}

# busybox, five modules with what they depend on, and one script.
prepare_lab_initramfs() {
    local digest work=$LAB_HOME/initramfs.partial version file
    digest=$(digest_of scripts/lib/lab)
    [ -e "$LAB_INITRAMFS" ] && [ "$(cat "$LAB_INITRAMFS.digest" 2> /dev/null)" = "$digest" ] && return
    version=$(ls "$LAB_SKIN/usr/lib/modules")
    rm -rf "$work"
    mkdir -p "$work"/{bin,modules,proc,sys,dev}
    cp "$LAB_SKIN/usr/lib/cumulet-lab/busybox" "$work/bin/"
    install -m 755 "$REPO/scripts/lib/lab/initramfs-init" "$work/init"
    for file in "${LAB_INITRAMFS_MODULES[@]}"; do
        modprobe --dirname "$LAB_SKIN/usr" --set-version "$version" --show-depends "$file" | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++' | while read -r file; do
        # busybox's insmod wants them unpacked
        case $file in
            *.xz) xz --decompress --stdout "$file" > "$work/modules/$(basename "$file" .xz)" ;;
            *) cp "$file" "$work/modules/" ;;
        esac
        basename "$file" .xz >> "$work/modules/order"
    done
    (cd "$work" && find . | cpio --quiet -o -H newc | gzip -1) > "$LAB_INITRAMFS.partial"
    rm -rf "$work"
    echo "$digest" > "$LAB_INITRAMFS.digest"
    mv "$LAB_INITRAMFS.partial" "$LAB_INITRAMFS"
}
