#!/bin/bash
# cqlsh, logged in as the role `userpipeline` unless -u names another.
export HOME=/tmp
# For `cqlsh --ssl localhost 9142`.
export SSL_CERTFILE=/secrets/tls/ca.crt
exec python3 -m cqlshlib --credentials=/tmp/cqlsh-credentials "$@"
