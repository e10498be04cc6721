# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# bash completion for steadfs

_steadfs_mountpoints() {
    awk '{ for (i = 7; i <= NF; i++) if ($i == "-") { if ($(i + 1) == "fuse.steadfs") print $5; break } }' \
        /proc/self/mountinfo
}

_steadfs() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=
    local commands="mount unmount status sync conflicts parked where login namespace share admin history restore pin evict"
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        words="$commands --help --version"
    else
        case ${COMP_WORDS[1]} in
        mount) [[ $cur != -* ]] || words="-o --help" ;;
        unmount)
            words="--timeout --force --help"
            [[ $cur == -* ]] || words=$(_steadfs_mountpoints)
            ;;
        status) [[ $cur != -* ]] || words="--json --help" ;;
        parked)
            if [[ $cur == -* ]]; then
                words="--json --help"
            elif [ "$COMP_CWORD" = 2 ]; then
                words="retry export"
            fi
            ;;
        conflicts)
            if [[ $cur == -* ]]; then
                words="--json --dry-run --help"
            elif [ "$COMP_CWORD" = 2 ]; then
                words="keep diff"
            fi
            ;;
        where) [[ $cur != -* ]] || words="--copies --json --state --help" ;;
        sync) [[ $cur != -* ]] || words="--timeout --help" ;;
        login) [[ $cur != -* ]] || words="--state --device --help" ;;
        namespace)
            if [[ $cur == -* ]]; then
                words="--state --json --help"
            elif [ "$COMP_CWORD" = 2 ]; then
                words="create mount unmount list"
            fi
            ;;
        share)
            if [[ $cur == -* ]]; then
                words="--state --help"
            elif [ "$COMP_CWORD" = 4 ]; then
                words="viewer editor owner none"
            fi
            ;;
        admin)
            case $COMP_CWORD:$prev in
            2:*) words="account device server namespace assign unassign onsite evacuate rotate-key copies replication where fsck quota --admin --help" ;;
            3:account) words="add token list" ;;
            3:device) words="list revoke" ;;
            3:server) words="add list drain remove" ;;
            *)
                if [[ $cur == -* ]]; then
                    words="--admin --json --help"
                    case ${COMP_WORDS[2]} in
                    account) words+=" --assign --no-token" ;;
                    where) words+=" --copies" ;;
                    rotate-key) words+=" --at-once" ;;
                    onsite) words+=" --anywhere" ;;
                    evacuate) words+=" --to --wait --cancel" ;;
                    quota) words+=" --bytes --nodes" ;;
                    esac
                fi
                ;;
            esac
            ;;
        esac
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
    if [ ${#COMPREPLY[@]} = 0 ] && [[ $cur != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        compopt -o filenames 2>/dev/null
    fi
}

complete -F _steadfs steadfs
