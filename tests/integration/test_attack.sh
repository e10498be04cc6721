#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A client that does not play by the rules: without the right receipt nothing is committed, the answer is exactly
# what is missing, and a hash proves nothing.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --premises hq,cloud
lab_mount a b # the account's devices; `b` is then used without its mount
must lab steadfs a namespace create other
must lab unmount b
must "$build/tests/lib/rawclient" "$lab/clients/b" attack other
checks=$(grep -c '^ok' "$work/out")
[ "$checks" -ge 30 ] || { cat "$work/out"; fail "too few checks ran"; }
must_fail 'no such file' ls "$a/stolen"
# another account: neither sees nor touches what it was not given
must mkdir "$work/bob"
lab mount bobs "$work/bob" --account bob || fail "mount bobs"
must lab unmount bobs
for ns in $(lab steadfs admin admin namespace list --json | jq '.[] | select(.name != "bob") | .id'); do
    must "$build/tests/lib/rawclient" "$lab/clients/bobs" outsider "$ns"
    [ "$(grep -c '^ok' "$work/out")" = 13 ] || { cat "$work/out"; fail "too few checks ran"; }
    checks=$((checks + 13))
done

# who shows no credential holds no memory of a server, however much of a request they send, and is told so at once
port() { sed -n "s/^port_$1=//p" "$lab/config"; }
metric() {
    curl -s --noproxy '*' --cacert "$lab/metad/ca.pem" "https://127.0.0.1:$(port "$1")/metrics" | awk -v n="$2" '$1 == n { print $2 }'
}
cat >"$work/hog.py" <<'EOF'
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
answers, kept = 0, []
for i in range(50):
    s = context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=20))
    s.sendall(b'POST /v1/%s HTTP/1.1\r\nSteadfs-Version: 1\r\nAuthorization: Bearer d.1.x\r\nContent-Length: 1100000\r\n\r\n'
              % sys.argv[2].encode())
    try:
        s.sendall(bytes(1000000))
        answers += s.recv(100).startswith(b'HTTP/1.1 4')
    except (ConnectionError, ssl.SSLError):
        pass
    kept.append(s)
print(answers)
EOF
for what in 'blockd-hq steadfs_blockd put' 'metad steadfs_metad commit'; do
    read -r server name method <<<"$what"
    before=$(metric "$server" "${name}_strangers_turned_away_total")
    must python3 "$work/hog.py" "$(port "$server")" "$method"
    [ "$(cat "$work/out")" -ge 45 ] || fail "$server answered $(cat "$work/out") of 50"
    same "turned away by $server" $(($(metric "$server" "${name}_strangers_turned_away_total") - before)) 50
    held=$(metric "$server" "${name}_strangers_memory_bytes")
    [ "$held" -lt 1000000 ] || fail "$server holds $held bytes of strangers' requests"
    checks=$((checks + 2))
done
passed "attack: $checks checks"
