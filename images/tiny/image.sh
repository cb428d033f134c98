# shellcheck shell=bash
# The tiny image: busybox is its init, its shell and its web server, dropbear its ssh server, Debian's cloud kernel its
# kernel. What runs in it is in root/, as it lies on the disk. README.md says what it does.

IMAGE_SIZE_MIB=1024
DISK_UUID=7A1C0000-0000-4000-8000-0000C0D10001
PARTITION_UUID=7A1C0000-0000-4000-8000-0000C0D10002
FILESYSTEM_UUID=7a1c0000-0000-4000-8000-0000c0d10003
FILESYSTEM_OPTIONS=(-N 4096 -J size=8)
KERNEL_OPTIONS="quiet panic=1"

# What must be loaded before the root can be mounted, and what is loaded from it; ext4 and PCI hotplug are built in.
INITRD_MODULES=(virtio_pci virtio_blk)
ROOT_MODULES=(virtio_net button evdev virtio_rng virtio_balloon)
# Not every architecture's kernel has it.
if [ "$ARCH" = x86_64 ]; then ROOT_MODULES+=(pvpanic-mmio); fi

LIBRARIES=(libc.so.6 libcrypt.so.1 libtomcrypt.so.1 libtommath.so.1 libgmp.so.10 libz.so.1)

make_root() {
    local work=$1 packages=$1/packages root=$1/root version
    fetch_and_unpack "$packages" "$(cloud_kernel)" busybox-static dropbear-bin libc6 libcrypt1 libtomcrypt1 libtommath1 libgmp10 zlib1g
    version=$(ls "$packages/usr/lib/modules")
    depmod --basedir "$packages/usr" "$version"

    mkdir -p "$root"/{boot,dev,home/admin,mnt,proc,root,run,sys,tmp,usr/{bin,sbin,lib},var/{lib/tiny,log,www}}
    ln -s usr/bin usr/sbin usr/lib "$root/"
    ln -s usr/lib "$root/lib64"
    ln -s ../run "$root/var/run"
    cp -a "$REPO/images/tiny/root/." "$root/"
    install -m 755 "$packages/usr/bin/busybox" "$root/usr/bin/"
    install_applets "$root"
    install_ssh_server "$packages" "$root"
    copy_modules "$packages/usr" "$version" "$root/usr/lib/modules" "${ROOT_MODULES[@]}"
    chmod 1777 "$root/tmp"
    chmod 700 "$root/root" "$root/home/admin"

    cp "$packages/boot/vmlinuz-$version" "$root/boot/"
    make_initrd "$packages" "$version" "$work/initrd" "$root/boot/initrd.img-$version"
    ln -s "boot/vmlinuz-$version" "$root/vmlinuz"
    ln -s "boot/initrd.img-$version" "$root/initrd.img"
    write_boot_entry "$root" "tiny ($version)"
}

# One link per applet, so that they are found like any program.
install_applets() {
    local applet
    tr -s ' ' '\n' < "$REPO/images/tiny/applets" | while read -r applet; do
        ln -s busybox "$1/usr/bin/$applet"
    done
    ln -s ../bin/busybox "$1/usr/sbin/init"
}

install_ssh_server() {
    local library
    install -m 755 "$1/usr/sbin/dropbear" "$2/usr/sbin/"
    install -m 755 "$1/usr/bin/dropbearkey" "$2/usr/bin/"
    for library in "${LIBRARIES[@]}"; do
        cp -L "$(find "$1/usr/lib" -name "$library" -print -quit)" "$2/usr/lib/$library"
    done
    cp -L "$(find "$1/usr/lib" -name 'ld-linux-*' -print -quit)" "$2/usr/lib/"
}

# copy_modules BASE VERSION TARGET MODULE…: the modules and what they depend on, unpacked, with their order in TARGET/order.
copy_modules() {
    local base=$1 version=$2 target=$3 module file
    shift 3
    mkdir -p "$target"
    for module in "$@"; do
        modprobe --dirname "$base" --set-version "$version" --show-depends "$module" | awk '$1 == "insmod" { print $2 }'
    done | awk '!seen[$0]++' | while read -r file; do
        case $file in
            *.xz) xz --decompress --stdout "$file" > "$target/$(basename "$file" .xz)" ;;
            *) cp "$file" "$target/" ;;
        esac
        basename "$file" .xz >> "$target/order"
    done
}

# make_initrd PACKAGES VERSION WORK FILE: busybox, two modules, one script. Not compressed: unpacking it is then a copy,
# and the disk image is compressed as a whole.
make_initrd() {
    local work=$3
    mkdir -p "$work"/{bin,dev,proc,sys,root}
    cp "$1/usr/bin/busybox" "$work/bin/"
    ln -s busybox "$work/bin/sh"
    install -m 755 "$REPO/images/tiny/initrd-init" "$work/init"
    copy_modules "$1/usr" "$2" "$work/modules" "${INITRD_MODULES[@]}"
    (cd "$work" && find . | LC_ALL=C sort | cpio --quiet --owner 0:0 -o -H newc) > "$4"
}
