#!/bin/sh
# Makes the database on the first start, as the image of the same name does, and then is the server.
set -eu
bin=/usr/lib/postgresql/15/bin
case "${1:-postgres}" in -*) set -- postgres "$@" ;; esac
[ "$1" = postgres ] || exec "$@"
shift
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  auth=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
  printf '%s\n' "${POSTGRES_PASSWORD:?must be set}" >/tmp/password
  "$bin/initdb" --pgdata "$PGDATA" --username "$user" --pwfile /tmp/password --auth-local trust --auth-host "$auth" \
    --encoding UTF8 --locale C.UTF-8 --no-sync >/dev/null
  rm /tmp/password
  printf 'host all all all %s\n' "$auth" >>"$PGDATA/pg_hba.conf"
  if [ "$database" != postgres ]; then
    "$bin/pg_ctl" -D "$PGDATA" -o "-c listen_addresses=''" -w start >/dev/null
    "$bin/psql" --username "$user" --dbname postgres --command "CREATE DATABASE \"$database\""
    "$bin/pg_ctl" -D "$PGDATA" -m fast -w stop >/dev/null
  fi
fi
exec "$bin/postgres" -D "$PGDATA" -c listen_addresses='*' "$@"
