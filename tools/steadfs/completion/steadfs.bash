# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# bash completion for steadfs

# Names are anybody's: compgen -W would expand what is in them. As /proc has them, a space is \040.
_steadfs_mountpoints() { # CURRENT
    local at quoted
    while IFS= read -r at; do
        printf -v at %b "$at"
        printf -v quoted %q "$at"
        [[ $at != "$1"* && $quoted != "$1"* ]] || COMPREPLY+=("$at")
    done < <(awk '{ for (i = 7; i <= NF; i++) if ($i == "-") { if ($(i + 1) == "fuse.steadfs") print $5; break } }' \
        /proc/self/mountinfo)
    compopt -o filenames 2>/dev/null
}

# What comes behind -o: a name after -o or a comma, its value after =, which is a word of its own.
_steadfs_mount_options() { # CURRENT PREVIOUS AND-THE-ONE-BEFORE
    local cur=$1 name='' before='' words=
    if [[ $cur == = ]]; then
        name=${2##*,} cur=
    elif [[ $2 == = && $cur != *,* ]]; then
        name=${3##*,}
    fi
    case $name in
    '')
        words="state= fsync= close= coherence= locks= fsync_timeout= timeout= connect_timeout= drain= prefer= copies= race=
            cache_size= fill= keep_free= dirty_max= eager_put log= trace= log_level= owners= uid= gid= umask= allow_suid allow_dev allow_other
            default_permissions ro remount nonempty fsname= subtype= noexec noatime _netdev nofail"
        [[ $cur != *,* ]] || before=${cur%,*},
        cur=${cur##*,}
        ;;
    fsync) words="commit local" ;;
    close) words="async local commit" ;;
    coherence) words="cached strict" ;;
    locks) words="mount global" ;;
    owners) words="number name" ;;
    log_level) words="error warn info debug" ;;
    state | log | trace)
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        return
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -P "$before" -W "$words" -- "$cur")
    compopt -o nospace 2>/dev/null
}

_steadfs() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=
    local commands="mount unmount status sync conflicts parked where login namespace share admin history restore pin evict"
    COMPREPLY=()
    if [ "$COMP_CWORD" = 1 ]; then
        words="$commands --help --version"
    else
        case ${COMP_WORDS[1]} in
        mount)
            if [[ $cur == -* ]]; then
                words="-o --help"
            elif [[ " ${COMP_WORDS[*]:2:COMP_CWORD-2} " == *" -o "* && $prev =~ ^(-o|=|.*,.*)$ || $cur == = ]]; then
                _steadfs_mount_options "$cur" "$prev" "${COMP_WORDS[COMP_CWORD - 2]}"
                return
            fi
            ;;
        unmount)
            words="--timeout --force --help"
            if [[ $cur != -* ]]; then
                _steadfs_mountpoints "$cur"
                return
            fi
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
        sync) [[ $cur != -* ]] || words="--timeout --at --copies --help" ;;
        login) [[ $cur != -* ]] || words="--state --device --renew --token-file --help" ;;
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
            2:*) words="account device server namespace assign unassign onsite evacuate rotate-key copies replication where fsck gc quota --admin --help" ;;
            3:account) words="add token list" ;;
            3:device) words="list revoke" ;;
            3:server) words="add list drain remove rekey" ;;
            *:--bytes)
                words=0
                [[ $cur =~ ^[0-9]+[KMGT]?$ ]] && words=$(printf '%s ' "${cur%%[KMGT]}"{K,M,G,T})
                ;;
            *)
                if [[ $cur == -* ]]; then
                    words="--admin --json --help"
                    case ${COMP_WORDS[2]} in
                    account) words+=" --assign --no-token" ;;
                    where) words+=" --copies" ;;
                    rotate-key) words+=" --at-once" ;;
                    onsite) words+=" --anywhere" ;;
                    evacuate) words+=" --to --wait --cancel --force" ;;
                    unassign) words+=" --force" ;;
                    server)
                        [ "${COMP_WORDS[3]}" = drain ] && words+=" --force --lost"
                        [ "${COMP_WORDS[3]}" = rekey ] && words+=" --overlap --cancel"
                        ;;
                    gc) words+=" --dry-run --restored" ;;
                    fsck) words+=" --repair --read --recorded" ;;
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
