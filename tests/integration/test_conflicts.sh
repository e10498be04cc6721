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

for d in content bytes create same delete dirs facets moves cycle mtime; do must mkdir "$a/$d"; done
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
for m in "$a" "$b"; do
    must mkdir "$m/same/tree"
    text "$m/same/tree/file" "as in the archive"
done
for f in one two; do
    text "$a/same/$f" begun
    text "$b/same/$f" begun
done
exec 8>>"$a/same/one" 9>>"$b/same/two"
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
same "the same created on both is no conflict" "$(copies same)" 0
reads "$b/same/tree/file" "as in the archive"
echo ", and gone on" >&8 # whosever file it is now: both have it open
echo ", and gone on" >&9
exec 8>&- 9>&-
settled
reads "$b/same/one" "begun, and gone on"
reads "$a/same/two" "begun, and gone on"
same "what is open follows" "$(copies same)" 0
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

# the list is the same wherever it is asked, and says what the names say
listed() { lab steadfs "$1" conflicts "$2" --json | jq -S '[.[] | del(.file, .original_file)] | sort_by(.path)'; }
listed a "$a" >"$work/a.json" || fail "steadfs conflicts"
same "the lists of both" "$(listed b "$b")" "$(cat "$work/a.json")"
same "as many as status counts" "$(lab steadfs a status "$a" --json | jq '.namespaces[0].conflicts')" \
    "$(jq length "$work/a.json")"
copy=$(find "$a/content" -name '*(conflicted copy, *')
lab steadfs a conflicts "$a" --json |
    jq -e --arg f "$copy" --arg o "$a/content/f.txt" '.[] | select(.file == $f) | .original_file == $o and
        .path == ($f | ltrimstr("'"$a/"'")) and (.device == "a" or .device == "b") and .size == 6 and
        .original_exists and .original_size == 6 and (.directory | not)' >"$work/out" || fail "what is said of $copy"
lab steadfs a conflicts "$a" >"$work/out" || fail "steadfs conflicts"
grep -qxF "$copy" "$work/out" || fail "the copy is not listed: $(cat "$work/out")"
lab steadfs a conflicts diff "$copy" >"$work/out"
same "diff's exit status" "$?" 1
grep -q '^-from' "$work/out" || fail "diff: $(cat "$work/out")"
grep -q '^+from' "$work/out" || fail "diff: $(cat "$work/out")"

# keeping a copy, keeping an original, and neither
ours=$(cat "$copy")
lab steadfs a conflicts keep --dry-run "$copy" >"$work/out" || fail "keep --dry-run"
grep -q "would keep: $a/content/f.txt" "$work/out" || fail "keep --dry-run: $(cat "$work/out")"
[ -e "$copy" ] || fail "--dry-run did something"
lab steadfs a conflicts keep "$copy" >"$work/out" || fail "keep: $(cat "$work/out")"
reads "$a/content/f.txt" "$ours"
same "no copy is left" "$(copies content)" 0
theirs=$(cat "$a/create/new.txt")
lab steadfs a conflicts keep "$a/create/new.txt" >"$work/out" || fail "keep: $(cat "$work/out")"
grep -q "^removed: $a/create/new (conflicted copy, " "$work/out" || fail "keep says: $(cat "$work/out")"
reads "$a/create/new.txt" "$theirs"
same "no copy is left" "$(copies create)" 0
lab steadfs a conflicts keep "$a/moves/renamed" >"$work/out" 2>&1 && fail "kept what is no conflict"
# names are bytes, and anybody's: JSON stays JSON, gives them back, and no terminal is driven by them
mkdir "$a/odd"
odd=$'b\377\e[31m\n'
text "$a/odd/${odd}d.txt" original
text "$a/odd/${odd}d (conflicted copy, x, 2026-01-01).txt" copy
lab steadfs a conflicts "$a" --json | python3 -c 'import json, os, sys
[v] = json.loads(sys.stdin.buffer.read())
assert os.path.exists(os.fsencode(v["file"])) and os.path.exists(os.fsencode(v["original_file"])), v' ||
    fail "JSON of a name that is not UTF-8"
lab steadfs a conflicts "$a" >"$work/out" || fail "steadfs conflicts"
grep -qxF "$a/odd/b??[31m?d (conflicted copy, x, 2026-01-01).txt" "$work/out" || fail "shown: $(cat -v "$work/out")"
lab steadfs a conflicts keep "$a/odd/${odd}d.txt" >"$work/out" || fail "keep: $(cat "$work/out")"
grep -qxF "kept: $a/odd/b??[31m?d.txt" "$work/out" || fail "keep says: $(cat -v "$work/out")"
same "no copy is left" "$(copies odd)" 0
settled
same_tree "$a" "$b"
same "no conflict is left" "$(listed b "$b")" "[]"

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
