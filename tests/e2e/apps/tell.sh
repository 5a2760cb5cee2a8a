#!/bin/bash
# Prints how it was started, and runs on.
echo "args:$#:$(IFS='|'; echo "$*")"
echo "cwd:$(pwd)"
echo "instance:$NODE_APP_INSTANCE"
echo "colour:${COLOUR-unset} shape:${SHAPE-unset} size:${SIZE-unset}"
exec sleep 1000
