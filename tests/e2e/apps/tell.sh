#!/bin/bash
# Tells how it was started, and stays.
echo "args:$#:$(IFS='|'; echo "$*")"
echo "cwd:$(pwd)"
echo "instance:$NODE_APP_INSTANCE"
echo "colour:${COLOUR-unset} shape:${SHAPE-unset} size:${SIZE-unset}"
exec sleep 1000
