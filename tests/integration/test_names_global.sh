#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# locks=global: programs of two mounts that lock with names (O_EXCL, mkdir, link, symlink, rename without replacing) exclude
# each other, whoever opens with O_CREAT at the same moment has the same file, and what was done before a name went is
# seen by whoever makes it next.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-6} # of each race, and of each turn under a lock

lab_up
for c in a b; do lab mount "$c" "${!c}" -o locks=global,timeout=3,fsync_timeout=2 || fail "mount $c"; done

cat >"$work/race.py" <<'PY'
import ctypes, errno, os, sys, multiprocessing as mp
tops, rounds = sys.argv[1:3], int(sys.argv[3])
libc = ctypes.CDLL(None, use_errno=True)

def make_file(top, name, own):
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
def make_dir(top, name, own):
    os.mkdir(name)
def make_symlink(top, name, own):
    os.symlink('target', name) # the same target: it is not the same thing all the same
def make_fifo(top, name, own):
    os.mkfifo(name)
def make_link(top, name, own):
    os.link(own, name)
def move(top, name, own):
    if libc.renameat2(-100, os.fsencode(own), -100, os.fsencode(name), 1) != 0: # RENAME_NOREPLACE
        raise OSError(ctypes.get_errno(), 'renameat2')
ways = [make_file, make_dir, make_symlink, make_fifo, make_link, move]

def racer(k, start, results):
    top = tops[k]
    for way in ways:
        for i in range(rounds):
            own, name = '%s/own-%d' % (top, k), '%s/%s-%d' % (top, way.__name__, i)
            if not os.path.exists(own):
                with open(own, 'w') as f:
                    f.write('of %d' % k)
            start.wait()
            try:
                way(top, name, own)
                won = True
            except FileExistsError:
                won = False
                os.lstat(name) # and it is there
                if way is move and open(own).read() != 'of %d' % k:
                    raise SystemExit('what could not be moved is not what it was')
            results.put((way.__name__, i, won, 0))
    # what one makes for itself is not opened for another user, however little the kernel there knows of it
    if os.getuid() == 0:
        if k == 1:
            os.setgroups([])
            os.setresgid(65534, 65534, 0)
            os.setresuid(65534, 65534, 0)
        for i in range(4 * rounds):
            name = '%s/open/secret-%d' % (top, i)
            start.wait()
            try:
                fd = os.open(name, os.O_CREAT | os.O_RDWR | (os.O_EXCL if k == 0 else 0), 0o600)
                if k == 1 and os.fstat(fd).st_uid != 65534:
                    raise SystemExit('a file of mode 0600 is open for another user')
                os.close(fd)
            except (FileExistsError, PermissionError):
                pass
        if k == 1:
            os.setresuid(0, 0, 0)
            os.setresgid(0, 0, 0)
    for i in range(rounds):
        start.wait()
        fd = os.open('%s/common-%d' % (top, i), os.O_CREAT | os.O_RDWR | (os.O_TRUNC if i % 2 else 0), 0o644)
        results.put(('common', i, True, os.fstat(fd).st_ino))
        os.close(fd)
start, results = mp.Barrier(2), mp.Queue()
racers = [mp.Process(target=racer, args=(k, start, results)) for k in (0, 1)]
for r in racers: r.start()
outcomes = {}
for _ in range(2 * rounds * (len(ways) + 1)):
    way, i, won, ino = results.get(timeout=120)
    outcomes.setdefault((way, i), []).append((won, ino))
for r in racers: r.join()
for (way, i), two in sorted(outcomes.items()):
    winners = sum(won for won, _ in two)
    if way == 'common' and two[0] != two[1]:
        sys.exit('%s %d: two files: %r' % (way, i, two))
    if way != 'common' and winners != 1:
        sys.exit('%s %d: %d winners' % (way, i, winners))
PY
must mkdir -m 777 "$a/open"
settled
must python3 "$work/race.py" "$a" "$b" "$rounds"
settled
same_tree "$a" "$b"
same "conflicted copies" "$(find "$a" -name '*conflicted*')" ""

# what programs do under such a lock: numbers in files beside it, written in place and by renaming
cat >"$work/add.py" <<'PY'
import errno, os, sys, time
top, who, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.chdir(top)
own = 'own-lock-' + who
open(own, 'w').close()
def take(how):
    try:
        if how == 0: os.close(os.open('lock', os.O_CREAT | os.O_EXCL))
        elif how == 1: os.mkdir('lock')
        else: os.link(own, 'lock')
        return True
    except FileExistsError:
        return False
def give(how):
    if how == 1: os.rmdir('lock')
    elif how == 0: os.rename('lock', 'was-' + who)
    else: os.unlink('lock')
def add(name, saves):
    with open(name) as f:
        n = int(f.read())
    if saves:
        with open(name + '.' + who, 'w') as f:
            f.write('%d' % (n + 1))
        os.rename(name + '.' + who, name)
    else:
        with open(name, 'r+') as f:
            f.write('%d' % (n + 1))
end = time.monotonic() + 120
for how in (0, 1, 2):
    done = 0
    while done < rounds:
        if not take(how):
            if time.monotonic() > end: sys.exit('the lock is never free')
            continue
        add('in-place', False)
        add('saved', True)
        open('new-%s-%d-%d' % (who, how, done), 'w').close()
        done += 1
        give(how)
PY
mkdir "$a/job"
echo 100 >"$a/job/in-place"
echo 100 >"$a/job/saved"
settled
python3 "$work/add.py" "$a/job" one "$rounds" >"$work/one" 2>&1 & one=$!
python3 "$work/add.py" "$b/job" two "$rounds" >"$work/two" 2>&1 & two=$!
children+=("$one" "$two")
wait "$one" || { cat "$work/one"; fail "adding on a"; }
wait "$two" || { cat "$work/two"; fail "adding on b"; }
settled
for d in "$a" "$b"; do
    same "written in place" "$(cat "$d/job/in-place")" $((100 + 6 * rounds))
    same "saved by renaming" "$(cat "$d/job/saved")" $((100 + 6 * rounds))
    same "made under the lock" "$(find "$d/job" -name 'new-*' | wc -l)" $((6 * rounds))
done
same "conflicted copies" "$(find "$a" -name '*conflicted*')" ""

# a program that is refused leaves nothing; the name is free for the next
lab kill metad STOP
must_fail 'timed out' mkdir "$a/nobody-answers"
must_fail 'timed out' ln "$a/job/saved" "$a/nobody-links"
must rm "$a/job/saved" # what goes is told later
lab kill metad CONT
eventually 30 mkdir "$b/nobody-answers"
settled
same "what was taken back" "$(find "$a" "$b" -name nobody-links)" ""
same_tree "$a" "$b"
# who waits for a directory to go, or to be moved or replaced, keeps what happens in it elsewhere from nothing but itself:
# other names are seen at once
lab unmount a || fail "unmount a"
lab mount a "$a" -o locks=global || fail "mount a with its patience"
for how in rmdir 'mv -T'; do
    must mkdir -p "$a/goes" "$a/place" "$b/other"
    settled
    must test ! -e "$a/other/new"
    must test ! -e "$a/goes/inside"
    lab kill blockd-hq STOP
    echo "content for $how" >"$a/pending" # no server has it
    target=()
    [ "$how" = rmdir ] || target=("$a/place")
    # shellcheck disable=SC2086 # a command and its option
    $how "$a/goes" "${target[@]}" >"$work/goes" 2>&1 & going=$!
    children+=("$going")
    eventually 20 grep -qE '^(82|84|264|316) ' "/proc/$going/syscall" # rename, rmdir
    must touch "$b/goes/inside"
    must touch "$b/other/new"
    until_ok 15 test -e "$a/other/new" || fail "$how: a name is not seen while a directory waits"
    lab kill blockd-hq CONT
    wait "$going" # it may have gone, or not be empty
    settled
    must rm -rf "$b/goes" "$b/place" "$b/other"
    settled
done

# a mount is killed while it makes names, and nobody was told that they are made: another mount makes them, and has
# them. What the killed one had begun is sent when it is mounted again: an empty file or directory is the other's then, a
# link becomes a copy beside it
must mkdir "$a"/half-{file,dir,symlink,link}
echo own >"$a/own-a"
echo own >"$a/own-b"
settled
must ls "$a"/half-{file,dir,symlink,link} "$b"/half-{file,dir,symlink,link} # known there
lab kill metad
halves=()
begin() { # SYSCALL COMMAND…: it is in that call
    local call=$1
    shift
    "$@" >/dev/null 2>&1 &
    halves+=($!)
    children+=($!)
    eventually 20 grep -q "^$call " "/proc/$!/syscall"
}
make_file='import os, sys; fd = os.open(sys.argv[1], os.O_CREAT | os.O_EXCL | os.O_WRONLY); os.write(fd, b"by the other"); os.fsync(fd)'
begin 257 python3 -c "$make_file" "$a/half-file/lock"
begin 83 mkdir "$a/half-dir/lock"
begin '\(88\|266\)' ln -s first "$a/half-symlink/lock"
begin '\(86\|265\)' ln "$a/own-a" "$a/half-link/lock"
lab kill a
for p in "${halves[@]}"; do ! wait "$p" || fail "a name was made without the server"; done
lab start metad
eventually 30 mkdir "$b/half-dir/lock"
must python3 -c "$make_file" "$b/half-file/lock"
must ln -s second "$b/half-symlink/lock"
must ln "$b/own-b" "$b/half-link/lock"
lab start a
settled
for d in "$a" "$b"; do
    same "what is there" "$(cd "$d" && find half-* -mindepth 1 ! -path 'half-*link/lock (conflicted copy*' | sort | tr '\n' ' ')" \
        "half-dir/lock half-file/lock half-link/lock half-symlink/lock "
    same "whose it is" "$(cat "$d/half-file/lock"; readlink "$d/half-symlink/lock")" "by the othersecond"
    must test "$d/half-link/lock" -ef "$d/own-b"
done
passed "names between mounts"
