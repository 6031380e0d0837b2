#!/bin/sh
# pip.sh ARGUMENT...: `pip install` into /opt/fedparty, by the wheels in /build/wheelhouse and, unless it is to be offline, an index.
set -eu

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PIP_FIND_LINKS=/build/wheelhouse
if [ -s /build/ca.pem ]; then
    export PIP_CERT=/build/ca.pem
fi
if [ -n "${PIP_INDEX:-}" ]; then
    export PIP_INDEX_URL="$PIP_INDEX"
fi
if [ -n "${OFFLINE:-}" ]; then
    export PIP_NO_INDEX=1
fi
exec /opt/pip/bin/python -m pip --python "${PYTHON:-/opt/fedparty/bin/python}" install --progress-bar off --compile "$@"
