#!/bin/sh
# Makes users and database on the first start, as the image of the same name does, and then is the server.
set -eu
data=/var/lib/mysql
case "${1:-mariadbd}" in -*) set -- mariadbd "$@" ;; esac
case "$1" in mariadbd | mysqld) shift ;; *) exec "$@" ;; esac
if [ ! -e "$data/.made" ]; then
  password=${MARIADB_ROOT_PASSWORD:-${MYSQL_ROOT_PASSWORD:-}}
  database=${MARIADB_DATABASE:-${MYSQL_DATABASE:-test}}
  if [ -z "$password${MARIADB_ALLOW_EMPTY_ROOT_PASSWORD:-${MYSQL_ALLOW_EMPTY_PASSWORD:-}}" ]; then
    echo "MARIADB_ROOT_PASSWORD or MARIADB_ALLOW_EMPTY_ROOT_PASSWORD must be set" >&2
    exit 1
  fi
  # In this mode a statement ends with its line.
  {
    echo "FLUSH PRIVILEGES;"
    echo "CREATE USER IF NOT EXISTS 'root'@'%' IDENTIFIED BY '$password';"
    echo "GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;"
    echo "ALTER USER 'root'@'localhost' IDENTIFIED BY '$password';"
    echo "CREATE DATABASE IF NOT EXISTS \`$database\`;"
  } >/tmp/make.sql
  mariadbd --bootstrap --user=mysql --datadir="$data" --skip-log-error </tmp/make.sql >/tmp/make.log 2>&1 || {
    cat /tmp/make.log >&2
    exit 1
  }
  : >"$data/.made"
fi
# Packages leave this folder to the system's start, which a container does not have.
install -d -o mysql /run/mysqld
exec mariadbd --user=mysql --datadir="$data" --bind-address=0.0.0.0 --port=3306 "$@"
