#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# With the servers stopped, hundreds of processes blocked in fsync and in read leave everything local in the mount
# answering; a process killed inside fsync goes away, and no other signal ends its call; and all of them finish when the
# servers go on.
# alone: six hundred processes
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
bound=5 # seconds for what should take milliseconds, on a machine with six hundred more processes

lab_up
lab mount a "$a" || fail "mount a"
lab mount b "$b" -o fsync_timeout=300,timeout=300 || fail "mount b"
must mkdir "$a/far" "$a/near"
for i in $(seq 100); do random_file "$a/far/$i" 5000; done
settled
ls -l "$b/far" "$b/near" >"$work/out"
echo here >"$b/near/file"
settled

lab kill metad STOP
lab kill blockd-hq STOP
# one process each; a line when it is about to block, another when it is through
cat >"$work/crowd.py" <<'PY'
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True) # os.fsync asks again after a signal
kind, top, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
for i in range(1, n + 1):
    if os.fork() == 0:
        if kind == 'fsync':
            fd = os.open('%s/fsync-%d' % (top, i), os.O_CREAT | os.O_RDWR, 0o644)
            os.write(fd, os.urandom(100))
            signal.signal(signal.SIGUSR1, lambda *_: None)
            os.write(1, b'blocked %d\n' % os.getpid())
            if libc.fsync(fd) != 0:
                os.write(1, b'failed %s\n' % os.strerror(ctypes.get_errno()).encode())
                os._exit(1)
        else:
            fd = os.open('%s/%d' % (top, i), os.O_RDONLY)
            os.write(1, b'blocked %d\n' % os.getpid())
            assert len(os.read(fd, 5000)) == 5000
        os.write(1, b'through %d\n' % os.getpid())
        os._exit(0)
bad = 0
for i in range(n):
    bad |= os.wait()[1] not in (0, 9)
sys.exit(bad)
PY
python3 "$work/crowd.py" fsync "$b/near" 500 >"$work/fsync" 2>"$work/fsync.err" &
fsyncs=$!
python3 "$work/crowd.py" read "$b/far" 100 >"$work/read" 2>"$work/read.err" &
reads=$!
children+=("$fsyncs" "$reads")
count() { [ "$(grep -c "$1" "$2")" = "$3" ]; }
eventually 60 count blocked "$work/fsync" 500
eventually 60 count blocked "$work/read" 100

within() { timeout -k 1 "$bound" "$@" >"$work/out" 2>&1 || { cat "$work/out"; fail "not within $bound s while others wait: $*"; }; }
for i in $(seq 20); do
    within ls -l "$b/near"
    within stat "$b/far/1"
    within cat "$b/near/file"
    within dd if=/dev/zero of="$b/near/local-$i" bs=64K count=4
    within mkdir "$b/near/dir-$i"
    within mv "$b/near/local-$i" "$b/near/dir-$i/moved"
    within rm "$b/near/dir-$i/moved"
done
same "fsyncs through while the servers stand still" "$(grep -c through "$work/fsync")" 0
same "reads through" "$(grep -c through "$work/read")" 0

mapfile -t callers < <(sed -n 's/^blocked //p' "$work/fsync")
kill -USR1 "${callers[@]:20:100}"
for victim in $(sed -n 's/^blocked //p' "$work/fsync" | head -n 20) $(sed -n 's/^blocked //p' "$work/read" | head -n 5); do
    kill -9 "$victim"
    freed() { ! grep -qs '^State:[[:blank:]]*[RSD]' "/proc/$victim/status"; }
    until_ok "$bound" freed || fail "a killed process stays in its call"
done
within ls -l "$b/near"

kill -USR1 "${callers[@]:100:100}"
within ls -l "$b/near"
same "calls that a signal ended" "$(grep failed "$work/fsync")" ""

lab kill metad CONT
lab kill blockd-hq CONT
eventually 120 count through "$work/fsync" 480
eventually 60 count through "$work/read" 95
wait "$fsyncs" || { cat "$work/fsync.err"; fail "an fsync failed"; }
wait "$reads" || { cat "$work/read.err"; fail "a read failed"; }
settled
same "files on the other side" "$(find "$a/near" -name 'fsync-*' -size 100c | wc -l)" 500
passed "nothing hangs"
