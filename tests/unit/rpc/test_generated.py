"""The committed protobuf code is what `make proto` writes from proto/ today."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from fedparty.rpc.v1 import local_pb2, peer_pb2

ROOT = Path(__file__).resolve().parents[3]
FILES = ("fedparty/v1/peer.proto", "fedparty/v1/local.proto")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, FileDescriptorProto]:
    out = tmp_path_factory.mktemp("proto") / "descriptors"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto", f"--descriptor_set_out={out}", *FILES]
    subprocess.run(command, cwd=ROOT, check=True)
    return {file.name: file for file in FileDescriptorSet.FromString(out.read_bytes()).file}


@pytest.mark.parametrize("module", [peer_pb2, local_pb2], ids=["peer", "local"])
def test_the_generated_code_describes_the_same_messages(
    module: object, compiled: dict[str, FileDescriptorProto]
) -> None:
    committed = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(committed)  # type: ignore[attr-defined]
    wanted = compiled[committed.name]
    for message in (*committed.message_type, *wanted.message_type):
        forget_json_names(message)
    assert committed == wanted


def forget_json_names(message: DescriptorProto) -> None:
    """Drop what only the compiler's own output has."""
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        forget_json_names(nested)
