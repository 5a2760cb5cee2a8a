#!/bin/bash
# Writes a line to each of its outputs at an interval: an app to watch with `pmr logs`.
#
#   pmr start examples/ticker.sh -- 0.2
pause=${1:-1}
tick=0
while true; do
  tick=$((tick + 1))
  echo "tick $tick"
  [ $((tick % 5)) -eq 0 ] && echo "tock $tick" >&2
  sleep "$pause"
done
