#!/bin/bash
# Prints the signals that it gets.
trap 'echo got USR1' USR1
trap 'echo got HUP' HUP
trap 'echo got INT; exit 0' INT
echo "listening"
while true; do sleep 0.05; done
