#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A device is away for longer than the metadata server keeps history: it compares all that it knows with the server's
# tree, keeps what it had not sent yet, and goes on.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --history-min 1
lab_mount a b
must mkdir -p "$a/docs/old" "$a/moved" "$a/left"
for f in docs/kept docs/edited docs/both docs/gone docs/here docs/old/x moved/y left/z; do
    printf '%s' "first $f" >"$a/$f" || fail "write $f"
done
settled
find "$b" -type f -exec cat {} + >"$work/out" # b knows it all

# b works on alone, and is killed with that pending
must lab kill metad
must lab kill blockd-hq
printf 'b' >"$b/docs/both" || fail "write"
printf 'b' >"$b/docs/here" || fail "write"
printf 'b' >"$b/docs/gone" || fail "write"
printf 'b' >"$b/left/new" || fail "write"
must mkdir "$b/made"
printf 'b' >"$b/made/n" || fail "write"
must mv "$b/docs/kept" "$b/docs/renamed"
must lab kill b
must lab start metad
must lab start blockd-hq

# meanwhile
printf 'second' >"$a/docs/edited" || fail "write"
printf 'a' >"$a/docs/both" || fail "write"
must rm -r "$a/docs/gone" "$a/docs/old" "$a/left"
must mv "$a/moved" "$a/docs/away"
must setfattr -n user.k -v v "$a/docs/here"
must lab steadfs a sync "$a"

# until all of that is forgotten: the journal is read without changing anything
forgotten() {
    [ "$(sqlite3 -readonly "file:$lab/metad/meta.db?mode=ro" "SELECT count(*) FROM journal" 2>/dev/null || echo 1)" = 0 ]
}
eventually 60 forgotten
must lab start b
eventually 60 grep -q 'away for longer' "$lab/log/b.log"
settled
same_tree "$a" "$b"
text() { same "$1" "$(cat "$a/$1")" "$2"; }
text docs/edited second
text docs/both a
text docs/here b
text docs/renamed "first docs/kept"
text docs/away/y "first moved/y"
text made/n b
same "xattr" "$(getfattr --absolute-names --only-values -n user.k "$b/docs/here")" v
same "both contents" "$(cat "$a"/docs/both*)" "ab"
same "what was edited and removed" "$(cat "$a"/docs/gone*)" b
same "what was made in what was removed" "$(find "$a" -name 'new*' -exec cat {} +)" b
[ ! -e "$a/docs/old" ] || fail "docs/old is back"
lab steadfs b status "$b" --json | jq -e '.namespaces[0] | .pending_files == 0 and .parked == 0' >"$work/out" ||
    fail "status: $(cat "$work/out")"

# it goes on
printf 'more' >"$b/docs/edited" || fail "write"
must lab steadfs b sync "$b"
shows() { [ "$(cat "$a/docs/edited")" = more ]; }
eventually 10 shows
passed "away"
