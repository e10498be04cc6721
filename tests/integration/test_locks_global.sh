#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# locks=global: locks count between mounts, what is written under one is seen under the next, and no lock outlives
# those who can hold it: a killed program, a killed mount, a restarted metadata server, a lease that ended.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
lease=2 # seconds

lab_up --lock-lease "$lease"
mount_all() {
    lab mount a "$a" -o locks=global,timeout=3 || fail "mount a"
    lab mount b "$b" -o locks=global,timeout=3 || fail "mount b"
}
mount_all

# one program that does what it is told, line by line, and says what came of it
cat >"$work/locker.py" <<'PY'
import errno, fcntl, os, signal, struct, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
F_OFD_SETLK, F_OFD_SETLKW = 37, 38
fds = {}
def flock(kind, start, length):
    return struct.pack('hhqqi4x', kind, 0, start, length, 0)
def do(words):
    what, name = words[0], words[1] if len(words) > 1 else ''
    if what == 'open':
        fds[name] = os.open(words[2], os.O_RDWR | os.O_CREAT | (os.O_APPEND if 'append' in words else 0), 0o644)
    elif what in ('sh', 'ex', 'un', 'nsh', 'nex'):  # flock
        n = fcntl.LOCK_NB if what[0] == 'n' else 0
        fcntl.flock(fds[name], n | {'sh': fcntl.LOCK_SH, 'ex': fcntl.LOCK_EX, 'un': fcntl.LOCK_UN}[what[-2:]])
    elif what in ('w', 'r', 'u', 'nw', 'nr', 'ow', 'oun', 'onw'):  # ranges: of the process; o: of the open file
        kind = {'w': fcntl.F_WRLCK, 'r': fcntl.F_RDLCK, 'u': fcntl.F_UNLCK, 'n': fcntl.F_UNLCK}[what[-1]]
        waits = what in ('w', 'r', 'ow')
        cmd = (F_OFD_SETLKW if waits else F_OFD_SETLK) if what[0] == 'o' else (fcntl.F_SETLKW if waits else fcntl.F_SETLK)
        fcntl.fcntl(fds[name], cmd, flock(kind, int(words[2]), int(words[3])))
    elif what == 'get':
        kind, _, start, length, pid = struct.unpack('hhqqi4x', fcntl.fcntl(
            fds[name], fcntl.F_GETLK, flock(fcntl.F_WRLCK, int(words[2]), int(words[3]))))
        return '%s %d %d' % ({fcntl.F_UNLCK: 'free', fcntl.F_RDLCK: 'shared', fcntl.F_WRLCK: 'exclusive'}[kind],
                             start if kind != fcntl.F_UNLCK else 0, length if kind != fcntl.F_UNLCK else 0)
    elif what == 'add':  # one to the number in the file
        n = int(os.pread(fds[name], 99, 0) or b'0') + 1
        os.pwrite(fds[name], b'%d' % n, 0)
        return str(n)
    elif what == 'read':
        return os.pread(fds[name], 99, 0).decode().strip()
    elif what == 'page':
        return str(len(os.pread(fds[name], 4096, 0)))
    elif what == 'dup':  # closes another descriptor of it
        os.close(os.dup(fds[name]))
    elif what == 'log':
        os.write(fds[name], words[2].encode() + b'\n')
    elif what == 'size':
        return str(os.fstat(fds[name]).st_size)
    elif what == 'write':
        os.pwrite(fds[name], words[2].encode(), 0)
    elif what == 'close':
        os.close(fds.pop(name))
    elif what == 'rounds':  # name, how many: in turns with another mount's program
        for _ in range(int(words[2])):
            fcntl.lockf(fds[name], fcntl.LOCK_EX)
            do(['add', name])
            fcntl.lockf(fds[name], fcntl.LOCK_UN)
    return 'ok'
print('ready', flush=True)
for line in sys.stdin:
    try:
        print(do(line.split()), flush=True)
    except OSError as e:
        print(errno.errorcode[e.errno], flush=True)
PY
declare -A pid
locker() { # NAME
    rm -f "$work/$1.in" "$work/$1.out"
    mkfifo "$work/$1.in" "$work/$1.out"
    python3 "$work/locker.py" <"$work/$1.in" >"$work/$1.out" 2>"$work/$1.err" &
    pid[$1]=$!
    children+=("${pid[$1]}")
    eval "exec {in_$1}>'$work/$1.in' {out_$1}<>'$work/$1.out'"
    hears "$1" ready
}
tell() { # NAME WORDS…: without waiting
    local fd=in_$1
    echo "${*:2}" >&"${!fd}"
}
hears() { # NAME WANT [SECONDS]: the answer to what it was told
    local fd=out_$1 answer
    # a hundred turns of a lock take long on a busy machine
    read -r -t "${3:-120}" -u "${!fd}" answer || { cat "$work/$1.err"; fail "$1 hears nothing, should hear '$2'"; }
    same "$1 hears" "$answer" "$2"
}
does() { # NAME WORDS… WANT
    tell "$1" "${@:2:$#-2}"
    hears "$1" "${!#}"
}
waits() { # NAME [SECONDS]: it is in its call, and stays there for so long
    local fd=out_$1 answer
    ! read -r -t "${2:-0.001}" -u "${!fd}" answer || fail "$1 does not wait: $answer"
}
metric() { curl -sf --max-time 5 --noproxy '*' --cacert "$lab/metad/ca.pem" "$(sed -n 's/^url=//p' "$lab/clients/a/identity")/metrics" | awk -v n="steadfs_metad_$1" '$1 == n { print $2 }'; }
waiting() { [ "$(metric lock_waits)" = "$1" ]; }
nothing_locked() { [ "$(metric locked_files)" = 0 ]; }

locker one
locker two
locker three
does one open f "$a/file" ok
eventually 30 test -e "$b/file"
does two open f "$b/file" ok
does three open f "$b/file" ok

# flock, with upgrades and downgrades
does one ex f ok
does two nsh f EAGAIN
does one sh f ok
does two sh f ok # waits: that one is weaker now is told a moment later
does two nex f EAGAIN
does one un f ok
does two nex f ok # what it had was given up for it
does one nex f EAGAIN
does two un f ok

# ranges: neighbours do not meet, closing gives back, what is in the way is told
does one w f 0 100 ok
does two nw f 100 100 ok
does two nr f 50 1 EAGAIN
does two get f 0 0 "exclusive 0 100"
does one get f 150 0 "exclusive 100 100"
does one get f 200 0 "free 0 0"
does one u f 0 50 ok
does two nw f 0 50 ok
does two nw f 50 1 EAGAIN
does one r f 50 50 ok
does two r f 60 1 ok # likewise
does two nw f 60 1 EAGAIN
does one close f ok
does two nw f 0 0 ok
does two u f 0 0 ok
does one open f "$a/file" ok
does one onw f 0 10 ok
does two nw f 0 1 EAGAIN
does three onw f 0 1 EAGAIN
does one oun f 0 0 ok

# who waits gets it when it is free, and a signal ends a wait
does one w f 0 0 ok
tell two w f 0 0
eventually 20 waiting 1
waits two
does one u f 0 0 ok
hears two ok
tell one w f 0 1
eventually 20 waiting 1
kill -9 "${pid[one]}"
eventually 5 gone "${pid[one]}"
eventually 20 waiting 0
wait "${pid[one]}" 2>/dev/null
locker one
does one open f "$a/file" ok
does two u f 0 0 ok

# two that wait for each other: who closes the circle is told; and so is one who waits here for one who waits there
does one w f 0 1 ok
does two w f 1 1 ok
tell one w f 1 1
eventually 20 waiting 1
does two w f 0 1 EDEADLOCK # Python's name of EDEADLK
does two u f 1 1 ok
hears one ok
does two w f 2 1 ok
does three w f 3 1 ok
tell three w f 2 1
tell two w f 0 1
eventually 20 waiting 1
does one w f 3 1 EDEADLOCK
does one u f 0 0 ok
hears two ok
does two u f 0 0 ok
hears three ok
does three u f 0 0 ok

# a killed program's locks are free at once
does one ex f ok
does two nex f EAGAIN
tell two ex f
eventually 20 waiting 1
kill -9 "${pid[one]}"
hears two ok 5 # its mount lives: no lease ends here
does two un f ok
wait "${pid[one]}" 2>/dev/null
locker one
does one open f "$a/file" ok

# what is written under a lock is seen under the next, in files that were open all the time; none is lost
echo 0 >"$a/count"
settled
for n in one two three; do
    d=$a
    [ "$n" = one ] || d=$b
    does "$n" open c "$d/count" ok
    does "$n" read c 0
done
for n in one two three; do tell "$n" rounds c 40; done
for n in one two three; do hears "$n" ok; done
does one w c 0 0 ok
does one read c 120
does one u c 0 0 ok
eventually 10 grep -qx 120 "$a/count"
eventually 10 grep -qx 120 "$b/count"
same "conflicted copies" "$(find "$a" -name '*conflicted*')" ""

# a lock file beside the data, which both have open all the time: what was written is seen, however the lock is given
# back, or some of it. A signal that is handled is no end of it, and another descriptor's end gives nothing back.
echo old >"$a/data"
: >"$a/lock"
settled
for n in one two; do
    d=$a
    [ "$n" = one ] || d=$b
    does "$n" open d "$d/data" ok
    does "$n" open l "$d/lock" ok
    does "$n" read d old
done
sees_new() { # WANT LOCK UNLOCK: two, which opens it anew under the lock
    does two "$2" l "${@:4}" ok
    does two open new "$b/data" ok
    does two read new "$1"
    does two close new ok
    does two "$3" l "${@:4}" ok
}
does one ex l ok
does one write d AAAA ok
does one un l ok
sees_new AAAA ex un
does one ex l ok
does one write d BBBB ok
does one sh l ok
sees_new BBBB sh un
does one un l ok
does one w l 0 0 ok
does one write d CCCC ok
does one r l 0 10 ok
sees_new CCCC r u 0 10
does one u l 0 0 ok
does one ex l ok
lab kill blockd-hq STOP
does one write d DDDD ok
does one dup l ok
tell one un l
for _ in $(seq 20); do
    kill -USR1 "${pid[one]}"
    waits one 0.02
done
lab kill blockd-hq CONT
hears one ok
sees_new DDDD ex un

# appending under the lock is behind what others appended under it, in files that were open all the time
: >"$a/log"
settled
for n in one two; do
    d=$a
    [ "$n" = one ] || d=$b
    does "$n" open g "$d/log" append ok
done
for i in 1 2 3; do
    for n in one two; do
        does "$n" ex g ok
        does "$n" log g "$n-$i" ok
        does "$n" size g $((i * 12 - ($([ "$n" = one ] && echo 6 || echo 0))))
        does "$n" un g ok
    done
done
does one ex g ok
same "a log of both" "$(tr '\n' ' ' <"$a/log")" "one-1 two-1 one-2 two-2 one-3 two-3 "
does one un g ok
for n in one two; do does "$n" close g ok; done
eventually 20 cmp -s "$a/log" "$b/log"

# a descriptor from before another mount's change, and one from after it: under the lock both see the same
echo xxxxxxxx >"$a/twice"
settled
does one open x "$a/twice" ok
does one read x xxxxxxxx
echo BBBBBBBB >"$b/twice"
sync "$b/twice"
eventually 20 grep -q BBBB "$a/twice"
does one open y "$a/twice" ok
does one read y BBBBBBBB
does one ex x ok
does one write x ZZZZ ok
does one un x ok
does one ex y ok
does one read y ZZZZBBBB
does one write y YY ok
does one un y ok
does one ex x ok
does one read x YYZZBBBB
does one un x ok
does one close x ok
does one close y ok
rm "$a/twice" "$a/log"

# who writes to a version that another mount has overtaken has a copy of its own, and no lock of the file any more
echo old >"$a/forked"
settled
does one open k "$a/forked" ok
does two open k "$b/forked" ok
does one ex k ok
does two write k theirs ok
eventually 20 grep -q theirs "$a/forked"
does one write k mine ok
does two ex k ok
does two read k theirs
does two un k ok
for n in one two; do does "$n" close k ok; done
settled
same "conflicted copies" "$(cat "$a"/forked*conflicted*)" mine
rm "$a"/forked*

# flock(1), and a file that is opened under the lock; that of the lock is new
flock "$a/count.lock" true || fail "flock"
eventually 20 test -e "$b/count.lock"
adder() { for _ in $(seq 15); do flock "$1.lock" sh -c "n=\$(cat '$1'); echo \$((n + 1)) >'$1'" || return 1; done; }
adder "$a/count" & first=$!
adder "$b/count" & second=$!
wait "$first" || fail "adding on a"
wait "$second" || fail "adding on b"
same "conflicted copies" "$(find "$a" -name '*conflicted*')" ""
eventually 10 grep -qx 150 "$a/count"

# a database on both, with its journal beside it
db=shared.db
must sqlite3 "$a/$db" 'pragma journal_mode=delete; create table t (i integer primary key, s text);'
settled
inserts() { for i in $(seq 12); do sqlite3 -cmd '.timeout 60000' "$1/$db" "insert into t (s) values ('$2 $i' || hex(randomblob(3000)))" || return 1; done; }
inserts "$a" a & first=$!
inserts "$b" b & second=$!
wait "$first" || fail "inserting on a"
wait "$second" || fail "inserting on b"
for d in "$a" "$b"; do
    same "rows" "$(sqlite3 -cmd '.timeout 60000' "$d/$db" 'select count(*) from t; pragma integrity_check')" "24
ok"
done

# the metadata server begins anew: what is held stays held, whoever waits goes on waiting
does one ex f ok
tell two ex f
eventually 20 waiting 1
lab kill metad
lab start metad
does three nex f EAGAIN
eventually 30 waiting 1
waits two
does one un f ok
hears two ok
does two un f ok

# a killed mount's locks are free after the bound, not before
does one ex f ok
begun=$(date +%s%N)
lab kill a
does two ex f ok
took=$((($(date +%s%N) - begun) / 1000000))
[ "$took" -ge $((lease * 1000 / 2)) ] || fail "free after $took ms, before its lease ended"
does two un f ok
kill -9 "${pid[one]}"
wait "${pid[one]}" 2>/dev/null
lab start a
locker one
does one open f "$a/file" ok

# out of reach: who waits or asks hears ENOLCK, who holds a lock EIO once the lease is over, until it lets go; of what
# the kernel has cached, too
head -c 8192 /dev/zero >"$a/page"
does one open p "$a/page" ok
does one w p 0 0 ok
does one page p 4096
does one ex f ok
does one write f mine ok
lab kill metad STOP
does two nex f ENOLCK
tell two ex f
hears two ENOLCK
tell one write f late
hears one EIO
does one read f EIO
does one page p EIO
does one nsh f EIO
does one un f ok
does one read f mine
does one write f free ok
lab kill metad CONT
does one ex f ok
does one un f ok

# nothing is left behind
for n in one two three; do
    does "$n" close f ok
done
does one close p ok
eventually 20 nothing_locked
settled
same "conflicted copies" "$(find "$a" -name '*conflicted*')" ""
passed "locks between mounts"
