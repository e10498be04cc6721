#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Locks are of a file, not of a version of it: who has an old version open here and who opens the new one meet.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
lab_mount a b
echo one >"$a/file"
settled
cat >"$work/holder" <<'EOF2'
import fcntl, os, sys
path, note = sys.argv[1:]
def refused(f):
    try:
        f()
    except BlockingIOError:
        return True
    return False
old = os.open(path, os.O_RDWR)
os.pread(old, 99, 0)  # what was never read is not kept
fcntl.flock(old, fcntl.LOCK_EX)
fcntl.fcntl(old, fcntl.F_OFD_SETLK, b"\x01\0\0\0\0\0\0\0" + bytes(24))  # F_WRLCK, everything
print("held", flush=True)
sys.stdin.readline()  # now the file was changed elsewhere
new = os.open(path, os.O_RDWR)
if os.pread(old, 99, 0) != b"one\n" or os.pread(new, 99, 0) != b"three\n":
    sys.exit("not two versions: %r %r" % (os.pread(old, 99, 0), os.pread(new, 99, 0)))
if not refused(lambda: fcntl.flock(new, fcntl.LOCK_SH | fcntl.LOCK_NB)):
    sys.exit("both hold the file")
if not refused(lambda: fcntl.lockf(new, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)):
    sys.exit("both hold a range")
os.close(old)
fcntl.flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)
fcntl.lockf(new, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
EOF2
mkfifo "$work/go"
python3 "$work/holder" "$b/file" x <"$work/go" >"$work/said" 2>&1 &
holder=$!
children+=("$holder")
exec 3>"$work/go"
eventually 30 grep -q held "$work/said"
echo three >"$a/file"
settled
eventually 30 grep -q three "$b/file"
echo >&3
wait "$holder" || { cat "$work/said"; fail "locks of two versions"; }

# databases hold on to these: two programs that add to one file, each under the lock
adder() { # MOUNT-PATH WHO
    for _ in $(seq 100); do
        flock "$1.lock" sh -c "n=\$(cat '$1'); echo \$((n + 1)) >'$1'" || return 1
    done
}
echo 0 >"$b/count"
adder "$b/count" & one=$!
adder "$b/count" & two=$!
wait "$one" || fail "adding"
wait "$two" || fail "adding"
same "count of two who take turns" "$(cat "$b/count")" 200
passed "locks"
