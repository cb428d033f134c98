# shellcheck shell=bash
# The debian image: Debian 12 as its own tools lay it out, small but not stripped: stock kernel, stock initrd, cloud-init as
# packaged. What is added lies in root/ as on the disk, each file saying why; what is switched off is in customize.

IMAGE_SIZE_MIB=2048
DISK_UUID=DEB12000-0000-4000-8000-0000C0D10001
PARTITION_UUID=DEB12000-0000-4000-8000-0000C0D10002
FILESYSTEM_UUID=deb12000-0000-4000-8000-0000c0d10003
FILESYSTEM_OPTIONS=()
# quiet: every character on a serial console is an exit from the guest; a full kernel log costs a boot many seconds.
KERNEL_OPTIONS="quiet"

PACKAGES=(
    systemd-sysv udev dbus              # init and devices
    systemd-resolved                    # names; networkd comes with systemd
    openssh-server sudo                 # the way in
    cloud-init cloud-guest-utils        # becomes an instance; grows the root file system to its volume
    "linux-image-cloud-$DEB_ARCH" initramfs-tools zstd
    iproute2 curl ca-certificates       # what the first look around asks for
)

make_root() {
    local work=$1 how=(mmdebstrap --mode=unshare) sources
    if [ "$ARCH" != "$(uname -m)" ]; then
        how=(run_foreign mmdebstrap --mode=root --skip=check/qemu)
    elif [ "$(id -u)" -eq 0 ]; then
        how=(mmdebstrap --mode=root)
        # In containers that may not mount, it goes without /proc and /sys inside.
        unshare --mount true 2> /dev/null || how+=(--skip=check/canmount)
    fi
    sources=$(grep -v -- '-backports ' "$APT_HOME/sources.list")
    our_files "$work/ours"
    chmod 755 "$work"
    say "putting together Debian $DEBIAN_SUITE (a minute or more; log: $IMAGES/debian.log)"
    # tar-in: mmdebstrap's root in a user namespace may not read this folder; the process outside may.
    unset APT_CONFIG
    "${how[@]}" --variant=minbase --architectures="$DEB_ARCH" \
        --include="$(IFS=,; echo "${PACKAGES[*]}")" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook="tar-in $work/ours.tar /" \
        --customize-hook='chroot "$1" /customize && rm "$1/customize"' \
        --format=tar "$DEBIAN_SUITE" - - <<< "$sources" > "$work/root.tar" 2> >(tee "$IMAGES/debian.log" | sed -n "s/^I: /$PROGRAM:   /p" >&2) ||
        die "mmdebstrap failed: $(grep -m1 -E '^E:' "$IMAGES/debian.log" | cut -c1-300)" "see $IMAGES/debian.log"
}

# our_files FOLDER: what we add to Debian's, as FOLDER.tar.
our_files() {
    mkdir -p "$1"
    cp -a "$REPO/images/debian/root/." "$1/"
    install -m 755 "$REPO/images/debian/customize" "$1/customize"
    echo "PARTUUID=${PARTITION_UUID,,} / ext4 defaults,discard,errors=remount-ro 0 1" > "$1/etc/fstab"
    write_boot_entry "$1" "Debian $DEBIAN_SUITE"
    # Folders are left out: they are there, with their own modes.
    (cd "$1" && find . -type f -print0 | tar --create --null --files-from=- --owner=0 --group=0 --mode=go-w --file "$1.tar")
}
