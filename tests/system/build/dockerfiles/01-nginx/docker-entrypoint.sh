#!/bin/sh
set -e
if [ "$1" = 'server' ]; then echo starting; fi
exec "$@"
