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
    local work=$1 how=(--mode=unshare) sources
    if [ "$(id -u)" -eq 0 ]; then
        how=(--mode=root)
        # In containers that may not mount, it goes without /proc and /sys inside.
        unshare --mount true 2> /dev/null || how+=(--skip=check/canmount)
    fi
    sources=$(grep -v -- '-backports ' "$APT_HOME/sources.list")
    say "putting together Debian $DEBIAN_SUITE (a minute or more; log: $IMAGES/debian.log)"
    env -u APT_CONFIG PARTITION_UUID="$PARTITION_UUID" CONSOLE="$CONSOLE" \
        KERNEL_OPTIONS="$KERNEL_OPTIONS" mmdebstrap \
        "${how[@]}" --variant=minbase --architectures="$DEB_ARCH" \
        --include="$(IFS=,; echo "${PACKAGES[*]}")" \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --customize-hook="$REPO/images/debian/customize \"\$1\"" \
        --format=tar "$DEBIAN_SUITE" "$work/root.tar" - <<< "$sources" 2> >(tee "$IMAGES/debian.log" | sed -n "s/^I: /$PROGRAM:   /p" >&2) ||
        die "mmdebstrap failed: $(grep -m1 -E '^E:' "$IMAGES/debian.log")" "see $IMAGES/debian.log"
}
