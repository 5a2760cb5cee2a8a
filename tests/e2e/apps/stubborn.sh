#!/bin/bash
# Ends only by SIGKILL, and so does its child.
trap '' INT TERM HUP
echo "stubborn"
while true; do sleep 1000; done
