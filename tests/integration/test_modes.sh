#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What "returned" means in each mode of fsync= and close=, as README's table has it, against a kill of the mount, a power
# failure of its machine (a library takes back what was not synced to the local disk), and the loss of its machine (the
# state directory is gone). And the rest of close=commit: its errors, its time-out, and that it blocks nobody else.
# time-out: 420
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
unsynced=$build/tests/lib/unsynced.so
case $(nm -D "$build"/fs/mount.fuse.steadfs 2>/dev/null) in
*__asan_init* | *__tsan_init*) skip "a preloaded library and a sanitizer each want to come first" ;;
esac
mkdir "$work/stash"

cat >"$work/write.py" <<'PY'
import os, sys
how, path, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
os.write(fd, b'%0*d' % (size, size))
if how == 'fsync':
    os.fsync(fd)
    os._exit(0)  # what the kernel's close does is not the point
if how == 'append':
    os.fsync(fd)
    input()
    os.write(fd, b'%0*d' % (size, size))
os.close(fd)
PY
save() { python3 "$work/write.py" "$@" 2>"$work/err"; }
whole() { [ "$(cat "$1" 2>/dev/null)" = "$(printf '%0*d' "$2" "$2")" ]; }
servers() { lab kill metad "$1" && lab kill blockd-hq "$1"; }

lab_up
must lab mount b "$b"
n=0

# a fresh device on $a with OPTIONS, under the library if `power` is wanted; the servers stand still after `mkdir`
device() { # OPTIONS [watched]
    n=$((n + 1))
    c=m$n
    rm -f "$lab/env/$c"
    if [ "${2:-}" = watched ]; then
        printf '%s\n' "LD_PRELOAD=$unsynced" "UNSYNCED_PREFIX=$lab/clients/$c${WATCHED:-}" "UNSYNCED_STASH=$work/stash" \
            "UNSYNCED_TRACE=$work/trace" "UNSYNCED_IGNORE=${IGNORE:-}" >"$lab/env/$c"
    fi
    must lab mount "$c" "$a" -o "$1,drain=0.1"
    must mkdir "$a/$c"
    must sync "$a/$c"
}
ended() { ! lab pid "$c"; }
over() { # the device is done with
    plain_umount "$a" 2>/dev/null || umount -l "$a" 2>/dev/null || fusermount3 -uz "$a"
    until_ok 30 ended || fail "$c does not end"
}
killed() {
    must lab kill "$c"
    must lab start "$c"
}
power_off() {
    local pid
    pid=$(lab pid "$c") || fail "$c does not run"
    lab kill "$c" USR2 >"$work/out" 2>&1
    until_ok 60 gone "$pid" || fail "$c does not end by the library"
    rm -f "$lab/env/$c"
    rm -f "$lab/clients/$c/blocks/boot" # it tells that the machine is another boot of it
    [ -z "${power_off_without_servers:-}" ] || { must lab start metad && must lab start blockd-hq; }
    must lab start "$c"
}
lost() { # the machine, for good
    must lab kill "$c"
    plain_umount "$a" 2>/dev/null || umount -l "$a"
    rm -rf "$lab/clients/$c"
}

# close=async: a kill loses nothing that was closed
device close=async,timeout=2
servers STOP
save close "$a/$c/f" 5000 || fail "close=async needs no server: $(cat "$work/err")"
save close "$a/$c/large" 3000000 || fail "close=async needs no server: $(cat "$work/err")"
killed
{ whole "$a/$c/f" 5000 && whole "$a/$c/large" 3000000; } || fail "close=async: closed files are lost by a kill"
servers CONT
eventually 60 whole "$b/$c/large" 3000000
over

# fsync=local, close=local: power loss loses nothing, and no server is needed
for how in fsync close; do
    device "$how=local,timeout=2" watched
    servers STOP
    save "$how" "$a/$c/f" 5000 || fail "$how=local needs no server: $(cat "$work/err")"
    save "$how" "$a/$c/large" 3000000 || fail "$how=local needs no server: $(cat "$work/err")"
    power_off
    { whole "$a/$c/f" 5000 && whole "$a/$c/large" 3000000; } || fail "$how=local: lost by power loss"
    servers CONT
    eventually 60 whole "$b/$c/f" 5000
    eventually 60 whole "$b/$c/large" 3000000
    over
done
# … and it is those syncs that do it: with them left out it is noticed
IGNORE="any:$lab/clients/*/blocks/*;any:$lab/clients/*/tree.db*" device close=local,timeout=2 watched
servers STOP
save close "$a/$c/f" 5000 || fail "close=local: $(cat "$work/err")"
servers KILL # so that the change cannot get away before
power_off_without_servers=1 power_off
! whole "$a/$c/f" 5000 || fail "without the local syncs nothing was lost: this test is blind"
over

# what a later append puts in the place of fsynced bytes is on disk before the tree, whichever of the two a disk keeps
for mode in commit local; do
    WATCHED=/blocks device "fsync=$mode,timeout=2" watched
    mkfifo "$work/go"
    save append "$a/$c/log" 60000 <"$work/go" &
    exec 7>"$work/go"
    saved() { [ "$(stat -c %s "$a/$c/log" 2>/dev/null)" = "$1" ]; }
    eventually 20 saved 60000
    fsynced() { [ "$(stat -c %s "$b/$c/log" 2>/dev/null)" = 60000 ]; }
    eventually 20 fsynced
    servers STOP
    echo >&7
    exec 7>&-
    wait $! || fail "appending: $(cat "$work/err")"
    rm "$work/go"
    power_off
    servers CONT
    [ "$(cat "$a/$c/log")" = "$(printf '%060000d%060000d' 60000 60000)" ] ||
        fail "fsync=$mode: fsynced bytes are lost by an append, a close and power loss"
    over
done

# what is written over fsynced bytes and never synced may be lost with the power; they are not
cat >"$work/over.py" <<'PY'
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
if sys.argv[2] == 'make':
    os.write(fd, bytes(300000))
else:
    os.pwrite(fd, b'x' * 4096, 65536)
if sys.argv[2] != 'loose':
    os.fsync(fd)
os.close(fd)
PY
WATCHED=/blocks device "fsync=commit,timeout=5" watched
python3 "$work/over.py" "$a/$c/db" make || fail "a new file: fsync failed"
python3 "$work/over.py" "$a/$c/doc" make || fail "a new file: fsync failed"
eventually 20 cmp -s "$a/$c/db" "$b/$c/db"
eventually 20 cmp -s "$a/$c/doc" "$b/$c/doc"
servers STOP
python3 "$work/over.py" "$a/$c/db" loose
head -c 5000 /dev/urandom >"$a/$c/saved" && mv "$a/$c/saved" "$a/$c/doc" # as some programs save
power_off
killed # the next start knows it, too
servers CONT
zeros() { cmp -s "$a/$c/db" <(head -c 300000 /dev/zero); }
eventually 20 zeros
python3 "$work/over.py" "$a/$c/db" synced || fail "after power loss: fsync of the file that lost what was not synced"
eventually 20 cmp -s "$a/$c/db" "$b/$c/db"
! zeros || fail "what was fsynced after power loss is not there"
eventually 20 cmp -s "$a/$c/doc" "$b/$c/doc"
cmp -s "$a/$c/doc" <(head -c 300000 /dev/zero) || fail "what was fsynced under the name is not there any more"
must grep -q "power was lost before what was written here was synced" "$lab/log/$c.log"
over

# fsync=commit, close=commit: the machine can go
for how in fsync close; do
    device "$how=commit"
    save "$how" "$a/$c/f" 5000 || fail "$how=commit: $(cat "$work/err")"
    save "$how" "$a/$c/large" 3000000 || fail "$how=commit: $(cat "$work/err")"
    lost
    eventually 10 whole "$b/$c/f" 5000
    eventually 10 whole "$b/$c/large" 3000000
done

# close=commit says what fsync would, and keeps the change: no server, then quota
device close=commit,fsync_timeout=1
mkdir "$work/a1"
must lab mount a1 "$work/a1" -o close=commit,timeout=3
must ls "$work/a1" # what it does not know it would ask for
servers STOP
from=$SECONDS
! save close "$a/$c/late" 5000 || fail "close=commit returned without the servers"
grep -q "timed out" "$work/err" || { cat "$work/err"; fail "close=commit: not ETIMEDOUT"; }
[ $((SECONDS - from)) -le 15 ] || fail "a close with a time-out of 1 s took $((SECONDS - from)) s"
whole "$a/$c/late" 5000 || fail "a close that timed out lost what it closed"
for i in $(seq 100); do
    python3 "$work/write.py" close "$work/a1/wait-$i" 100 2>/dev/null &
    children+=($!)
done
there() { [ "$(find "$work/a1" -maxdepth 1 -name 'wait-*' -size 100c | wc -l)" = 100 ]; }
eventually 60 there
for _ in $(seq 20); do
    { timeout 5 mkdir "$work/a1/d" && timeout 5 rmdir "$work/a1/d"; } || fail "waiting closes block others"
done
timeout -k 1 5 cat "$work/a1/wait-1" >"$work/out" || fail "waiting closes block a read"
kill -9 "${children[-1]}"
killed_in_close() { ! grep -qs '^State:[[:blank:]]*[RSD]' "/proc/${children[-1]}/status"; }
until_ok 10 killed_in_close || fail "a process killed in close stays there"
servers CONT
eventually 60 whole "$b/$c/late" 5000
all_through() { [ "$(find "$b" -maxdepth 1 -name 'wait-*' -size 100c | wc -l)" = 100 ]; }
eventually 60 all_through
must lab steadfs admin admin quota alice --bytes 1000
! save close "$a/$c/over" 50000 || fail "close=commit over quota returned 0"
grep -qi "quota" "$work/err" || { cat "$work/err"; fail "close=commit: not EDQUOT"; }
whole "$a/$c/over" 50000 || fail "a close over quota lost what it closed"
must lab steadfs admin admin quota alice --bytes 0
passed "modes"
