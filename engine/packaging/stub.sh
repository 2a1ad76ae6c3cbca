#!/bin/sh
# The engine in one file: this script, then a compressed archive. The archive is unpacked once for each version, into
# a folder that only its owner can change, after its digest was checked; later starts run what is there.
#
#   engine COMMAND …           as always; unpacks into the cache of this user when nothing is unpacked yet
#   engine --unpack [FOLDER]   as root: unpack for everybody, so that whom the engine runs as cannot change its code
set -eu
id=@ID@
digest=@DIGEST@
first=@FIRST@
shared=${ENGINE_UNPACKED:-/usr/local/lib/engine}

fail() { echo "engine: $*" >&2; exit 1; }

# unpacked, by root or by us, and not for others to change
is_good() {
    [ -f "$1/.complete" ] || return 1
    set -- $(stat -c '%u %A' "$1")
    case "$1" in 0 | "$(id -u)") ;; *) return 1 ;; esac
    case "$2" in d????-??-?) return 0 ;; esac
    return 1
}

unpack() {
    umask 022
    mkdir -p "$1" 2>/dev/null && [ -w "$1" ] || fail "cannot write $1 to unpack into: set ENGINE_UNPACKED to a folder that can be, or run \`$0 --unpack\` as root once"
    # what a start that was killed has left; a day old, so that nobody is at it
    find "$1" -maxdepth 1 -name '.new-*' -mtime +0 -exec rm -rf {} + 2>/dev/null || :
    echo "engine: unpacking $id into $1, once" >&2
    new=$(mktemp -d "$1/.new-XXXXXX")
    trap 'rm -rf "$new"' EXIT
    trap 'exit 1' INT TERM HUP
    chmod 755 "$new"
    found=$(tail -n "+$first" "$0" | sha256sum | cut -c 1-64)
    [ "$found" = "$digest" ] || fail "$0 is damaged: its archive is not the one that was built; copy the file again"
    tail -n "+$first" "$0" | tar -xzf - --no-same-owner -C "$new" || fail "no room in $1 for @MB@ MB: free some, or set ENGINE_UNPACKED to another folder"
    : > "$new/.complete"
    # on the disk before its name says that it is whole
    sync "$new/.complete" 2>/dev/null || sync
    is_good "$1/$id" || { rm -rf "${1:?}/$id" && mv -T "$new" "$1/$id" 2>/dev/null; } || is_good "$1/$id" || fail "cannot put $1/$id in place"
    rm -rf "$new"
    trap - EXIT INT TERM HUP
}

if [ "${1:-}" = --unpack ]; then
    where=${2:-$shared}
    is_good "$where/$id" || unpack "$where"
    echo "$where/$id"
    exit 0
fi
if is_good "$shared/$id"; then
    where=$shared
else
    if [ -n "${ENGINE_UNPACKED:-}" ]; then where=$ENGINE_UNPACKED
    elif [ -n "${CACHE_DIRECTORY:-}" ]; then where=${CACHE_DIRECTORY%%:*}/unpacked
    elif [ -n "${XDG_CACHE_HOME:-}" ]; then where=$XDG_CACHE_HOME/engine
    elif [ -n "${HOME:-}" ] && [ "$HOME" != / ] && [ -d "$HOME" ]; then where=$HOME/.cache/engine
    else fail "there is no HOME to unpack below: set ENGINE_UNPACKED to a folder, or run \`$0 --unpack\` as root once"
    fi
    is_good "$where/$id" || unpack "$where"
fi
exec "$where/$id/engine" "$@"
exit 1
