#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A large directory is read while programs here and on another device make, rename and remove names in it: what was
# there throughout is listed exactly once, nothing is listed twice, and a position stays where it was.
# ENTRIES: of the directory (10000; 1000000 in the long form). ROUNDS: readings of each of two readers (3)
# time-out: 3600
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
entries=${ENTRIES:-10000}
rounds=${ROUNDS:-3}
walk=$build/tests/lib/dirwalk

lab_up
lab_mount a b
mkdir "$a/dir"
begun=$SECONDS
must "$walk" fill "$a/dir" "$entries"
say "$entries made in $((SECONDS - begun)) s"
must "$walk" read "$a/dir" "$entries" 1
settled 1800

"$walk" churn "$a/dir" here >"$work/churn.a" 2>&1 & here=$!
children+=("$here")
begun=$SECONDS
must "$walk" read "$b/dir" "$entries" 1 # it is loaded in pages meanwhile
say "loaded on another device in $((SECONDS - begun)) s"
"$walk" churn "$b/dir" there >"$work/churn.b" 2>&1 & there=$!
children+=("$there")
sees() { find "$1" -name "$2-*" -print -quit | grep -q .; }
eventually 60 sees "$a/dir" there
eventually 60 sees "$b/dir" here
"$walk" read "$a/dir" "$entries" "$rounds" >"$work/read.a" 2>&1 & one=$!
"$walk" read "$b/dir" "$entries" "$rounds" >"$work/read.b" 2>&1 & two=$!
wait "$one" || { cat "$work/read.a"; fail "reading where it was made"; }
wait "$two" || { cat "$work/read.b"; fail "reading on the other device"; }
# a stream that is read in small steps over many changes
python3 - "$a/dir" "$entries" <<'PY' || fail "read in steps"
import os, sys, time
seen, until = {}, time.monotonic() + 1.5
with os.scandir(sys.argv[1]) as d:
    for e in d:
        seen[e.name] = seen.get(e.name, 0) + 1
        if len(seen) % 100 == 0 and time.monotonic() < until:
            os.stat(sys.argv[1])
            time.sleep(0.005)
twice = [n for n, c in seen.items() if c > 1]
missed = [i for i in range(int(sys.argv[2])) if 'keep-%d' % i not in seen]
if twice or missed:
    sys.exit('twice: %r, missed: %r' % (twice[:5], missed[:5]))
PY
for p in "$here" "$there"; do gone "$p" && { cat "$work"/churn.?; fail "a program that changes the directory ended"; }; done
kill "$here" "$there"
wait "$here" "$there" 2>/dev/null
settled 300
(cd "$a/dir" && find . -maxdepth 1 | sort) >"$work/names.a"
(cd "$b/dir" && find . -maxdepth 1 | sort) >"$work/names.b"
must cmp "$work/names.a" "$work/names.b"
passed "big directory"
