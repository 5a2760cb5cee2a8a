#!/bin/bash
# Ends for nothing but SIGKILL; its child neither.
trap '' INT TERM HUP
echo "stubborn"
while true; do sleep 1000; done
