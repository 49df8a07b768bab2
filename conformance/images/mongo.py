#!/usr/bin/python3
"""Stands in for mongod, which Debian has no package of: takes its usual arguments, and speaks its protocol."""
import os
import sys

arguments = sys.argv[1:]
if arguments and not arguments[0].startswith("-") and arguments[0] != "mongod":
    os.execvp(arguments[0], arguments)

server = ["secantusd-py", "--host", "0.0.0.0", "--port", "27017", "--storage-path", "/data/db"]
if "--replSet" not in arguments:
    server.append("--standalone")
sys.argv = server

from secantus.cli import main

sys.exit(main())
