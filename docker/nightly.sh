#!/bin/sh
# Every night at the time given as HH:MM (UTC; 02:00 unless said): sync, then the retention. Once at the start, too.
# A failed night is logged and tried again the next one; a stop is passed on, so that the run under way drains.
set -u
at=${1:-02:00}
child=

stop() {
    trap '' TERM INT
    if [ -n "$child" ]; then
        kill -TERM "$child" 2>/dev/null
        wait "$child"
    fi
    exit 0
}
trap stop TERM INT

# In the background and waited for: a shell acts on a signal only between two foreground commands.
run() {
    "$@" &
    child=$!
    wait "$child"
    code=$?
    child=
    return "$code"
}

seconds_until_next() {
    now=$(date -u +%s)
    next=$(date -u -d "$at" +%s) || exit 2
    [ "$next" -gt "$now" ] || next=$((next + 86400))
    echo $((next - now))
}

pause=$(seconds_until_next) || exit 2
run ingest db upgrade || exit $?
while true; do
    run ingest sync -q && run ingest cleanup -q || echo "nightly: ended with $code; next at $at UTC" >&2
    pause=$(seconds_until_next)
    run sleep "$pause"
done
