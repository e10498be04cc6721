#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What people do with a folder all day: rsync and tar with everything on, editors that save by renaming, two
# programs on one database, builds in parallel, worktrees, watchers, clones.
# time-out: 240
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null

lab_up
lab_mount a

# a tree with everything a backup is to bring along
src=$work/src
mkdir -p "$src/dir/sub" "$src/setgid"
random_file "$src/big" 3000000
random_file "$src/dir/small" 100
must truncate -s 20M "$src/sparse"
must dd if=/dev/urandom of="$src/sparse" bs=64k seek=100 count=1 conv=notrunc
must ln "$src/big" "$src/dir/hard"
must ln -s ../big "$src/dir/soft"
must ln -s nowhere "$src/dangling"
must mkfifo -m 640 "$src/fifo"
must chmod 2775 "$src/setgid"
must setfattr -n user.note -v 'a note' "$src/big"
must setfattr -n user.on-dir -v x "$src/dir"
if [ "$(id -u)" = 0 ]; then
    must mknod "$src/null" c 1 3
    must chown 1234:4321 "$src/dir/small"
    must setfacl -m u:1234:rw "$src/dir/small"
    must setfacl -d -m g:4321:rx "$src/dir/sub"
    must chmod 4711 "$src/dir/small"
fi
must touch -h -d '2040-02-03 04:05:06.123456789' "$src/dir/soft" "$src/sparse"
must touch -d '1931-01-02 03:04:05' "$src/dir"

# there, again (nothing to do), and back
acls=A
[ "$(id -u)" = 0 ] || acls='' # lists need the kernel's permissions
must rsync -@-1 -aHX$acls --checksum --sparse "$src/" "$a/copy/"
same_tree "$src" "$a/copy" files
same "what rsync still sees" "$(rsync -@-1 -aHX$acls --checksum --itemize-changes "$src/" "$a/copy/")" ""
must rsync -@-1 -aHX$acls --checksum --sparse "$a/copy/" "$work/back/"
same_tree "$src" "$work/back" files
same "and on the way back" "$(rsync -@-1 -aHX$acls --checksum --itemize-changes "$src/" "$work/back/")" ""
[ "$(stat -c %b "$a/copy/sparse")" -le 256 ] || fail "the hole was filled: $(stat -c %b "$a/copy/sparse") sectors"
same "attributes of copies" "$(cd "$a/copy" && getfattr -d -m - big dir 2>/dev/null)" \
    "$(cd "$src" && getfattr -d -m - big dir 2>/dev/null)"

must tar -C "$a/copy" --sparse --xattrs --acls -cf "$a/all.tar" .
mkdir "$a/untarred"
must tar -C "$a/untarred" --xattrs --xattrs-include='*' --acls -xpf "$a/all.tar"
same_tree "$a/copy" "$a/untarred"
lists() { (cd "$1" && find . ! -type l | sort | xargs getfacl -n); }
[ -z "$acls" ] || same "lists" "$(lists "$a/untarred")" "$(lists "$src")"

# a copy of what has holes has them, at once and later; what is being written has content for tar --sparse, too
must cp "$a/copy/sparse" "$a/sparse2"
must cmp "$src/sparse" "$a/sparse2"
blocks=$(stat -c %b "$a/sparse2")
{ [ "$blocks" -ge 128 ] && [ "$blocks" -le 256 ]; } || fail "a copy with holes takes $blocks sectors"
exec 7>"$a/written"
head -c 20000 /dev/urandom >&7
tar --sparse -C "$a" -cf "$work/written.tar" written || fail "tar of a file that is written"
tar -C "$work" -xf "$work/written.tar" || fail "tar of a file that is written"
must cmp "$work/written" "$a/written"
exec 7>&-

# a clone inside the folder moves nothing
settled
before=$(put_bytes hq)
must cp --reflink=auto "$a/copy/big" "$a/clone"
must cmp "$src/big" "$a/clone"
settled
[ $(($(put_bytes hq) - before)) -lt 100000 ] || fail "a copy was sent again: $(($(put_bytes hq) - before)) bytes"

# saving as editors do, with a watcher; and what is newer
mkdir "$a/watched"
echo first >"$a/watched/text"
touch "$work/mark"
until [ "$a/watched/stamp" -nt "$work/mark" ]; do touch "$a/watched/stamp"; done
inotifywait -q -m -e create,moved_to,close_write,delete --format '%e %f' "$a/watched" >"$work/seen" 2>"$work/watcher" &
children+=($!)
until_ok 20 sh -c "echo x >'$a/watched/probe' && grep -q probe '$work/seen'" || fail "no watcher"
(echo second >"$a/watched/.text.swp" && sync "$a/watched/.text.swp" && mv "$a/watched/.text.swp" "$a/watched/text")
must rm "$a/watched/probe"
eventually 20 grep -q 'DELETE probe' "$work/seen"
grep -q 'CLOSE_WRITE.* .text.swp' "$work/seen" || { cat "$work/seen"; fail "the write was not seen"; }
grep -q 'MOVED_TO text' "$work/seen" || { cat "$work/seen"; fail "the rename was not seen"; }
same "saved" "$(cat "$a/watched/text")" second
same "newer than the mark" "$(cd "$a/watched" && find . -type f -newer "$work/mark" | sort | tr '\n' ' ')" "./stamp ./text "

# two programs write one database
for mode in wal delete; do
    db=$a/$mode.db
    must sqlite3 "$db" "pragma journal_mode=$mode; create table t (who, n);"
    pids=()
    for who in 1 2 3; do
        for n in $(seq 15); do
            sqlite3 -cmd '.timeout 60000' "$db" "begin immediate; insert into t values ($who, $n); commit;" || exit 1
        done &
        pids+=($!)
    done
    for p in "${pids[@]}"; do wait "$p" || fail "a writer of $mode failed"; done
    same "rows in $mode" "$(sqlite3 "$db" 'select count(*), count(distinct who * 100 + n) from t')" '45|45'
    same "integrity of $mode" "$(sqlite3 "$db" 'pragma integrity_check')" ok
done

# builds in parallel, with make and ninja, and a second worktree
must git init -q -b main "$a/project"
{
    printf 'int main(void) { return 0'
    for i in $(seq 12); do printf ' * f%d()' "$i"; done
    printf '; }\n'
} | sed '1i #include "all.h"' >"$a/project/main.c"
objects=main.o
echo 'rule cc' >"$a/project/build.ninja"
# shellcheck disable=SC2016 # they are for ninja
printf '  command = cc -c -o $out $in\nrule ld\n  command = cc -o $out $in\n' >>"$a/project/build.ninja"
for i in $(seq 12); do
    echo "int f$i(void);" >>"$a/project/all.h"
    printf '#include "all.h"\nint f%d(void) { return %d; }\n' "$i" "$i" >"$a/project/f$i.c"
    objects+=" f$i.o"
done
for o in $objects; do echo "build n/$o: cc ${o%.o}.c" >>"$a/project/build.ninja"; done
echo "build n/all: ld $(for o in $objects; do printf 'n/%s ' "$o"; done)" >>"$a/project/build.ninja"
printf 'all: %s\n\tcc -o $@ $^\n*.o: all.h\n' "$objects" >"$a/project/Makefile"
must make -C "$a/project" -j4
must "$a/project/all"
must make -q -C "$a/project"
must ninja -C "$a/project"
must "$a/project/n/all"
same "ninja again" "$(ninja -C "$a/project" | tail -n 1)" "ninja: no work to do."
must git -C "$a/project" add '*.c' '*.h' Makefile
must git -C "$a/project" commit -q -m all
must git -C "$a/project" worktree add -q "$a/side" -b side
echo '/* side */' >>"$a/side/all.h"
must git -C "$a/side" commit -q -a -m side
must git -C "$a/project" merge -q side
must git -C "$a/project" worktree remove "$a/side"
must git -C "$a/project" gc -q
must git -C "$a/project" fsck --strict
settled
passed "everyday programs"
