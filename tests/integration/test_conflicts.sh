#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two devices change the same things while they do not see each other: no byte that a program wrote is lost, and both
# show the same tree in the end.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
lab_mount a b

apart() { lab kill metad >/dev/null || fail "kill metad"; }
together() {
    lab start metad || fail "start metad"
    settled
    same_tree "$a" "$b"
}
text() { printf '%s' "$2" >"$1" || fail "write $1"; }
reads() { same "$1" "$(cat "$1" 2>/dev/null)" "$2"; }
copies() { find "$a/$1" -name '*(conflicted copy, *' | wc -l; }
# all versions of a file, wherever they are now: its contents, sorted
versions() { # DIR PATTERN
    find "$a/$1" -type f -name "$2" -exec cat {} \; -exec echo \; | sort | tr '\n' ' '
}

for d in content bytes create delete dirs facets moves cycle mtime; do must mkdir "$a/$d"; done
for f in content/f.txt bytes/f delete/f delete/g facets/f moves/f mtime/f; do text "$a/$f" base; done
must mkdir "$a/cycle/x" "$a/cycle/y"
text "$a/cycle/x/fx" x
text "$a/cycle/y/fy" y
settled
# both know everything
find "$b" -type f -exec cat {} + >"$work/out"

apart
text "$a/content/f.txt" "from a"
text "$b/content/f.txt" "from b"
text "$a/bytes/f" same
text "$b/bytes/f" same
text "$a/create/new.txt" "a's"
text "$b/create/new.txt" "b's"
must rm "$a/delete/f"
text "$b/delete/f" "edited on b"
text "$a/delete/g" "edited on a"
must rm "$b/delete/g"
must mkdir "$a/dirs/d" "$b/dirs/d"
text "$a/dirs/d/one" 1
text "$b/dirs/d/two" 2
must chmod 600 "$a/facets/f"
text "$b/facets/f" changed
must setfattr -n user.k -v v "$a/facets/f"
must mv "$a/moves/f" "$a/moves/renamed"
text "$b/moves/f" "edited on b"
must mv "$a/cycle/x" "$a/cycle/y/x"
must mv "$b/cycle/y" "$b/cycle/x/y"
must touch -d 2001-01-01 "$a/mtime/f"
must touch -d 2002-02-02 "$b/mtime/f"
together

same "contents of both" "$(versions content '*')" "from a from b "
same "one conflicted copy" "$(copies content)" 1
[ -e "$a/content/f.txt" ] || fail "nothing at the name"
find "$a/content" -name 'f (conflicted copy, [ab], *).txt' | grep -q . || fail "the copy's name: $(ls "$a/content")"
reads "$a/bytes/f" same
same "same bytes are no conflict" "$(copies bytes)" 0
same "both created" "$(versions create '*')" "a's b's "
reads "$a/delete/f" "edited on b"
reads "$a/delete/g" "edited on a"
reads "$a/dirs/d/one" 1
reads "$a/dirs/d/two" 2
same "directories merge" "$(find "$a/dirs" -mindepth 1 -type d | wc -l)" 1
reads "$a/facets/f" changed
same "mode" "$(stat -c %a "$b/facets/f")" 600
same "xattr" "$(getfattr --only-values -n user.k "$b/facets/f")" v
same "no copy for different facets" "$(copies facets)" 0
reads "$a/moves/renamed" "edited on b"
same "one name" "$(find "$a/moves" -type f | wc -l)" 1
same "both files of the cycle" "$(find "$a/cycle" -name 'f[xy]' | wc -l)" 2
same "a change of mtime makes no copy" "$(copies mtime)" 0
lab steadfs b conflicts "$b" >"$work/conflicts" || fail "steadfs conflicts"
grep -q 'conflicted copy' "$work/conflicts" || { lab steadfs a conflicts "$a" | grep -q 'conflicted copy'; } ||
    fail "steadfs conflicts lists none"

# fsyncs of both at once: each succeeds, and both contents are there
text "$a/race" base
settled
reads "$b/race" base
lab kill metad STOP
dd if=<(printf 'race a') of="$a/race" conv=fsync,notrunc 2>/dev/null &
one=$!
dd if=<(printf 'race b') of="$b/race" conv=fsync,notrunc 2>/dev/null &
two=$!
wrote() { [ "$(cat "$1/race")" = "$2" ]; }
eventually 10 wrote "$a" "race a"
eventually 10 wrote "$b" "race b"
lab kill metad CONT
wait "$one" || fail "fsync on a"
wait "$two" || fail "fsync on b"
settled
same_tree "$a" "$b"
same "both fsynced contents" "$(versions . 'race*')" "race a race b "
passed "conflicts"
