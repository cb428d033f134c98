# shellcheck shell=bash
# The disk that both images share the shape of: GPT, one ext4 root partition from 1 MiB to the end, and in it all that a
# monitor needs to boot it without a boot loader: /boot/loader/entries/*.conf (Boot Loader Specification, type 1), which
# names kernel, initrd and command line. Identifiers are fixed for an image: they are names, not secrets.
#
# An image's image.sh defines: IMAGE_SIZE_MIB, PARTITION_UUID, FILESYSTEM_UUID, FILESYSTEM_OPTIONS, KERNEL_OPTIONS, make_root WORK (leaves
# WORK/root.tar, or fills WORK/root).

# The partition type says "root file system of this architecture" (Discoverable Partitions Specification).
root_partition_type() {
    case $ARCH in
        x86_64) echo 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709 ;;
        aarch64) echo B921B045-1DF0-41C3-AF44-4C6F280D3FAE ;;
    esac
}

# write_boot_entry ROOT TITLE: the entry goes through Debian's own symbolic links, so a kernel upgrade inside the guest is
# followed without touching it.
write_boot_entry() {
    mkdir -p "$1/boot/loader/entries"
    cat > "$1/boot/loader/entries/default.conf" <<ENTRY
# Read by a monitor that boots this disk without a boot loader (Boot Loader Specification, type 1).
title   $2
linux   /vmlinuz
initrd  /initrd.img
options root=PARTUUID=${PARTITION_UUID,,} ro console=$CONSOLE ${KERNEL_OPTIONS:-}
ENTRY
}

# as_owner COMMAND…: runs it so that files it makes belong to root, or look so to what it runs.
as_owner() { if [ "$(id -u)" -eq 0 ]; then "$@"; else fakeroot "$@"; fi; }

# make_disk WORK FILE: turns WORK/root.tar or WORK/root into the disk FILE, sparse.
make_disk() {
    local work=$1 file=$2 start_mib=1
    say "writing the disk ($IMAGE_SIZE_MIB MiB, sparse)"
    truncate --size "${IMAGE_SIZE_MIB}M" "$file"
    sfdisk --quiet "$file" <<TABLE
label: gpt
label-id: $DISK_UUID
unit: sectors
start=$((start_mib * 2048)), type=$(root_partition_type), uuid=$PARTITION_UUID, name=root
TABLE
    # From 1 MiB to the last MiB, which holds the second partition table.
    local size_kib=$(((IMAGE_SIZE_MIB - 2) * 1024))
    as_owner sh -euc '
        cd "$1"
        if [ -e root.tar ]; then mkdir root && tar --extract --file root.tar --directory root --numeric-owner --same-owner --same-permissions; fi
        shift
        mke2fs "$@"
    ' sh "$work" -q -t ext4 -L root -U "$FILESYSTEM_UUID" -m 1 -O ^metadata_csum_seed,^orphan_file \
        -E "offset=$((start_mib * 1048576)),hash_seed=$FILESYSTEM_UUID,root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1" \
        "${FILESYSTEM_OPTIONS[@]}" -d "$work/root" "$file" "${size_kib}k" > "$work/mke2fs.log" 2>&1 ||
        die "making the file system failed: $(tail -n 1 "$work/mke2fs.log")" "is there room under $CACHE?"
}
