# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the integration tests share. A test sources it first, then calls `lab_up`, and ends with `passed`.
#
#   $work      a scratch directory on a disk (removed at the end; kept with KEEP=1)
#   $lab       the lab's directory; $a $b: mount points of alice's devices `a` and `b`
#   $build     the build directory under test
#
# Every test takes the lab down and leaves no process, no mount and no file, also when it fails or is stopped;
# a failure prints the ends of the lab's logs first. Nothing here waits for time to pass: `until_ok` waits for
# an event, up to a deadline.
set -u

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${STEADFS_BUILD:-$top/build}
export STEADFS_BUILD=$build
work=$(mktemp -d "${TMPDIR:-/tmp}/steadfs-$(basename "$0" .sh).XXXXXX") || exit 1
lab=$work/lab
a=$work/a b=$work/b
labs=()     # directories of labs that are up
children=() # process ids to end at the cleanup
mkdir "$a" "$b"

say() { printf '%s\n' "$*"; }

# Ends the test as failed.
fail() {
    local d f
    say "FAILED: $*"
    say "at: $(caller 0 2>/dev/null)"
    for d in "${labs[@]}"; do
        for f in "$d"/log/*.log; do
            [ ! -s "$f" ] || { say "--- $f"; tail -n 25 "$f"; }
        done
    done
    say "FAILED: $*" # the end is what is read first
    exit 1
}

skip() {
    say "$*"
    exit 77
}

passed() {
    say "passed: $*"
    exit 0
}

# The command must succeed; its output is shown only if it does not.
must() {
    "$@" >"$work/out" 2>&1 || { say "exit status $?"; cat "$work/out"; fail "$*"; }
}

# The command must fail, and what it prints must match the pattern.
must_fail() { # PATTERN COMMAND…
    local pattern=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        cat "$work/out"
        fail "should have failed: $*"
    fi
    grep -qiE -- "$pattern" "$work/out" || { cat "$work/out"; fail "no '$pattern' in what it says: $*"; }
}

same() { # WHAT GOT WANT
    [ "$2" = "$3" ] || fail "$1: got '$2', should be '$3'"
}

# Until the command succeeds, SECONDS at most.
until_ok() { # SECONDS COMMAND…
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -le "$end" ] || return 1
        sleep 0.02
    done
}

eventually() { # SECONDS COMMAND…
    until_ok "$@" || fail "not within $1 s: ${*:2}"
}

# Writes new files in DIR and fsyncs each, until $work/stop is there; the names of those that failed go to $work/failed.
writer_start() { # DIR
    python3 -c '
import os, sys
top, stop, failed, count = sys.argv[1:]
n = 0
while not os.path.exists(stop):
    fd = os.open("%s/w%d" % (top, n), os.O_CREAT | os.O_WRONLY)
    os.write(fd, os.urandom(5000))
    try:
        os.fsync(fd)
    except OSError as e:
        open(failed, "a").write("w%d %s\n" % (n, e))
    os.close(fd)
    n += 1
    open(count, "w").write(str(n))
' "$1" "$work/stop" "$work/failed" "$work/count" >"$work/writer" 2>&1 &
    writer_pid=$!
    children+=("$writer_pid")
}
written() { [ "$(cat "$work/count" 2>/dev/null || echo 0)" -gt "$1" ]; }
go_on() { eventually 30 written $(($(cat "$work/count" 2>/dev/null || echo 0) + 20)); } # until 20 more are written
writer_stop() {
    : >"$work/stop"
    wait "$writer_pid" || { cat "$work/writer"; fail "the writer failed"; }
}

lab() { # VERB ARGS…: on $lab
    local verb=$1
    shift
    "$top/tools/lab" "$verb" "$lab" "$@"
}

lab_up() { # ARGS of lab up
    labs+=("$lab")
    "$top/tools/lab" up "$lab" "$@" || fail "lab up"
}

# Mounts alice's devices, each on the variable of its name: lab_mount a b
lab_mount() {
    local c
    for c; do
        lab mount "$c" "${!c}" || fail "lab mount $c"
    done
}

settled() { lab wait --timeout "${1:-60}" || fail "not settled"; }

# What a block server received and gave in blocks since it was started.
put_bytes() { lab traffic | awk -v n="blockd-$1" '$1 == n { print $5 }'; }
get_bytes() { lab traffic | awk -v n="blockd-$1" '$1 == n { print $6 }'; }
# Bytes of HTTP in both directions, all servers.
traffic() { lab traffic | awk '{ n += $3 + $4 } END { print n + 0 }'; }

# One line per entry of a tree: everything that must be equal on two devices.
# Owners only as root: nobody else can keep those of what is copied in.
listing() {
    local owners=-
    [ "$(id -u)" != 0 ] || owners=%U:%G
    (cd "$1" && find . -printf "%P|%y|%m|$owners|"'%n|%l|%T@|' \( -type d -printf '\n' -o -printf '%s\n' \) | sort)
}

# st_nlink of directories is the filesystem's own business on one side of a copy from elsewhere.
same_tree() { # A B [files]: contents and attributes; `files`: link counts of directories not compared
    # of special files diff only says that they are; the listing compares them
    diff -r --no-dereference "$1" "$2" | grep -vE '^File .* is a (.*) while file .* is a \1$' >"$work/diff"
    [ ! -s "$work/diff" ] || { head -n 20 "$work/diff"; fail "trees differ: $1 $2"; }
    if [ "${3:-}" = files ]; then
        listing "$1" | sed -E 's/^([^|]*\|d\|[^|]*\|[^|]*)\|[0-9]+\|/\1|-|/' >"$work/list.1"
        listing "$2" | sed -E 's/^([^|]*\|d\|[^|]*\|[^|]*)\|[0-9]+\|/\1|-|/' >"$work/list.2"
    else
        listing "$1" >"$work/list.1"
        listing "$2" >"$work/list.2"
    fi
    diff "$work/list.1" "$work/list.2" >"$work/diff" || { head -n 20 "$work/diff"; fail "attributes differ: $1 $2"; }
}

random_file() { # FILE BYTES
    head -c "$2" /dev/urandom >"$1"
}

# Runs a command in the background; ended at the cleanup.
background() {
    "$@" &
    children+=($!)
}

# As any program would, without a word to steadfs.
plain_umount() { if [ "$(id -u)" = 0 ]; then umount "$1"; else fusermount3 -u "$1"; fi; }

gone() { ! kill -0 "$1" 2>/dev/null; }

cleanup() {
    local status=$? p m
    trap - EXIT INT TERM
    for p in "${children[@]}"; do kill -9 "$p" 2>/dev/null; done
    for m in "${labs[@]}"; do
        # stopped servers end only when they go on
        "$top/tools/lab" down "$m" --purge >"$work/down" 2>&1 || { cat "$work/down"; status=1; }
    done
    while read -r m; do
        umount -l "$m" 2>/dev/null || fusermount3 -uz "$m"
    done < <(awk -v w="$work/" '{ gsub(/\\040/, " ", $5) } index($5, w) == 1 { print $5 }' /proc/self/mountinfo | sort -r)
    if [ -z "${KEEP:-}" ]; then rm -rf "$work"; else say "kept: $work"; fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 143' INT TERM
