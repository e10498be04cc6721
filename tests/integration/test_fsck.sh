#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# admin fsck compares files, records and disks: each kind of damage is told in plain words, with the files that it
# concerns; without --repair no record changes; with it all is whole again that is anywhere; the exit status tells.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --premises hq,cloud
lab_mount a
fsck() { # STATUS ARGS…: what it says is in $work/fsck
    local want=$1 status=0
    shift
    lab steadfs admin admin fsck "$@" >"$work/fsck" 2>&1 || status=$?
    [ "$status" = "$want" ] || { cat "$work/fsck"; fail "exit status $status of fsck $*"; }
}
says() { grep -qE -- "$1" "$work/fsck" || { cat "$work/fsck"; fail "no '$1' in what fsck says"; }; }
silent_of() { ! grep -qE -- "$1" "$work/fsck" || { cat "$work/fsck"; fail "'$1' in what fsck says"; }; }
id_of() { sha256sum "$1" | cut -d' ' -f1; }
file_of() { echo "$lab/blockd-$1"/blocks/*/"$(id_of "$2")"-*; }
sql() { sqlite3 -cmd '.timeout 10000' "$@" || fail "sqlite3"; }
holders() { sql "$lab/metad/meta.db" "SELECT count(*) FROM presence WHERE block = x'00$(id_of "$1")'"; }
damage() { printf 'damaged' | dd of="$1" conv=notrunc status=none; }

for i in 1 2 3 4 5 6 7 8; do
    random_file "$work/f$i" $((i < 6 ? 300000 : 3000))
    must cp "$work/f$i" "$a/f$i"
done
lab wait --replicated || fail "not replicated"
must lab unmount a # nobody is there who could bring anything
fsck 0
says '^block server 1 \(hq\): 8 blocks looked at: as recorded'
says '^block server 2 \(cloud\): 8 blocks looked at: as recorded'
says '^all content is where it should be \(8 pieces looked at\)'

# on disks, while the servers run: files that are gone or have another length show at once, at one premises they heal;
# at both they cost a file. Bytes that are wrong show when they are read
rm "$(file_of hq "$work/f1")" "$(file_of hq "$work/f3")" "$(file_of cloud "$work/f3")"
truncate -s 1000 "$(file_of cloud "$work/f2")"
damage "$(file_of hq "$work/f4")"
sql "$lab/blockd-cloud/index.db" "UPDATE small SET bytes = CAST(x'0000' || substr(bytes, 3) AS BLOB)
    WHERE n = (SELECT n FROM block WHERE id = x'00$(id_of "$work/f6")')"
fsck 1
says '\(hq\): 8 blocks looked at: 2 were damaged and are set aside'
says '\(cloud\): 8 blocks looked at: 2 were damaged and are set aside'
says '^alice:/f3: 300000 bytes in 1 pieces are at no block server'
says '^1 files lack 300000 bytes'
silent_of '/f[45678]'
fsck 1 --read --repair
says '\(hq\): .*: 1 were damaged and are set aside'
says '\(cloud\): .*: 1 were damaged and are set aside'
says '^alice:/f3: 300000 bytes in 1 pieces are at no block server'
silent_of '/f[1245678]'
same "blocks" "$(lab blocks hq | wc -l) $(lab blocks cloud | wc -l)" "7 7"

# whoever has the bytes brings them: a device that writes them again
lab start a || fail "mount again"
must cp "$work/f3" "$a/f3"
lab wait --replicated || fail "not replicated"
fsck 0 --read

# a disk that was put back, records that are lost, and blocks that nobody knows to be lacking
must lab kill blockd-hq
must lab kill metad
sql "$lab/blockd-hq/index.db" "DELETE FROM small WHERE n IN (SELECT n FROM block WHERE id = x'00$(id_of "$work/f7")');
    DELETE FROM held WHERE n IN (SELECT n FROM block WHERE id = x'00$(id_of "$work/f7")');
    DELETE FROM block WHERE id = x'00$(id_of "$work/f7")';"
sql "$lab/metad/meta.db" "DELETE FROM presence WHERE block = x'00$(id_of "$work/f5")';
    DELETE FROM presence WHERE block = x'00$(id_of "$work/f8")' AND server = 2; DELETE FROM lack;"
must lab start metad
must lab start blockd-hq
fsck 1
says '\(hq\): 7 blocks looked at: 1 are recorded to be there and are not; 1 are there and are not recorded to be'
says '\(cloud\): 8 blocks looked at: 2 are there and are not recorded to be'
says '^alice:/f5: .* are at no block server as recorded; some were found at hq, cloud, and fsck --repair records that'
says '^alice:/f7: 3000 bytes in 1 pieces are not at hq$'
says '^alice:/f8: 3000 bytes in 1 pieces are not at cloud$'
same "records after a look" "$(holders "$work/f5") $(holders "$work/f7") $(holders "$work/f8")" "0 2 1"
fsck 0 --repair
says '^repaired: 4 records were other than what is there, 0 blocks were lacking unnoted, 1 blocks were brought'
same "records after a repair" "$(holders "$work/f5") $(holders "$work/f7") $(holders "$work/f8")" "2 2 2"
same "blocks" "$(lab blocks hq | wc -l) $(lab blocks cloud | wc -l)" "8 8"

fsck 0 --json alice
says '"premises": "cloud", "checked": true, "blocks": 8, "damaged": 0'
passed "fsck: 6 damaged blocks and 4 wrong records told, all but one lost file repaired"
