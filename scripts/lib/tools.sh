# shellcheck shell=bash
# The programs that this project needs beyond a Rust toolchain: the one list, with each one's reason, and what to do when
# one is missing. As root it is installed; without root it is unpacked under the cache, where that is enough, and only
# what cannot be used that way asks for sudo. Needs common.sh and debian.sh before.

# purpose | program that must be found | package | without root | why it is needed
#   `unpack`: works from the cache; `install`: has to be installed.
TOOLS='
lab    busybox        busybox-static   unpack   the first programs of the lab host, before its root is mounted
lab    cpio           cpio             unpack   packs an initramfs
lab    modprobe       kmod             unpack   finds the modules of the lab kernel, loads them inside the lab
lab    xz             xz-utils         unpack   Debian packs the modules of newer kernels with xz
lab    mke2fs         e2fsprogs        unpack   makes the file system of a state disk without mounting it
lab    ip             iproute2         unpack   brings the network up inside the lab; the daemon uses the kernel directly
lab    nft            nftables         unpack   the daemon hands its firewall to nft, in the lab or here
lab    ssh            openssh-client   unpack   runs commands inside the lab, and reaches guests
lab    flock          util-linux       install  one preparation at a time
image  sfdisk         fdisk            unpack   writes the partition table of an image
image  mke2fs         e2fsprogs        unpack   makes an image'"'"'s file system at an offset, without loop devices or mounts
tiny   cpio           cpio             unpack   packs its initramfs
tiny   modprobe       kmod             unpack   finds the modules that it carries
tiny   xz             xz-utils         unpack   Debian packs the modules of newer kernels with xz
image  qemu-img       qemu-utils       unpack   writes the compressed form of an image
image  fakeroot       fakeroot         unpack   files that belong to root in an image, made by a plain user
debian perl           perl             install  mmdebstrap is written in it
debian mmdebstrap     mmdebstrap       unpack   builds the root file system of the debian image
debian newuidmap      uidmap           install  lets it do so in a user namespace, without root
build  cc             gcc              install  links Rust programs, compiles SQLite
build  ld             libc6-dev        install  the C library to link against
kernel make           make             unpack   the kernel is built by it
kernel bc             bc               unpack   ... computes its constants of time
kernel flex           flex             unpack   ... reads its configuration language
kernel bison          bison            unpack   ... reads its configuration language
kernel gelf.h         libelf-dev       unpack   ... checks the object files of x86_64 (objtool)
kernel xz             xz-utils         unpack   Debian packs its source with xz
test   python3        python3          install  runs the real EC2 clients
test   python3-venv   python3-venv     install  keeps those clients apart from the machine'"'"'s Python
test   git            git              install  the tests look at the repository'"'"'s own files
host   nft            nftables         install  the firewall of a cloud on this machine'"'"'s own kernel
host   ip             iproute2         install  shows what the daemon made in its namespaces
'

# tools_for PURPOSE…: their lines of the table.
tools_for() {
    local purpose
    for purpose in "$@"; do
        grep -q "^$purpose " <<< "$TOOLS" || die "no such purpose: $purpose" "the purposes are $(awk 'NF { print $1 }' <<< "$TOOLS" | uniq | xargs)"
        grep "^$purpose " <<< "$TOOLS"
    done
}

# have_tool PROGRAM: can it be used here?
have_tool() {
    case $1 in
        python3-venv) python3 -c 'import venv, ensurepip' 2> /dev/null ;;
        ld) [ -e /usr/include/stdio.h ] ;; # libc6-dev has no program of its own; its headers and crt files come together
        gelf.h) [ -e /usr/include/gelf.h ] || [ -e "$TOOLS_ROOT/usr/include/gelf.h" ] ;;
        newuidmap) [ "$(id -u)" -eq 0 ] || command -v newuidmap > /dev/null ;; # root needs none
        *) command -v "$1" > /dev/null ;;
    esac
}

# Unpacked programs come after the machine's own, and find their libraries beside themselves.
use_unpacked_tools() {
    TOOLS_ROOT=$CACHE/tools/$(uname -m)
    local triplet
    triplet=$(uname -m)-linux-gnu
    PATH=$PATH:$TOOLS_ROOT/usr/bin:$TOOLS_ROOT/usr/sbin
    if [ -d "$TOOLS_ROOT/usr/lib/$triplet" ]; then
        export LD_LIBRARY_PATH=$TOOLS_ROOT/usr/lib/$triplet${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    fi
}

# need_tools PURPOSE…: afterwards every program for these purposes can be used, or this run has ended with the reason.
need_tools() {
    use_unpacked_tools
    local purpose program package way reason install=() unpack=()
    while read -r purpose program package way reason; do
        ! have_tool "$program" || continue
        say "missing: $program ($package): $reason"
        if [ "$way" = install ] || [ "$(id -u)" -eq 0 ]; then install+=("$package"); else unpack+=("$package"); fi
    done < <(tools_for "$@" | sort -u -k2,2)
    [ ${#install[@]} -eq 0 ] || with_lock packages install_packages "${install[@]}"
    [ ${#unpack[@]} -eq 0 ] || with_lock packages unpack_tools "${unpack[@]}"
    while read -r purpose program package way reason; do
        have_tool "$program" || die "$program is still missing after installing $package" "install it by hand: $reason"
    done < <(tools_for "$@")
}

# Installs with the machine's own apt state but our lists, so that a broken third-party source cannot stop it.
install_packages() {
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo > /dev/null || die "$* must be installed, which needs root" "as root: apt-get install $*"
        say "asking for root once, to install: $*"
        sudo=(sudo)
    fi
    select_arch "$(uname -m)"
    debian_configure
    debian_update
    "${sudo[@]}" env APT_CONFIG="$APT_CONFIG" DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y install --no-install-recommends "$@" > "$APT_HOME/install.log" 2>&1 ||
        die "installing $* failed: $(grep -m1 '^E:' "$APT_HOME/install.log")" "see $APT_HOME/install.log"
}

unpack_tools() {
    local needed
    select_arch "$(uname -m)"
    debian_configure
    debian_update
    mapfile -t needed < <(closure_of "$@")
    fetch_and_unpack "$TOOLS_ROOT" "${needed[@]}"
    relink_unpacked
    wrap_unpacked
    use_unpacked_tools
}

# fakeroot looks for its parts where the package would have put them.
wrap_unpacked() {
    local programs=$TOOLS_ROOT/usr/bin libraries
    libraries=$TOOLS_ROOT/usr/lib/$(uname -m)-linux-gnu
    [ -e "$programs/fakeroot-sysv" ] || return 0
    printf '#!/bin/sh\nexec %q --lib %q --faked %q "$@"\n' "$programs/fakeroot-sysv" \
        "$libraries/libfakeroot/libfakeroot-sysv.so" "$programs/faked-sysv" > "$programs/fakeroot"
    chmod +x "$programs/fakeroot"
}

# Links that name their target from the root of the file system (/sbin/modprobe → /bin/kmod) must stay within the folder.
relink_unpacked() {
    local link target
    find "$TOOLS_ROOT" -lname '/*' | while read -r link; do
        target=$(readlink "$link")
        target=$TOOLS_ROOT/usr/${target#/usr}
        [ ! -e "$target" ] || ln --symbolic --force --relative "$target" "$link"
    done
}
