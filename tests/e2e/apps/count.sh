#!/bin/bash
# Numbers its lines, so that lost and duplicated lines show.
exec {never}<> <(:)
n=0
while true; do
  n=$((n + 1))
  echo "$$ $n"
  read -r -t "${1:-0.01}" -u "$never"
done
