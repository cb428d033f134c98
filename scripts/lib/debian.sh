# shellcheck shell=bash
# Packages from Debian without touching the machine's own package state: lists and archives are ours, under the cache, the
# mirror is the one that apt on this machine is configured with, signatures are checked as always. So it works without
# root, beside broken third-party sources, and leaves no trace outside the cache.
# Needs common.sh and select_arch before.

DEBIAN_SUITE=bookworm
DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

# The machine's mirrors, one `URI RELEASE` a line. --no-release-info: also before the machine's first `apt-get update`.
configured_mirrors() {
    env -u APT_CONFIG apt-get indextargets --no-release-info --format '$(CREATED_BY) $(REPO_URI) $(RELEASE)' 2> /dev/null |
        awk '$1 == "Packages" { print $2, $3 }' | sort -u
}

# mirror_of RELEASE-PATTERN: the first configured mirror that serves such a release, or nothing.
mirror_of() { configured_mirrors | awk -v pattern="^($1)\$" '$2 ~ pattern { print $1; exit }'; }

# Writes our apt configuration for $DEB_ARCH and points APT_CONFIG at it.
debian_configure() {
    command -v apt-get > /dev/null || die "apt-get is missing" "the lab and the images are made of Debian's packages; use a Debian-like machine"
    [ -r "$DEBIAN_KEYRING" ] || die "Debian's signing keys are missing ($DEBIAN_KEYRING)" "install the package debian-archive-keyring"
    APT_HOME=$CACHE/apt/$DEB_ARCH
    export APT_CONFIG=$APT_HOME/apt.conf
    mkdir -p "$APT_HOME/lists/partial" "$APT_HOME/archives/partial"
    local mirror security options="arch=$DEB_ARCH signed-by=$DEBIAN_KEYRING"
    mirror=${CUMULET_DEBIAN_MIRROR:-$(mirror_of "$DEBIAN_SUITE|trixie|forky|sid|stable|oldstable|testing|unstable")}
    [ -n "$mirror" ] || die "apt on this machine has no Debian mirror configured" "set CUMULET_DEBIAN_MIRROR to the address of one"
    security=$(mirror_of '[a-z]*-security')
    {
        echo "deb [$options] $mirror $DEBIAN_SUITE main"
        echo "deb [$options] $mirror $DEBIAN_SUITE-updates main"
        echo "deb [$options] $mirror $DEBIAN_SUITE-backports main"
        [ -z "$security" ] || echo "deb [$options] $security $DEBIAN_SUITE-security main"
    } > "$APT_HOME/sources.list.new"
    # The sources changed: the lists on disk are of no use.
    cmp -s "$APT_HOME/sources.list.new" "$APT_HOME/sources.list" || rm -f "$APT_HOME/updated"
    mv "$APT_HOME/sources.list.new" "$APT_HOME/sources.list"
    cat > "$APT_CONFIG" <<CONFIG
APT::Architecture "$DEB_ARCH";
Dir::Etc::SourceList "$APT_HOME/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "$APT_HOME/lists";
Dir::Cache "$APT_HOME";
Dir::Cache::archives "$APT_HOME/archives";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "3";
CONFIG
    # Another architecture than the machine's: what is installed here says nothing about it.
    if [ "$DEB_ARCH" != "$(dpkg --print-architecture)" ]; then
        : > "$APT_HOME/status"
        echo "Dir::State::status \"$APT_HOME/status\";" >> "$APT_CONFIG"
    fi
}

# Brings the lists up to date, at most once a day.
debian_update() {
    [ -n "$(find "$APT_HOME/updated" -mtime -1 2> /dev/null)" ] && return
    say "reading Debian's package lists ($DEBIAN_SUITE, $DEB_ARCH) from this machine's mirror"
    apt-get -q update > "$APT_HOME/update.log" 2>&1 || die "reading Debian's package lists failed: $(grep -m1 '^E:' "$APT_HOME/update.log")" "see $APT_HOME/update.log; is the mirror reachable?"
    touch "$APT_HOME/updated"
}

# fetch_and_unpack FOLDER PACKAGE[=VERSION]…: downloads exactly these packages and unpacks them, without installing. A file
# system laid out as Debian's own is the result, its /bin, /sbin and /lib merged under /usr as on every Debian 12.
fetch_and_unpack() {
    local folder=$1 name
    shift
    mkdir -p "$folder"
    with_lock "archives-$DEB_ARCH" fetch_archives "$@"
    for name in "${ARCHIVES[@]}"; do
        dpkg-deb --extract "$APT_HOME/archives/$name" "$folder"
    done
    for name in bin sbin lib lib64; do
        if [ -d "$folder/$name" ] && [ ! -L "$folder/$name" ]; then
            mkdir -p "$folder/usr"
            cp -a --link "$folder/$name" "$folder/usr/" && rm -rf "${folder:?}/$name"
        fi
    done
}

# Downloads what is not in archives/ yet; apt checks every file against the signed lists, old ones too. Sets ARCHIVES to
# their names.
fetch_archives() {
    local name
    mapfile -t ARCHIVES < <(LC_ALL=C apt-get -q --print-uris download "$@" 2> /dev/null | awk '{ print $2 }')
    for name in "${ARCHIVES[@]}"; do
        [ -e "$APT_HOME/archives/$name" ] || { say "downloading $(describe_packages "$@")" && break; }
    done
    (cd "$APT_HOME/archives" && apt-get -q download "$@" > "$APT_HOME/download.log" 2>&1) || {
        rm -f "$APT_HOME/updated" # the lists may be too old: the next attempt reads them anew
        die "downloading $* failed: $(grep -m1 '^E:' "$APT_HOME/download.log")" "try again; see $APT_HOME/download.log"
    }
}

# The package of Debian's current cloud kernel.
cloud_kernel() { apt-cache depends "linux-image-cloud-$DEB_ARCH" | awk '/Depends: linux-image-/ { print $2 }'; }

# "N packages, X MB (a b c …)" for the progress line.
describe_packages() {
    local bytes
    bytes=$(apt-cache show --no-all-versions "$@" 2> /dev/null | awk '/^Size:/ { sum += $2 } END { print sum + 0 }')
    printf '%s package(s), %d MB (%s)' "$#" $((bytes / 1000000 + 1)) "$(printf '%s ' "$@" | cut -c1-60)"
}

# closure_of [-t SUITE] PACKAGE…: the packages, as NAME=VERSION, that installing these would bring to this machine.
closure_of() {
    LC_ALL=C apt-get -s -q -o Debug::NoLocking=true install --no-install-recommends "$@" |
        awk '$1 == "Inst" { version = $3; if (version ~ /^\[/) version = $4; gsub(/[()]/, "", version); sub(/:.*/, "", $2); print $2 "=" version }'
}
