#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Without the servers the mount works on; an fsync says so in time; what is pending survives an unmount and a kill, and
# arrives when the servers are back.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
lab mount a "$a" -o fsync_timeout=2,timeout=2,drain=3 || fail "mount a"
must mkdir "$a/d"
random_file "$work/known" 200000
must cp "$work/known" "$a/known"
settled

servers_down() { must lab kill metad && must lab kill blockd-hq; }
servers_up() { must lab start metad && must lab start blockd-hq; }
status() { lab steadfs a status "$a" --json; }
online() { status | jq -e '.online == true'; }
pending() { status | jq -e '[.namespaces[].pending_files] | add > 0'; }
idle() { status | jq -e '[.namespaces[].pending_files] | add == 0'; }

servers_down
must cmp "$work/known" "$a/known"
random_file "$work/x" 3000000
must cp "$work/x" "$a/d/x"
must cmp "$work/x" "$a/d/x"
must mkdir "$a/d/new"
must mv "$a/known" "$a/d/new/known"
must ln "$a/d/new/known" "$a/d/second"
must cmp "$work/known" "$a/d/new/known"
eventually 30 pending
from=$SECONDS
must_fail "timed out" dd if=/dev/urandom of="$a/d/fsynced" bs=4096 count=1 conv=fsync
[ $((SECONDS - from)) -le 15 ] || fail "an fsync with a time-out of 2 s took $((SECONDS - from)) s"
must cp "$a/d/fsynced" "$work/fsynced"
must_fail . lab steadfs a sync --timeout 1 "$a"

# killed with pending work: it is all still there, before the servers are
must lab kill a
must lab start a
must cmp "$work/x" "$a/d/x"
must cmp "$work/known" "$a/d/second"
must cmp "$work/fsynced" "$a/d/fsynced"

# unmounted with pending work: kept, and told
pid=$(lab pid a)
plain_umount "$a" || fail "umount"
until_ok 60 gone "$pid" || fail "the mount's process does not end"
servers_up
must lab mount a "$a"
eventually 60 idle
eventually 10 online
must dd if=/dev/urandom of="$a/d/fsynced" bs=4096 count=1 conv=fsync
settled
lab_mount b
must cmp "$work/x" "$b/d/x"
must cmp "$work/known" "$b/d/new/known"
same_tree "$a" "$b"

# what was looked at is there without the server, or known not to be; what was not cannot be told: EIO, not ENOENT
mkdir "$work/c"
lab mount c "$work/c" -o timeout=2,fill=no || fail "mount c"
ls "$work/c/d" >/dev/null || fail "ls"
must lab kill metad
must stat "$work/c/d/second"
must_fail "no such file" stat "$work/c/d/none"
must_fail "input/output error" stat "$work/c/d/new/known"
must_fail "input/output error" stat "$work/c/d/new/none"
must_fail "input/output error" ls "$work/c/d/new"
must_fail "input/output error" mkdir "$work/c/d/new/dir"
must lab start metad
must stat "$work/c/d/new/known"
must_fail "no such file" stat "$work/c/d/new/none"
must lab steadfs c unmount "$work/c"

# … nor in vain where there was a quiet moment before: then all names are here, and what was read; the rest is not
mkdir "$work/e"
lab mount e "$work/e" -o timeout=2 || fail "mount e"
cat "$work/e/d/second" >/dev/null || fail "cat"
all_known() { lab steadfs e status "$work/e" --json | jq -e 'all(.namespaces[]; .names_known)'; }
eventually 30 all_known
must lab kill metad && must lab kill blockd-hq
must stat "$work/e/d/new/known"
must_fail "no such file" stat "$work/e/d/new/none"
must_fail "input/output error" cat "$work/e/d/x"
must cmp "$work/known" "$work/e/d/second"
servers_up
must cmp "$work/x" "$work/e/d/x"
must lab steadfs e unmount "$work/e"

# unmount waits until all is committed
random_file "$work/y" 5000000
must cp "$work/y" "$a/y"
must lab steadfs a unmount "$a"
eventually 10 cmp "$work/y" "$b/y"
passed "offline"
