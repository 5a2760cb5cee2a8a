#!/bin/bash
# Exits after the seconds and with the code in its arguments.
echo "here"
sleep "${1:-0.5}"
exit "${2:-0}"
