#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A PostgreSQL server with its data directory on the mount: initdb, pgbench, a clean stop; then the mount is killed in the
# middle of pgbench, mounted again, and the server recovers: no transaction that was acknowledged is missing, no
# page is wrong. Another device sees the same.
# TRANSACTIONS: of each client before the kill (2000 in the long form)
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
transactions=${TRANSACTIONS:-150}

for bin in /usr/lib/postgresql/*/bin /usr/bin; do [ ! -x "$bin/initdb" ] || break; done
[ -x "$bin/initdb" ] || fail "no initdb: install the package postgresql (tools/deps check)"

# the server does not run as root
chmod 711 "$work"
if [ "$(id -u)" = 0 ]; then
    user=$(id -un nobody)
    as() { setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups env HOME=/ PGHOST="$work/run" PGUSER=pg "$@"; }
    options=allow_other,default_permissions
else
    as() { env PGHOST="$work/run" PGUSER=pg "$@"; }
    options=default_permissions
fi
mkdir "$work/run"
chmod 777 "$work/run"

lab_up
lab mount a "$a" -o "$options" || fail "mount a"
mkdir "$a/pg"
[ "$(id -u)" != 0 ] || chown "$user" "$a/pg"
chmod 700 "$a/pg"
data=$a/pg/data
must as "$bin/initdb" -D "$data" -U pg -A trust --data-checksums --no-instructions -E UTF8 --locale=C
as tee -a "$data/postgresql.conf" >/dev/null <<EOF2
listen_addresses = ''
unix_socket_directories = '$work/run'
shared_buffers = 16MB
max_connections = 20
fsync = on
checkpoint_timeout = 30s
EOF2
up() {
    as "$bin/pg_ctl" -D "$1" -w -t 100 -l "$work/run/log" start >"$work/out" 2>&1 ||
        { tail -n 15 "$work/out" "$work/run/log"; fail "the server does not start"; }
}
sql() { as "$bin/psql" -XAtq -d bench -c "$1"; }

nobody_in() { ! pgrep -u "${user:-$(id -un)}" -f "postgres.*( -D $1|: pg bench )" >"$work/still"; }

up "$data"
must as "$bin/createdb" bench
must as "$bin/pgbench" -i -q -s 1 bench
must as "$bin/pgbench" -n -c 2 -t "$transactions" bench
done_cleanly=$((2 * transactions))
same "transactions" "$(sql 'select count(*) from pgbench_history')" "$done_cleanly"
must as "$bin/pg_ctl" -D "$data" -w -m fast stop
must as "$bin/pg_checksums" -D "$data" --check
up "$data"

# each acknowledged one leaves a line outside; then the mount goes away under the server
must as "$bin/psql" -XAtq -d bench -c 'create table told (i int primary key)'
as sh -c "i=0; while '$bin/psql' -XAtq -d bench -c \"insert into told values (\$i)\" 2>/dev/null; do echo \$i; i=\$((i + 1)); done" >"$work/told" &
writer=$!
as "$bin/pgbench" -n -c 2 -T 60 bench >"$work/bench" 2>&1 &
bench=$!
children+=("$writer" "$bench")
eventually 60 grep -qx 15 "$work/told"
postmaster=$(head -n 1 "$data/postmaster.pid")
lab kill a
wait "$writer" "$bench"
kill -9 "$postmaster" 2>/dev/null # it may have noticed
eventually 30 gone "$postmaster"
eventually 30 nobody_in "$data"
rm -f "$work/run"/.s.PGSQL*
lab start a
up "$data"
same "acknowledged and missing" "$(sql 'copy told to stdout' | sort | comm -13 - <(sort "$work/told"))" ""
must as "$bin/pg_amcheck" -d bench --heapallindexed --install-missing
same "sums" "$(sql 'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)')" t
rows=$(sql 'select count(*) from pgbench_history')
[ "$rows" -ge "$done_cleanly" ] || fail "$rows transactions, were $done_cleanly before"
must as "$bin/pg_ctl" -D "$data" -w -m fast stop
must as "$bin/pg_checksums" -D "$data" --check

# on another device
settled
lab mount b "$b" -o "$options" || fail "mount b"
up "$b/pg/data"
same "rows there" "$(sql 'select count(*) from pgbench_history')" "$rows"
must as "$bin/pg_ctl" -D "$b/pg/data" -w -m fast stop
passed "postgresql, $rows transactions"
