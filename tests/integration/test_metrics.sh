#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every series that the servers' /metrics print, after things that are known to have happened: each has its value, and a
# series that nothing is said of here fails the test.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --premises hq,cloud --gc-grace 2 --history-min 1
lab_mount a
url_of() { echo "https://127.0.0.1:$(sed -n "s/^port_$1=//p" "$lab/config")"; }
get() { curl -s --noproxy '*' --cacert "$lab/metad/ca.pem" "$@"; }
metric() { get "$(url_of "$1")/metrics" | awk -v n="$2" '$1 == n { print $2 }'; }
at_least() { [ "$(metric "$1" "$2")" -ge "$3" ]; }
is() { [ "$(metric "$1" "$2")" = "$3" ]; }
id_of() { sha256sum "$1" | cut -d' ' -f1; }
status() { get -o /dev/null -w '%{http_code}' -H 'Steadfs-Version: 1' "$@"; }
alike() { [ "$(lab blocks hq)" = "$(lab blocks cloud)" ] && [ "$(lab blocks hq | wc -l)" = "$1" ]; }

# two blocks, one in a file, one in the index: put at hq, offered to cloud and taken there
random_file "$work/x" 300000
random_file "$work/s" 5000
for f in x s; do must cp "$work/$f" "$a/$f"; must sync "$a/$f"; done
lab wait --replicated || fail "not replicated"
# read by another device
lab mount b "$b" || fail "mount b"
for f in x s; do must cmp "$work/$f" "$b/$f"; done
# what nobody may or knows
printf '\x83\x01\x01\x02\xc4\x01x\x03\x91\xc4\x21\x00%032d' 0 >"$work/have"
same "no capability" "$(status --data-binary @"$work/have" "$(url_of blockd-hq)/v1/have")" 401
same "no such method" "$(status --data-binary x "$(url_of blockd-hq)/v1/nonsense")" 404
same "no credential" "$(status -H 'Authorization: Bearer d.1.x' --data-binary x "$(url_of metad)/v1/session")" 401
# damage, found by a pass over both blocks, brought again by cloud; and a comparison
for f in "$lab"/blockd-hq/blocks/*/"$(id_of "$work/x")"-*; do printf damaged | dd of="$f" conv=notrunc status=none; done
must lab kill blockd-hq USR1
eventually 30 at_least blockd-hq steadfs_blockd_scrub_passes_total 2
eventually 30 at_least blockd-hq steadfs_blockd_collected_passes_total 1
eventually 30 alike 2
# garbage
must lab unmount b
must rm "$a/x"
must sync "$a"
collected() {
    lab steadfs admin admin gc alice && at_least blockd-hq steadfs_blockd_collected_blocks_total 1 &&
        at_least blockd-cloud steadfs_blockd_collected_blocks_total 1
}
eventually 30 collected
eventually 20 at_least metad steadfs_metad_gc_removed_total 2
lab wait --replicated || fail "not replicated in the end"
for p in hq cloud; do eventually 20 is "blockd-$p" 'steadfs_blockd_replication_lacking{ns="1",server="1"}' 0; done

for s in blockd-hq blockd-cloud metad; do get "$(url_of "$s")/metrics" >"$work/$s.metrics"; done
cat >"$work/check.py" <<'PY'
import re, sys, time
top = sys.argv[1]
now, bad = time.time(), []
some, none, any_, one = (lambda v: v >= 1), (lambda v: v == 0), (lambda v: v >= 0), (lambda v: v == 1)
def least(n): return lambda v: v >= n
def exactly(n): return lambda v: v == n
lately = lambda v: now - 300 < v <= now + 1
# of any server
http = {
    'requests_total{method="other"}': any_, 'bytes_in_total': some, 'bytes_out_total': some, 'overloaded_total': none,
    'connections': some, 'connections_most': some, 'connections_max': exactly(16384), 'connections_dropped_total': none,
    'strangers': some, 'strangers_dropped_total': none, 'strangers_turned_away_total': none,  # who asks for this page is one
    'strangers_memory_bytes': any_, 'greedy_total': none, 'requests_memory_bytes': any_, 'answers_memory_bytes': none,
}
block = dict(http, **{
    'requests_total{method="put"}': some, 'requests_total{method="get"}': any_, 'requests_total{method="have"}': any_,
    'requests_total{method="link"}': none, 'requests_total{method="offer"}': any_,
    'blocks': one, 'bytes': exactly(5000), 'free_bytes': least(1 << 20),
    'put_bytes_total': least(305000), 'get_bytes_total': any_, 'corrupt_total': none, 'refused_total': none,
    'put_failed_total': none, 'unreadable_total': none, 'reread_total': none, 'distrusted': none,
    'uncommitted_blocks': any_, 'uncommitted_bytes': any_, 'uncommitted_refused_total': none,
    'uncommitted_settled_total': any_, 'scrub_bytes_total': none, 'scrub_blocks_total': none, 'scrub_damaged_total': none, 'scrub_unreadable_total': none,
    'scrub_passes_total': one, 'scrub_last_pass_begin_seconds': lately, 'scrub_last_pass_end_seconds': lately,
    'scrub_progress_percent': exactly(100),
    'collected_rounds_total': some, 'collected_passes_total': any_, 'collected_compared_total': any_,
    'collected_announced_total': any_, 'collected_not_here_total': any_, 'collected_unneeded_total': any_,
    'collected_taken_total': one, 'collected_blocks_total': one, 'collected_bytes_total': exactly(300000),
    'replication_lacking{ns="N",server="S"}': none, 'replication_wanted': none, 'replication_no_room': none,
    'replication_reachable{server="S"}': one,
    'replication_sent_bytes_total{server="S"}': any_, 'replication_received_bytes_total{server="S"}': any_,
    'replication_offered_total': any_, 'replication_accepted_total': any_, 'replication_reported_total': any_,
})
hq = dict(block, **{
    'requests_total{method="other"}': one, 'requests_total{method="have"}': some, 'refused_total': one,
    'corrupt_total': one, 'scrub_damaged_total': one, 'scrub_blocks_total': exactly(2), 'scrub_bytes_total': exactly(305000),
    'scrub_passes_total': exactly(2), 'collected_passes_total': some, 'collected_compared_total': some,
    'replication_offered_total': least(2), 'replication_accepted_total': least(2), 'replication_reported_total': some,
    'replication_sent_bytes_total{server="S"}': least(305000),
})
cloud = dict(block, **{
    'requests_total{method="offer"}': some, 'replication_reported_total': least(2),
})
asked = ('requests list lookup readdir node extents locate where backlog commit session beat replicas stored recorded collect inventory '
         'login join command wait lock ca diff').split()
meta = dict(http, **{'requests_total{method="%s"}' % m: any_ for m in asked})
for m, n in (('beat', 4), ('join', 2), ('login', 2), ('session', 3), ('commit', 3), ('diff', 1), ('command', 1), ('wait', 1),
             ('ca', 1), ('collect', 2), ('inventory', 1), ('stored', 1), ('replicas', 2)):
    meta['requests_total{method="%s"}' % m] = least(n)
meta.update({
    'commits_total': least(3), 'commits_missing_total': any_, 'commits_conflict_total': none, 'commits_refused_total': none,
    'diffs_total': some, 'lists_total': some, 'sessions_total': least(2), 'unauthenticated_total': some,
    'queue_depth': any_, 'queue_refused_total': none,
    'gc_absent_total': some, 'gc_absent_bytes_total': least(300000), 'gc_ordered_total': least(2), 'gc_removed_total': least(2),
    'inventory_announced_total': any_, 'inventory_lost_total': any_, 'inventory_unneeded_total': any_,
    'restored_timestamp_seconds': none, 'kept_until_timestamp_seconds': none, 'transactions_failed_total': none,
    'transaction_seconds_sum': lambda v: v > 0, 'transaction_seconds_count': least(3),
    'transaction_changes_bucket{le="N"}': some, 'transaction_changes_sum': least(3), 'transaction_changes_count': least(3),
    'waiters': some, 'journal_head{ns="N"}': some, 'locked_files': none, 'lock_waits': none, 'lock_leases_ended': none,
})
maybe = {'replication_tasks{ns="N",server="S"}': any_}  # while there are some
values = {}
for server, prefix, want in (('blockd-hq', 'steadfs_blockd_', hq), ('blockd-cloud', 'steadfs_blockd_', cloud), ('metad', 'steadfs_metad_', meta)):
    seen, typed = set(), set()
    for line in open('%s/%s.metrics' % (top, server)):
        if line.startswith('#'):
            typed.add(line.split()[2])
            continue
        name, value = line.rsplit(' ', 1)
        family = re.sub(r'_(bucket|sum|count)$', '', name.split('{')[0])
        if family not in typed and name.split('{')[0] not in typed:
            bad.append('%s: no type of %s' % (server, name))
        series = re.sub(r'ns="\d+"', 'ns="N"', name[len(prefix):])
        series = re.sub(r'server="\d+"', 'server="S"', re.sub(r'le="[^"]+"', 'le="N"', series))
        values[server, name[len(prefix):]] = float(value)
        seen.add(series)
        judge = want.get(series) or maybe.get(series)
        if not name.startswith(prefix) or not judge:
            bad.append('%s: nothing is known here of %s' % (server, name))
        elif not judge(float(value)):
            bad.append('%s: %s is %s' % (server, name, value.strip()))
    bad += ['%s: no %s' % (server, s) for s in want if s not in seen]
# what goes together
got = sum(values['blockd-' + p, 'get_bytes_total'] for p in ('hq', 'cloud'))
if got < 305000 + 300000:  # b's, and hq's or cloud's way to heal
    healed = values['blockd-cloud', 'replication_sent_bytes_total{server="1"}']
    if got + healed < 605000:
        bad.append('read %d, healed %d' % (got, healed))
if values['metad', 'transaction_changes_bucket{le="+Inf"}'] != values['metad', 'transaction_changes_count']:
    bad.append('the last bucket is not all')
if values['metad', 'requests_total{method="list"}'] < values['metad', 'lists_total']:
    bad.append('more lists than were asked for')
print('\n'.join(bad) or '%d series' % len(values))
sys.exit(1 if bad else 0)
PY
must python3 "$work/check.py" "$work"
passed "metrics: $(cat "$work/out")"
