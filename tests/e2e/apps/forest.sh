#!/bin/bash
# Starts a tree of processes: a plain child, one in a session of its own, one whose parent has ended, and one that is
# both.
sleep 1001 &
setsid sleep 1002 &
(sleep 1003 &)
(setsid sleep 1004 > /dev/null 2>&1 < /dev/null &)
bash -c 'sleep 1005 & wait' &
echo "grown"
wait
