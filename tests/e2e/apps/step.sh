#!/bin/bash
# One step of a story: NAME begins, is ready when the file `NAME-go` is there (or at once, with no wait), and writes each
# moment as a line to the file `story`. FAIL is the code with which it ends at once; DONE: it ends with 0 when it is ready.
name=$1
tell() { echo "$name $1" >> story; }
tell begins
trap 'tell ends; exit 0' INT
if [ -n "$FAIL" ]; then exit "$FAIL"; fi
until [ -e "$name-go" ]; do sleep 0.05; done
tell "is ready"
if [ -n "$DONE" ]; then exit 0; fi
if [ -n "$NOTIFY_SOCKET" ]; then
  python3 -c 'import os, socket
path = os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", path)'
fi
while :; do sleep 0.1; done
