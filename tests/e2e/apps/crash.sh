#!/bin/bash
# Says something on both outputs and exits with the code it was given.
echo "started with code ${1:-1}"
echo "last words" >&2
exit "${1:-1}"
