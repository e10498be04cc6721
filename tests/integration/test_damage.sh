#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Damaged local databases. A mount with unsent work is killed, one of its files is damaged (bits flipped at many places,
# truncated, gone), and it starts again by itself: what was committed is there as before, and of the unsent files each
# content arrives, under its name or a recovered one, or is kept as a file beside the report. `steadfs status` says what
# happened. Damage of the machine's own kind (a file of a newer version, a second mount) is refused with a reason.
# time-out: 900
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# PLACES=100 flips at more places
places=${PLACES:-3}
state=$lab/clients/a

lab_up
lab mount a "$a" -o timeout=5 || fail "mount a"
lab_mount b
must mkdir "$a/base"
for i in $(seq 20); do random_file "$a/base/$i" 3000; done
cp -r "$a/base" "$work/base"
settled

cat >"$work/flip.py" <<'PY'
import os, random, sys
how, path, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
size = os.path.getsize(path)
r = random.Random(seed)
with open(path, 'r+b') as f:
    def flip(at):
        f.seek(at); b = f.read(1); f.seek(at); f.write(bytes([b[0] ^ (1 << r.randrange(8))]))
    if how == 'flip':       # a few bits anywhere
        for _ in range(3): flip(r.randrange(size))
    elif how == 'head':     # the first bytes
        for at in range(0, min(size, 40), 7): flip(at)
    elif how == 'page':     # a whole page of rubbish
        f.seek(r.randrange(max(1, size // 4096)) * 4096); f.write(r.randbytes(4096))
    elif how == 'half':
        f.truncate(size // 2 + r.randrange(100))
    elif how == 'empty':
        f.truncate(0)
    elif how == 'gone':
        os.unlink(path)
PY

round=0
# unsent work of many kinds, kept in $work/want (contents) with unique bytes in each file
unsent() {
    round=$((round + 1))
    d=r$round
    rm -rf "$work/want"
    mkdir "$work/want"
    must mkdir "$a/$d"
    printf 'content to be changed %s' "$round" >"$a/$d/known"
    mkdir "$a/$d/sub" && printf 'moved %s' "$round" >"$a/$d/sub/moved"
    sync "$a/$d/known" "$a/$d/sub/moved" || fail "sync"
    must ls -lR "$a"
    lab kill metad STOP
    lab kill blockd-hq STOP
    for i in 1 2 3 4 5 6; do printf 'round %s file %s %s' "$round" "$i" "$RANDOM$RANDOM" >"$work/want/$i"; done
    random_file "$work/want/7" 400000
    must mkdir -p "$a/$d/new/deep"
    must cp "$work/want/1" "$a/$d/new/1"
    must cp "$work/want/2" "$a/$d/new/deep/2"
    must cp "$work/want/3" "$a/$d/3.tmp"
    must mv "$a/$d/3.tmp" "$a/$d/3"
    must cp "$work/want/4" "$a/$d/known"
    must cp "$work/want/5" "$a/base/new-$round"
    must ln "$a/base/new-$round" "$a/$d/second"
    must cp "$work/want/7" "$a/$d/large"
    must mv "$a/$d/sub/moved" "$a/$d/moved"
    must cp "$work/want/6" "$a/$d/sub/6"
    must lab kill a
}
restart() {
    lab kill metad CONT
    lab kill blockd-hq CONT
    lab start a || { cat "$state"/damaged-*/report; fail "it does not start"; }
}
status() { lab steadfs a status "$a" --json; }
recovered() { status | jq -re '.recovery // empty'; }

# every wanted content is somewhere: prints how many are only beside the report, or fails
judge() { # WHAT
    local f beside=0
    must diff -r <(cd "$work/base" && find . -type f -exec sha256sum {} + | sort) \
        <(cd "$a/base" && find . -type f -name '[0-9]*' -exec sha256sum {} + | sort)
    until_ok 60 lab wait --timeout 20 || { status; fail "$1: not settled"; }
    find "$b" -type f -exec sha256sum {} + 2>/dev/null | cut -c1-64 | sort -u >"$work/arrived"
    find "$state"/damaged-* -type f -regextype egrep -regex '.*/[0-9a-f]{64}' -exec sha256sum {} + 2>/dev/null |
        cut -c1-64 | sort -u >"$work/beside"
    for f in "$work"/want/*; do
        sum=$(sha256sum <"$f" | cut -c1-64)
        if ! grep -q "$sum" "$work/arrived"; then
            if ! grep -q "$sum" "$work/beside" && [ "$(basename "$f")" != 7 ]; then
                cat "$state"/damaged-*/report 2>/dev/null | tail -n 30
                find "$b/$d" "$b"/recovered* 2>/dev/null
                fail "$1: the content of file $(basename "$f") is gone"
            fi
            beside=$((beside + 1))
        fi
    done
    { printf 'works' >"$a/$d/after" && sync "$a/$d/after"; } || fail "$1: the mount does not work"
    [ "$beside" = 0 ] || recovered >"$work/said" || fail "$1: content is only beside, and status does not say so"
    say "$1: $((7 - beside)) of 7 arrived, $beside kept beside; $(recovered | cut -c1-120)"
    rm -rf "$state"/damaged-*
}

# without damage, nothing is lost and nothing is said
unsent
restart
judge "no damage"
! recovered || fail "a sound tree was taken for a damaged one"

for file in tree.db tree.db-wal; do
    for how in empty half head gone; do
        unsent
        python3 "$work/flip.py" "$how" "$state/$file" 1 || fail "flip"
        restart
        judge "$file $how"
    done
    for seed in $(seq "$places"); do
        for how in flip page; do
            unsent
            python3 "$work/flip.py" "$how" "$state/$file" "$seed" || fail "flip"
            restart
            judge "$file $how $seed"
        done
    done
done
unsent
python3 "$work/flip.py" head "$state/incarnation" 1
restart
judge "incarnation head"
unsent
rm "$state/incarnation"
restart
judge "incarnation gone"

# the outbox: a block that is not what its id says is kept aside and holds back its own file alone
unsent
python3 - "$state/blocks" "$work/want/2" <<'PY' || fail "the block is not in the outbox"
import glob, sys
want = open(sys.argv[2], 'rb').read()
for name in glob.glob(sys.argv[1] + '/*out*'):
    data = open(name, 'rb').read()
    at = data.find(want)
    if at >= 0:
        with open(name, 'r+b') as f:
            f.seek(at); f.write(bytes([data[at] ^ 1]))
        sys.exit(0)
sys.exit(1)
PY
restart
others() {
    local f
    for f in 1 3 4 5 6 7; do find "$b" -type f -exec cmp -s "$work/want/$f" {} \; -print | grep -q . || return 1; done
}
eventually 60 others
eventually 10 grep -q "new/deep/2" <(lab steadfs a parked "$a")
same "damaged blocks kept" "$(find "$state/blocks" -name 'damaged-*' | wc -l)" 1
printf 'once more' >"$a/$d/new/deep/2"
sync "$a/$d/new/deep/2" || fail "a new content is not taken"
eventually 10 grep -q "once more" "$b/$d/new/deep/2"
# … and whole files of it: truncated, rubbish at the head, gone; what is lost is told
for how in head half gone; do
    unsent
    for f in "$state"/blocks/*out*; do python3 "$work/flip.py" "$how" "$f" 1; done
    restart
    { printf 'works' >"$a/$d/after" && sync "$a/$d/after"; } || fail "outbox $how: the mount does not work"
    until_ok 60 lab wait --timeout 20 || fail "outbox $how: not settled"
    for i in 1 2 3 4 5 6; do
        find "$b" -type f -exec cmp -s "$work/want/$i" {} \; -print | grep -q . && continue
        lab steadfs a parked "$a" | grep -q "$d\|new-$round" || fail "outbox $how: file $i is lost without a word"
    done
    say "outbox $how: $(lab steadfs a parked "$a" --json | jq length) files parked"
    rm -rf "${a:?}/$d" "$a/base/new-$round"
    settled
done
# the cache costs a refetch
for how in head half gone empty; do
    find "$a/base" -name '[0-9]*' -exec cat {} + >/dev/null
    must lab kill a
    for f in "$state"/blocks/*.db*; do python3 "$work/flip.py" "$how" "$f" 1; done
    must lab start a
    for i in $(seq 20); do must cmp "$work/base/$i" "$a/base/$i"; done
    say "cache $how: all there"
done

# refused, with a reason
must lab steadfs a unmount "$a"
cp "$state/tree.db" "$work/tree.db"
python3 -c "
import sqlite3, sys
c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA user_version = 999'); c.commit(); c.close()" "$state/tree.db"
must_fail "newer steadfs.*update" lab mount a "$a"
cp "$work/tree.db" "$state/tree.db"
must lab mount a "$a"
mkdir "$work/other"
must_fail "in use by the mount at .*unmount it first" lab steadfs a mount "$(jq -r .server <(status) | sed 's#https://##')" \
    "$work/other" -o "state=$state"
must cat "$a/base/1"
passed "damage"
