#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The metadata server's database is put back to an older copy. What was fsynced since is still on the mounts: it is sent
# again by itself, also by a device that comes back when the numbers of the lost commits have been given to others.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
lab_mount a b
c=$work/c # nothing was ever committed in bob's folder
must mkdir "$c"
must lab mount c "$c" --account bob
must mkdir "$a/docs"
for f in kept edited moved gone; do
    printf '%s' "first $f" >"$a/docs/$f" || fail "write $f"
done
settled
find "$b" -type f -exec cat {} + >"$work/out" # b knows it all
must sqlite3 "$lab/metad/meta.db" ".backup $work/copy.db"

# lost with the database: committed by a, and by b
printf 'second' >"$a/docs/edited" || fail "write"
must mv "$a/docs/moved" "$a/moved"
must mkdir "$a/made"
printf 'a' >"$a/made/n" || fail "write"
printf 'b' >"$b/new" || fail "write"
printf 'bob' >"$c/first" || fail "write"
must lab steadfs b sync "$b"
must lab steadfs a sync "$a"
must lab steadfs c sync "$c"
settled
must lab kill b
# put back as the manual says; the log of the newer database, which a crash leaves, would destroy it
must lab kill metad
must cp "$work/copy.db" "$lab/metad/meta.db"
must_fail . lab start metad
must grep -q 'is not the file that the log beside it' "$lab/log/metad.log"
must rm "$lab/metad/meta.db-wal" "$lab/metad/meta.db-shm" "$lab/metad/meta.db-file"
must lab start metad

# a notices at once; b when the head has long passed what it knew
eventually 60 grep -q 'restored from an older state' "$lab/log/a.log"
eventually 60 grep -q 'restored from an older state' "$lab/log/c.log"
for i in 1 2 3 4 5 6 7 8 9; do
    printf '%s' "$i" >"$a/later" || fail "write $i"
    must sync "$a/later"
done
must lab start b
eventually 60 grep -q 'restored from an older state' "$lab/log/b.log"
settled
same_tree "$a" "$b"
text() { same "$1" "$(cat "$a/$1")" "$2"; }
text docs/kept "first kept"
text docs/edited second
text moved "first moved"
text made/n a
text new b
text later 9
[ ! -e "$a/docs/moved" ] || fail "docs/moved is back"
printf 'more' >>"$c/first" || fail "write"
must sync "$c/first"
same "conflicts" "$(find "$a" -name '*conflicted copy*')" ""
lab steadfs b status "$b" --json | jq -e '.namespaces[0] | .pending_files == 0 and .parked == 0' >"$work/out" ||
    fail "b is not through: $(cat "$work/out")"

# a device that knows nothing sees it too
d=$work/d
must mkdir "$d"
lab_mount d
same_tree "$a" "$d"
passed "restored metad"
