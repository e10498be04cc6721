#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A long time offline, then everything arrives: in commits of bounded size, with progress in `status`, and going on where it
# was when the mount is killed in the middle of it.
# time-out: 600
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
files=${FILES:-10000}

lab_up
lab mount a "$a" -o timeout=5 || fail "mount a"
must mkdir "$a/old" "$a/gone"
python3 - "$a" <<'PY' || fail "the files before"
import os, sys
for i in range(200):
    open('%s/old/%d' % (sys.argv[1], i), 'w').write('before %d' % i)
    open('%s/gone/%d' % (sys.argv[1], i), 'w').write('before %d' % i)
PY
settled
must ls -lR "$a"
before=$(lab steadfs a status "$a" --json | jq '.namespaces[0].cursor')
must lab kill metad
must lab kill blockd-hq

python3 - "$a" "$files" <<'PY' || fail "the work offline"
import os, sys
top, n = sys.argv[1], int(sys.argv[2])
for d in range(n // 100):
    os.mkdir('%s/d%d' % (top, d))
    for i in range(100):
        with open('%s/d%d/%d' % (top, d, i), 'w') as f:
            f.write('offline %d %d\n' % (d, i) * (1 + i % 7))
    if d % 10 == 9:
        os.rename('%s/d%d' % (top, d), '%s/d%d/moved' % (top, d - 1))
for i in range(200):
    os.unlink('%s/gone/%d' % (top, i))
    os.chmod('%s/old/%d' % (top, i), 0o600)
    with open('%s/old/%d' % (top, i), 'a') as f:
        f.write(' and offline')
    os.link('%s/old/%d' % (top, i), '%s/old/%d-too' % (top, i))
os.rmdir('%s/gone' % top)
PY
pending() { lab steadfs a status "$a" --json | jq '[.namespaces[].pending_files] | add'; }
had=$(pending)
[ "$had" -ge "$files" ] || fail "status says $had pending, there are more than $files"

# killed offline, then three times in the middle of the catch-up
must lab kill a
must lab start a
eventually 60 pending
[ "$(pending)" -ge "$files" ] || fail "after a kill only $(pending) are pending"
must lab start blockd-hq
must lab start metad
last=$had
kills=0
fewer() { local n; n=$(pending) && [ "$n" -lt $((last - files / 10)) ]; }
while [ "$kills" -lt 3 ]; do
    eventually 120 fewer
    last=$(pending)
    [ "$last" -gt 0 ] || break
    must lab kill a
    must lab start a
    now=$(pending)
    # at most what one commit holds is not known to be done
    [ "$now" -le $((last + 3000)) ] || fail "it began again: $last were pending before the kill, $now after"
    say "killed with $last pending; $now after the restart"
    kills=$((kills + 1))
done
[ "$kills" -gt 0 ] || fail "all was sent before the first kill: more FILES are needed"
settled 240
after=$(lab steadfs a status "$a" --json | jq '.namespaces[0].cursor')
commits=$((after - before))
lab_mount b
same "files on the other side" "$(find "$b" -type f | wc -l)" $((files + 400))
same_tree "$a" "$b"
# rows of one commit are bounded: so there are at least so many commits, and not one for each file
[ "$commits" -ge $((files / 1000)) ] || fail "$commits commits for $files files: one of them had more than 1,000"
[ "$commits" -le $((files / 20)) ] || fail "$commits commits for $files files"
largest=$(python3 - "$lab/metad" <<'PY'
import glob, sqlite3, sys
db = [f for f in glob.glob(sys.argv[1] + '/*.db') if sqlite3.connect(f).execute(
    "SELECT count(*) FROM sqlite_master WHERE name = 'journal'").fetchone()[0]][0]
print(sqlite3.connect(db).execute('SELECT max(length(record)) FROM journal').fetchone()[0])
PY
) || fail "the journal cannot be read"
say "$commits commits for $files files; the largest record has $largest bytes"
[ "$largest" -le $((2 << 20)) ] || fail "a record of $largest bytes"
passed "catch-up"
