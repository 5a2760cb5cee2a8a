#!/bin/bash
# Numbers its lines: one that is lost or comes twice shows.
exec {never}<> <(:)
n=0
while true; do
  n=$((n + 1))
  echo "$$ $n"
  read -r -t "${1:-0.01}" -u "$never"
done
