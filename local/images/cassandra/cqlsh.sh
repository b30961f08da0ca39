#!/bin/bash
# cqlsh, logged in as the role `userpipeline` unless -u names another.
export HOME=/tmp
exec python3 -m cqlshlib --credentials=/tmp/cqlsh-credentials "$@"
