#!/bin/bash
# Writes bytes that are not UTF-8, a line of 3,000,000 bytes, and a line without an end.
printf 'before \xff\xfe\x80 after\n'
head -c 3000000 /dev/zero | tr '\0' 'z'
printf '\nunfinished'
exec sleep 1000
