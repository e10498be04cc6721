#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test_unsynced.sh unsynced.so: what a program synced is there after the library's kill, what it did not sync
# is not; and a sync that is ignored is missed.
set -u
lib=$1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failed=0

# Runs a Python program in an empty watched directory; it ends by the library's kill.
victim() { # IGNORE PROGRAM
    local status
    rm -rf "$work/data" "$work/stash"
    mkdir "$work/data" "$work/stash"
    (cd "$work/data" && printf 'base' >synced-before && mkdir d && printf 'old' >d/kept && sync d)
    (UNSYNCED_PREFIX=$work/data UNSYNCED_STASH=$work/stash UNSYNCED_IGNORE=$1 \
        UNSYNCED_TRACE=$work/trace LD_PRELOAD=$lib exec python3 -c "
import os, signal, sqlite3
os.chdir('$work/data')
def put(name, text, flags=os.O_CREAT | os.O_RDWR, sync=False, at=0):
    fd = os.open(name, flags, 0o644)
    os.pwrite(fd, text.encode(), at)
    if sync: os.fsync(fd)
    return fd
def dirsync(name):
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY); os.fsync(fd); os.close(fd)
$2
os.kill(os.getpid(), signal.SIGUSR2)
signal.pause()
") >"$work/err" 2>&1
    status=$?
    [ "$status" = 137 ] || { echo "not killed:"; cat "$work/err"; failed=1; }
    [ -z "$(find "$work/stash" -maxdepth 1 -type f)" ] || { echo "left in the stash:"; ls -l "$work/stash"; failed=1; }
}

expect() { # WHAT COMMAND…
    local what=$1
    shift
    "$@" || { echo "FAILED: $what"; failed=1; }
}
holds() { [ "$(cat "$work/data/$1" 2>/dev/null)" = "$2" ]; }
absent() { [ ! -e "$work/data/$1" ]; }

victim '' "put('synced-before', 'BASE and more'); put('new', 'x', sync=True)"
expect 'an unsynced write is undone' holds synced-before base
expect 'a name without a sync of its directory is undone' absent new

victim '' "
fd = put('synced-before', 'BASE', sync=True)
os.pwrite(fd, b'lost', 2)
put('new', 'x', sync=True); dirsync('.')
put('never', 'x')"
expect 'a synced write stays, a later one is undone' holds synced-before BASE
expect 'a synced name stays' holds new x
expect 'an unsynced name goes' absent never

victim '' "
os.unlink('synced-before')
put('tmp', 'new', sync=True)
os.rename('tmp', 'd/kept')"
expect 'an unsynced unlink is undone' holds synced-before base
expect 'an unsynced rename brings back what it replaced' holds d/kept old
expect 'and its source was never there' absent tmp

victim '' "
put('tmp', 'new', sync=True); os.rename('tmp', 'd/kept'); dirsync('d')
os.mkdir('e'); put('e/f', 'x', sync=True); dirsync('e')
fd = put('synced-before', 'BASE', sync=True); os.ftruncate(fd, 1)"
expect 'a rename is kept by its new directory' holds d/kept new
expect 'an unsynced directory goes with what is in it' absent e
expect 'an unsynced truncation is undone' holds synced-before BASE

victim '' "
put('synced-before', '', os.O_RDWR | os.O_TRUNC)
os.rename('d', 'd2')"
expect 'an unsynced O_TRUNC is undone' holds synced-before base
expect 'an unsynced rename of a directory is undone' holds d/kept old

victim '' "put('synced-before', 'BASE', os.O_RDWR | os.O_DSYNC)"
expect 'O_DSYNC syncs' holds synced-before BASE

victim 'fsync:*/synced-*' "put('synced-before', 'BASE', sync=True)"
expect 'an ignored sync is noticed' holds synced-before base

# In rollback mode, FULL does not make a commit durable, only consistent: EXTRA syncs the directory, too.
for mode in wal delete; do
    program="
db = sqlite3.connect('db')
db.execute('pragma journal_mode=$mode'); db.execute('pragma synchronous=extra')
db.execute('create table t (x)'); db.commit()
for i in range(50):
    db.execute('insert into t values (?)', (i,)); db.commit()"
    victim '' "$program"
    expect "sqlite $mode: every commit is there" \
        [ "$(sqlite3 "$work/data/db" 'select count(*) from t')" = 50 ]
    case $mode in wal) which=db-wal ;; *) which=db ;; esac
    victim "any:*/$which" "$program"
    expect "sqlite $mode: without its syncs commits are lost" \
        [ "$(sqlite3 "$work/data/db" 'select count(*) from t' 2>/dev/null)" != 50 ]
done
exit "$failed"
