#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Programs that know nothing of steadfs: git, make and gcc, sqlite3, cp, tar.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null

lab_up
lab_mount a b

# a repository made here, cloned into the mount, checked, worked in
mkdir "$work/repo"
must git -C "$work/repo" init -q -b main
cat >"$work/repo/hello.c" <<'C'
#include <stdio.h>
int answer(void);
int main(void) { printf("%d\n", answer()); return 0; }
C
echo 'int answer(void); int answer(void) { return 42; }' >"$work/repo/answer.c"
printf 'hello: hello.o answer.o\n\tcc -o $@ $^\n' >"$work/repo/Makefile"
for i in $(seq 40); do
    mkdir -p "$work/repo/dir$((i % 5))"
    random_file "$work/repo/dir$((i % 5))/file$i" 20000
    must git -C "$work/repo" add -A
    must git -C "$work/repo" commit -q -m "commit $i"
done
must git clone -q --no-hardlinks "$work/repo" "$a/clone"
must git -C "$a/clone" fsck --strict
same "git status" "$(git -C "$a/clone" status --porcelain)" ""
must make -C "$a/clone"
same "what was built" "$("$a/clone/hello")" 42
must git -C "$a/clone" checkout -q -b side
echo more >>"$a/clone/hello.c"
must git -C "$a/clone" commit -q -a -m side
must git -C "$a/clone" gc -q
must git -C "$a/clone" fsck --strict
settled
must git -C "$b/clone" -c safe.directory='*' fsck --strict
same "head on the other side" "$(git -C "$b/clone" rev-parse side)" "$(git -C "$a/clone" rev-parse side)"
same "built there" "$("$b/clone/hello")" 42

# databases, in both journal modes; another process reads while they change
for mode in wal delete; do
    db=$a/$mode.db
    must sqlite3 "$db" "pragma journal_mode=$mode; create table t (i integer primary key, s text);"
    for i in $(seq 30); do
        must sqlite3 "$db" "insert into t (s) values (hex(randomblob(2000))); update t set s = 'u$i' where i = $i - 5;"
        same "rows in $mode" "$(sqlite3 "$db" 'select count(*) from t')" "$i"
    done
    same "integrity of $mode" "$(sqlite3 "$db" 'pragma integrity_check; pragma wal_checkpoint(truncate);' | head -n 1)" ok
    settled
    must cp "$b/$mode.db" "$work/copy.db"
    same "$mode on the other side" "$(sqlite3 "$work/copy.db" 'pragma integrity_check; select count(*), max(s) from t')" \
        "$(sqlite3 "$db" 'pragma integrity_check; select count(*), max(s) from t')"
done

# trees
must cp -a "$work/repo" "$a/copy"
same_tree "$work/repo" "$a/copy" files
must tar -C "$a" --format=posix -cf "$a/copy.tar" copy
mkdir "$a/out"
must tar -C "$a/out" -xpf "$a/copy.tar"
same_tree "$a/copy" "$a/out/copy"
must rm -r "$a/copy"
settled
same_tree "$a" "$b"
passed "programs"
