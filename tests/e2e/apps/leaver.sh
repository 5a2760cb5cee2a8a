#!/bin/bash
# Leaves after as many seconds as it was given, with the code it was given.
echo "here"
sleep "${1:-0.5}"
exit "${2:-0}"
