#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A state directory that was copied while something in it was unsent: the copy's mount is refused and says what to do, also while
# both are up; `login --renew` gives it a number of its own, and what is unsent in it arrives.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
lab_up
must lab mount a "$a"
state=$lab/clients/a
copy=$work/copy
c=$work/c
mkdir "$c"
url=$(sed -n 's#^url=https://##p' "$state/identity")
mount_copy() { timeout 60 "$build/tools/steadfs/steadfs" mount "alice@$url" "$c" -o "state=$copy,drain=1" >"$work/out" 2>&1; }
say_of_copy() { STEADFS_STATE=$copy "$build/tools/steadfs/steadfs" status "$c" --json; }
unmount_copy() {
    "$build/tools/steadfs/steadfs" unmount "$c" --force --timeout 1 >"$work/out" 2>&1
    until_ok 30 flock -n "$copy/lock" true || fail "the copy's process does not end"
}

must mkdir "$a/dir"
echo one >"$a/dir/known"
sync "$a/dir/known" || fail "sync"
# unsent work, then the copy of the state of a machine that stands still
lab kill metad STOP
must mkdir "$a/dir/new"
echo both >"$a/dir/new/both"
must lab kill a
must cp -a "$state" "$copy"
lab kill metad CONT
must lab start a
settled

# the copy: refused, with what to do; work goes on in it
mount_copy || { cat "$work/out"; fail "mount of the copy"; }
refused() { say_of_copy | jq -e '.online == false and (.last_error | test("copy of another mount.*login --renew"))' >/dev/null; }
until_ok 20 refused || { say_of_copy; fail "the copy is not refused"; }
echo "in the copy" >"$c/dir/new/only" || fail "nothing can be written in the copy"
echo changed >"$c/dir/known"
echo here >"$a/dir/new/here"
sync "$a/dir/new/here" || fail "the first one is held up by its copy"
[ ! -e "$a/dir/new/only" ] || fail "the copy commits under the number of the first one"

# a number of its own
invitation=$(lab steadfs admin admin account token alice)
must_fail "unmount it first" "$build/tools/steadfs/steadfs" login --renew "$invitation" --state "$copy"
unmount_copy
must_fail "with --renew" "$build/tools/steadfs/steadfs" login "$invitation" --state "$copy"
must "$build/tools/steadfs/steadfs" login --renew "$invitation" --state "$copy" --device copy
mount_copy || { cat "$work/out"; fail "mount under the new number"; }
same "device" "$(say_of_copy | jq .device_number)" 2
must timeout 60 "$build/tools/steadfs/steadfs" sync "$c"
settled
arrived() {
    [ "$(cat "$a/dir/new/only" 2>/dev/null)" = "in the copy" ] && grep -qx changed "$a"/dir/known* && [ -e "$c/dir/new/here" ] &&
        diff -r "$a" "$c" >"$work/diff"
}
until_ok 30 arrived || { cat "$work/diff"; ls -lR "$a" "$c"; fail "what was unsent in the copy is not there"; }
grep -qx both "$a"/dir/new/both || fail "what both had is gone"
unmount_copy
passed "clone"
