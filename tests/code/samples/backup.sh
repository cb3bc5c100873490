#!/usr/bin/env bash
# Keep dated copies of some folders, drop the oldest ones, and say what was done.
set -euo pipefail

readonly PROGRAM="${0##*/}"
TARGET="${BACKUP_TARGET:-/var/backups}"
KEEP=7
VERBOSE=0
declare -a SOURCES=()

usage() {
    cat <<EOF
usage: $PROGRAM [-v] [-k COUNT] [-t FOLDER] SOURCE...
Copies each SOURCE into FOLDER (now $TARGET) and keeps COUNT copies.
EOF
}

log() {
    if [[ $VERBOSE -eq 1 ]]; then
        printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2
    fi
}

die() {
    echo "$PROGRAM: $1" >&2
    exit "${2:-1}"
}

parse_options() {
    local option
    while getopts ":vk:t:h" option; do
        case "$option" in
            v) VERBOSE=1 ;;
            k)
                [[ "$OPTARG" =~ ^[0-9]+$ ]] || die "not a count: $OPTARG" 2
                KEEP=$OPTARG
                ;;
            t) TARGET="$OPTARG" ;;
            h)
                usage
                exit 0
                ;;
            *) usage >&2; exit 2 ;;
        esac
    done
    shift $((OPTIND - 1))
    SOURCES=("$@")
    [ "${#SOURCES[@]}" -gt 0 ] || die "nothing to back up" 2
}

free_space() {
    df --output=avail -k "$1" | tail -n 1 | tr -d ' '
}

copy_one() {
    local source="$1" name stamp archive
    name="$(basename "$source")"
    stamp="$(date +%Y%m%d-%H%M%S)"
    archive="$TARGET/$name-$stamp.tar.gz"
    if [ ! -d "$source" ]; then
        log "skipping $source: no such folder"
        return 1
    fi
    tar -czf "$archive.part" -C "$(dirname "$source")" "$name" && mv "$archive.part" "$archive"
    sha256sum "$archive" > "$archive.sha256"
    log "wrote $archive"
}

prune() {
    local name="$1" count=0
    for old in $(ls -1t "$TARGET/$name"-*.tar.gz 2>/dev/null); do
        count=$((count + 1))
        if (( count > KEEP )); then
            rm -f -- "$old" "$old.sha256"
            log "dropped ${old%.tar.gz}"
        fi
    done
}

main() {
    parse_options "$@"
    mkdir -p "$TARGET"
    local failed=0 source
    if (( $(free_space "$TARGET") < 102400 )); then
        die "less than 100 MB left in $TARGET" 3
    fi
    for source in "${SOURCES[@]}"; do
        if copy_one "$source"; then
            prune "$(basename "$source")"
        else
            failed=$((failed + 1))
        fi
    done
    until sync; do
        sleep 1
    done
    [[ $failed -eq 0 ]] && log "all good" || die "$failed failed"
}

trap 'rm -f "$TARGET"/*.part' EXIT
main "$@"
