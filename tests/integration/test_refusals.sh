#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the server refuses is parked: kept, named with its remedy, exportable, tried again, and it holds nothing else back:
# quota, role, membership, assignment. A conflicted copy may exceed the quota.
# time-out: 400
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
lab_up --premises hq,cloud --assign alice=hq
lab mount a "$a" -o fsync_timeout=15,drain=1 || fail "mount a"
lab mount b "$b" --account bob -o fsync_timeout=15,drain=1 || fail "mount b"
status() { lab steadfs "$1" status "${!1}" --json; }
parked() { lab steadfs "$1" parked "${!1}" --json; }
admin() { must lab steadfs admin admin "$@"; }
is_parked() { # CLIENT FILE ERRNO
    parked "$1" | jq -e --arg f "$2" --arg e "$3" 'map(select(.file == $f and .errno == $e and .remedy != "")) | length == 1'
}
none_parked() { parked "$1" | jq -e 'length == 0'; }
arrives() { cmp -s "$1" "$2"; }

# quota: a file too large is parked, small ones of the same time and later ones arrive
c=$work/c
mkdir "$c"
lab mount c "$c" || fail "mount c"
random_file "$work/large" 3000000
echo small >"$work/small"
must cp "$work/small" "$a/first"
settled
admin quota alice --bytes 1000000
must cp "$work/large" "$a/large"
for i in $(seq 20); do must cp "$work/small" "$a/small-$i"; done
eventually 30 is_parked a "$a/large" EDQUOT
for i in $(seq 20); do eventually 30 arrives "$work/small" "$work/c/small-$i"; done
must_fail "quota" dd if=/dev/zero of="$a/large" bs=1 count=1 seek=4000000 conv=notrunc,fsync
must cp "$work/small" "$a/later"
sync "$a/later" || fail "an fsync fails because of another file's quota"
status a | jq -e '.namespaces[] | select(.name == "alice") | .parked == 1 and .parked_changes[0].reason != ""' >/dev/null ||
    fail "status does not name what is parked"
must lab steadfs a status "$a"
exits_5() {
    local status=0
    lab steadfs a "$@" >"$work/out" 2>&1 || status=$?
    [ "$status" = 5 ] || { cat "$work/out"; fail "exit status $status, not 5: $*"; }
    grep -q "1 changes were refused" "$work/out" || { cat "$work/out"; fail "it does not say what was refused: $*"; }
}
exits_5 sync "$a"
must lab steadfs a parked export "$work/export" "$a"
must cmp -n 3000000 "$work/large" "$work/export/alice/large"
# what was exported before stays where a new export has no room
if [ "$(id -u)" = 0 ] && mkdir "$work/full" && mount -t tmpfs -o size=1m none "$work/full"; then
    mkdir "$work/full/alice" || fail "mkdir"
    echo before >"$work/full/alice/large" || fail "an earlier export"
    must_fail "0 exported, 1 not.*No space" lab steadfs a parked export "$work/full" "$a"
    same "what an export left" "$(cd "$work/full" && find . -type f -exec cat {} +)" before
    umount -l "$work/full"
fi
# what retry let go is exported, too, as long as it is not committed
lab kill metad STOP
must lab steadfs a parked retry "$a"
none_parked a >/dev/null || fail "retry leaves it parked"
rm -rf "$work/export"
must lab steadfs a parked export "$work/export" "$a"
lab kill metad CONT
must cmp -n 3000000 "$work/large" "$work/export/alice/large"
eventually 30 is_parked a "$a/large" EDQUOT
# it survives an unmount, and more quota lets it through
exits_5 unmount "$a"
must lab mount a "$a" -o fsync_timeout=15,drain=1
must cmp -n 3000000 "$work/large" "$a/large"
eventually 30 is_parked a "$a/large" EDQUOT
admin quota alice --bytes 100000000
must lab steadfs a parked retry "$a"
eventually 30 none_parked a
eventually 30 arrives "$a/large" "$work/c/large"
# less than it needs: it is parked; removed: there is nothing to refuse, and the removal arrives
admin quota alice --bytes 1000000
must dd if=/dev/urandom of="$a/large" bs=1M count=5
eventually 30 is_parked a "$a/large" EDQUOT
must rm "$a/large"
gone_there() { [ ! -e "$work/c/large" ]; }
eventually 30 gone_there
none_parked a >/dev/null || fail "a removed file stays parked"
# more quota, and nothing is written meanwhile: it goes by itself
must dd if=/dev/urandom of="$a/again" bs=1M count=5
eventually 30 is_parked a "$a/again" EDQUOT
admin quota alice --bytes 0
eventually 30 arrives "$a/again" "$work/c/again"
must rm "$a/again"

# a conflicted copy may exceed the quota
random_file "$work/one" 400000
must cp "$work/one" "$a/shared"
sync "$a/shared"
eventually 30 arrives "$work/one" "$work/c/shared"
cat "$a/shared" "$work/c/shared" >/dev/null
admin quota alice --bytes 500000
lab kill metad STOP
random_file "$work/two" 400000
random_file "$work/three" 400000
must dd if="$work/two" of="$a/shared" conv=notrunc bs=400000
must dd if="$work/three" of="$work/c/shared" conv=notrunc bs=400000
lab kill metad CONT
both() {
    local n=0 f
    for f in "$a"/shared*; do cmp -s "$f" "$work/two" && n=$((n + 1)); cmp -s "$f" "$work/three" && n=$((n + 1)); done
    [ "$n" = 2 ]
}
eventually 60 both
settled
[ "$(find "$a" -name 'shared (conflicted copy, *' | wc -l)" = 1 ] || fail "no conflicted copy"
{ none_parked a >/dev/null && none_parked c >/dev/null; } || fail "a conflicted copy was refused for the quota"
must_fail "quota" dd if=/dev/urandom of="$a/more" bs=200000 count=1 conv=fsync
rm "$a/more"
admin quota alice --bytes 0

# role and membership: bob's unsent changes when he becomes a viewer, then is no member any more
must lab steadfs a namespace create plans --state "$lab/clients/a"
must lab steadfs a share plans bob editor --state "$lab/clients/a"
admin assign plans hq
must lab steadfs b namespace mount plans "$b/plans"
must cp "$work/small" "$b/plans/before"
sync "$b/plans/before" || fail "sync"
must ls -la "$b" "$b/plans"
lab kill metad STOP
must cp "$work/small" "$b/plans/refused"
random_file "$work/unknown" 300000 # no block server has seen these bytes
must cp "$work/unknown" "$b/plans/refused-new"
must cp "$work/small" "$b/own"
lab kill b STOP
lab kill metad CONT
must lab steadfs a share plans bob viewer --state "$lab/clients/a"
lab kill b CONT
until_ok 30 is_parked b "$b/plans/refused" EROFS || { status b; parked b; fail "a viewer's change is not parked"; }
eventually 30 is_parked b "$b/plans/refused-new" EROFS
must_fail "Read-only" sync "$b/plans/refused-new"
rm -rf "$work/export"
must lab steadfs b parked export "$work/export" "$b"
must cmp "$work/unknown" "$work/export/plans/refused-new"
sync "$b/own" || fail "another namespace is held back"
must cmp "$work/small" "$b/plans/refused"
must lab steadfs a share plans bob editor --state "$lab/clients/a"
eventually 60 none_parked b # the role changed: tried again by itself
sync "$b/plans/refused-new" || fail "an editor's file is not committed"
lab kill metad STOP
must cp "$work/small" "$b/plans/refused-2"
lab kill b STOP
lab kill metad CONT
must lab steadfs a share plans bob none --state "$lab/clients/a"
lab kill b CONT
has_parked() { parked b | jq -e --arg n "$1" 'map(select((.path | endswith($n)) and .errno == "EACCES")) | length == 1'; }
eventually 60 has_parked refused-2
rm -rf "$work/export"
must lab steadfs b parked export "$work/export" "$b"
must cmp "$work/small" "$work/export/plans/refused-2"
sync "$b/own" || fail "another namespace is held back by a lost membership"

# assignment: no block server is left; what was changed is parked and says what to do, others go on
admin unassign alice hq
admin unassign alice cloud
random_file "$work/fresh" 300000
must cp "$work/fresh" "$a/unassigned"
asks() { status a | jq -e '.namespaces[] | select(.name == "alice") | .last_error | test("assign alice")'; }
until_ok 30 asks || { status a; fail "it does not ask for an assignment"; }
eventually 30 is_parked a "$a/unassigned" EACCES
must_fail "Permission denied" sync "$a/unassigned"
{ echo "bob goes on" >"$b/own-2" && sync "$b/own-2"; } || fail "another account is held back"
pid=$(lab pid a)
plain_umount "$a" || fail "umount"
until_ok 30 gone "$pid" || fail "the mount's process does not end"
must lab mount a "$a"
must cmp "$work/fresh" "$a/unassigned"
admin assign alice cloud
eventually 60 arrives "$work/fresh" "$c/unassigned"
passed "refusals"
