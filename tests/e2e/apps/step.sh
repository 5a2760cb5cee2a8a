#!/bin/bash
# An app of a scenario with dependencies. NAME begins, and is ready as soon as the file `NAME-go` exists. It appends a line to
# the file `events` at each step. With FAIL it exits at once with that code; with DONE it exits with 0 when it is ready.
name=$1
note() { echo "$name $1" >> events; }
note begins
trap 'note ends; exit 0' INT
if [ -n "$FAIL" ]; then exit "$FAIL"; fi
until [ -e "$name-go" ]; do sleep 0.05; done
note "is ready"
if [ -n "$DONE" ]; then exit 0; fi
if [ -n "$NOTIFY_SOCKET" ]; then
  python3 -c 'import os, socket
path = os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", path)'
fi
while :; do sleep 0.1; done
