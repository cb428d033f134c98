# shellcheck shell=bash
# Runs programs of another architecture on this machine, for an image whose own programs take part in its building: QEMU's
# user emulation, registered with the kernel in a user namespace of its own, so that nobody else sees it (Linux 6.7;
# binfmt_misc belongs to the user namespace that mounted it). Needs common.sh, debian.sh and select_arch before.

# ELF, 64 bits, little-endian, version 1; an executable or shared object (the type's lowest bit is ignored) for this machine.
FOREIGN_MACHINE_x86_64='\x3e'
FOREIGN_MACHINE_aarch64='\xb7'

# run_foreign COMMAND…: runs it as root of a user namespace in which programs for $ARCH run.
run_foreign() {
    local emulator machine=FOREIGN_MACHINE_$ARCH registration mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
    emulator=$(foreign_emulator)
    registration=":$ARCH:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00${!machine}\\x00:$mask:$emulator:FOC"
    # shellcheck disable=SC2016 # for the shell inside
    in_user_namespace sh -euc '
        mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
        printf "%s\n" "$1" > /proc/sys/fs/binfmt_misc/register
        shift
        exec "$@"
    ' sh "$registration" "$@"
}

# A copy of the emulator where everybody may read it; its path.
foreign_emulator() {
    local folder=$CACHE/qemu-user wanted=$ARCH copy
    if [ ! -e "$folder/done" ]; then
        say "fetching an emulator for programs of $ARCH"
        (
            select_arch "$(uname -m)"
            debian_configure
            debian_update
            fetch_and_unpack "$folder" qemu-user-static
        )
        touch "$folder/done"
    fi
    copy=$(mktemp "${TMPDIR:-/tmp}/qemu-$wanted.XXXXXX")
    install -m 755 "$folder/usr/bin/qemu-$wanted-static" "$copy"
    echo "$copy"
}

# in_user_namespace COMMAND…: as its root. A plain user's is made of the ids that /etc/subuid gives him; root gives himself
# the usual ones.
in_user_namespace() {
    if [ "$(id -u)" -ne 0 ]; then
        mmdebstrap --unshare-helper unshare --mount --pid --fork --mount-proc "$@"
        return
    fi
    local go process input
    exec {input}<&0 # what runs in the background is given nothing else
    go=$(mktemp -u "$CACHE/go.XXXXXX")
    mkfifo "$go"
    # It waits until its ids are mapped: only then is it root.
    # shellcheck disable=SC2016 # for the shell inside
    unshare --user --mount --pid --fork --mount-proc sh -c 'read -r _ < "$1"; shift; exec "$@"' sh "$go" "$@" <&"$input" &
    process=$!
    until [ "$(readlink "/proc/$process/ns/user")" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.1; done
    echo "0 0 65536" | tee "/proc/$process/gid_map" > "/proc/$process/uid_map"
    echo go > "$go"
    rm -f "$go"
    exec {input}<&-
    wait "$process"
}
