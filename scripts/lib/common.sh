# shellcheck shell=bash
# What every script of this repository shares: where things are, how progress and failures are told, one lock, and the
# table of architectures. Sourced, never run; the caller has `set -euo pipefail`.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
CACHE=${CUMULET_CACHE:-$REPO/.cache}
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd -P)
# What a user's programs are built from: everywhere by the same words, so that what is built once is there.
PROGRAM_PACKAGES=(--package daemon --package vmm --package cli)
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin # a plain user's PATH lacks the folders where sfdisk and mke2fs live

# Progress goes to stderr, so that stdout stays what was asked for.
say() { printf '%s: %s\n' "${PROGRAM:-cumulet}" "$*" >&2; }

# die WHAT [REMEDY]: the end of a step that failed; WHAT names the step and its object, REMEDY says what to do next.
die() {
    printf '%s: error: %s\n' "${PROGRAM:-cumulet}" "$1" >&2
    [ $# -lt 2 ] || printf '\nhint: %s\n' "$2" >&2
    exit 1
}

# show_help FILE: the comment at the head of a script, after its title line, is its help.
show_help() { sed -n '2,/^[^#]/{/^#/{s/^# \{0,1\}//;p}}' "$1"; }

# with_lock NAME COMMAND…: one at a time for everyone who shares the cache; released at the latest when the command ends.
with_lock() {
    local name=$1 descriptor
    shift
    mkdir -p "$CACHE/locks"
    exec {descriptor}> "$CACHE/locks/$name"
    if ! flock --nonblock "$descriptor"; then
        say "waiting for another run that prepares $name …"
        flock "$descriptor"
    fi
    "$@" {descriptor}>&-
    exec {descriptor}>&-
}

# seconds_since START: START is $EPOCHREALTIME; answers with one decimal.
seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'; }

# digest_of FILE-OR-FOLDER…: one name for the content, modes and names of these files; an image or an initramfs is rebuilt
# when the digest of what it was made from changes.
digest_of() {
    (
        cd "$REPO" || exit
        find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 stat -c '%n %a'
        find "$@" -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    ) | sha256sum | cut -c1-16
}

# select_arch ARCH: everything that differs between the two architectures, as shell variables. Nothing outside this table
# asks which architecture it is.
#   DEB_ARCH        Debian's name for it
#   QEMU_PACKAGE    the package, QEMU_BINARY the program of its emulator
#   LAB_MACHINE     the emulated board and CPU on which KVM works inside (SVM on x86_64, EL2 on aarch64)
#   LAB_KVM         the module that brings /dev/kvm ('' where it is part of the kernel)
#   CONSOLE         the serial console's name in Linux
select_arch() {
    ARCH=$1
    case $ARCH in
        x86_64)
            DEB_ARCH=amd64
            QEMU_PACKAGE=qemu-system-x86
            QEMU_BINARY=qemu-system-x86_64
            LAB_MACHINE=(-machine q35 -cpu max,la57=off)
            LAB_KVM=kvm_amd
            CONSOLE=ttyS0
            ;;
        aarch64)
            DEB_ARCH=arm64
            QEMU_PACKAGE=qemu-system-arm
            QEMU_BINARY=qemu-system-aarch64
            LAB_MACHINE=(-machine virt,virtualization=on,gic-version=3 -cpu max,pauth-impdef=on,sve=off)
            LAB_KVM=
            CONSOLE=ttyAMA0
            ;;
        *) die "no table entry for the architecture '$ARCH'" "x86_64 and aarch64 are known" ;;
    esac
    export ARCH DEB_ARCH QEMU_PACKAGE QEMU_BINARY LAB_KVM CONSOLE
}
