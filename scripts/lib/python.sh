# shellcheck shell=bash
# The EC2 clients from PyPI that the tests drive, in a virtual environment of their own under the cache: Debian's are too old
# to be pointed at another endpoint, and the machine's Python stays as it is. Needs common.sh and tools.sh before.

# use_python REQUIREMENTS…: makes the environment for these requirement files, once for each content, and sets PYTHON.
use_python() {
    local file requirements=() home
    for file in "$@"; do requirements+=(-r "$REPO/$file"); done
    home=$CACHE/python/$(digest_of "$@")
    PYTHON=$home/bin/python
    [ -e "$home/done" ] || with_lock python make_python "$home"
}

make_python() {
    [ ! -e "$1/done" ] || return 0
    need_tools test
    say "fetching the EC2 clients for the tests into $1"
    rm -rf "$1"
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check "${requirements[@]}" ||
        die "installing the EC2 clients failed" "is PyPI reachable? the list: ${requirements[*]}"
    touch "$1/done"
}
