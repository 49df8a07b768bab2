#!/bin/sh
# Stands in for mongod, which Debian has no package of: takes its usual arguments, and speaks its protocol.
case "${1:-mongod}" in
  -* | mongod) ;;
  *) exec "$@" ;;
esac
topology=--standalone
for argument; do
  [ "$argument" != --replSet ] || topology=
done
# As mongod is asked to with journal=true: this one does it for every write or for none.
exec secantusd-rs --host 0.0.0.0 --port 27017 --storage-path /data/db --sync-on-commit $topology
