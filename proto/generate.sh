#!/bin/sh
# Writes fedparty/rpc/v1/ from the .proto files beside this script. Run through `make proto`; the output is committed.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
PATH="$(dirname "$python"):$PATH" "$python" -m grpc_tools.protoc -Iproto \
    --python_out="$out" --mypy_out="$out" proto/fedparty/v1/peer.proto proto/fedparty/v1/local.proto
# protoc derives Python imports from the file's path; the package lives under rpc/.
sed -i 's/fedparty\.v1 import/fedparty.rpc.v1 import/; s/fedparty\.v1\.\(peer\|local\)_pb2/fedparty.rpc.v1.\1_pb2/g; s/^import fedparty\.v1/import fedparty.rpc.v1/' "$out"/fedparty/v1/*.py "$out"/fedparty/v1/*.pyi
mkdir -p fedparty/rpc/v1
cp "$out"/fedparty/v1/*.py "$out"/fedparty/v1/*.pyi fedparty/rpc/v1/
