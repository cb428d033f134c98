# shellcheck shell=bash
# Counts what passed and what failed, over several scripts that call one another: every step and every test is a line in
# the file $RESULTS, and the last line printed is computed from it. Needs common.sh before.

if [ -z "${RESULTS:-}" ]; then
    RESULTS=$(mktemp "$CACHE/results.XXXXXX")
    export RESULTS RESULTS_OWNER=$$
    trap 'rm -f "$RESULTS"' EXIT
fi

# record PASSED FAILED NAME
record() { printf '%s %s %s\n' "$@" >> "$RESULTS"; }

# step NAME COMMAND…: runs it, whatever it does; the caller goes on.
step() {
    local name=$1 begin=$EPOCHREALTIME
    shift
    say "── $name"
    if "$@"; then
        record 1 0 "$name"
        say "   $name: passed ($(seconds_since "$begin") s)"
    else
        record 0 1 "$name"
        say "   $name: FAILED ($(seconds_since "$begin") s)"
    fi
}

# step_if_installed PROGRAM NAME COMMAND…
step_if_installed() {
    local program=$1
    shift
    if command -v "$program" > /dev/null; then step "$@"; else say "── $1: left out, $program is not installed"; fi
}

# The end: for the script that began the count, every failure and the sum; its status is the answer.
finish() {
    local failed
    failed=$(awk '{ sum += $2 } END { print sum + 0 }' "$RESULTS")
    if [ "$RESULTS_OWNER" = $$ ]; then
        awk '$2 > 0 { n = $2; $1 = $2 = ""; print "failed:" $0 (n > 1 ? " (" n ")" : "") }' "$RESULTS" >&2
        awk '{ passed += $1; failed += $2 } END { printf "%d passed, %d failed\n", passed, failed }' "$RESULTS"
        [ "$failed" -eq 0 ]
    fi
}
