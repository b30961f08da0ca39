#!/bin/bash
# cqlsh, logged in as the role `userpipeline` unless -u names another.
export HOME=/tmp
export SSL_CERTFILE=/secrets/tls/ca.crt
exec python3 -m cqlshlib --ssl --credentials=/tmp/cqlsh-credentials "$@"
