"""Files that are whole, or secret, or both; keys in them."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from fedparty.crypto.files import make_private_folder, read_secret, replace_file
from fedparty.crypto.keys import generate_key, is_signature, key_from_pem, key_to_pem, read_key, sign
from fedparty.errors import CertificateError, ConfigurationError


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_has_its_mode_whatever_the_umask(tmp_path: Path, mode: int) -> None:
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "file", b"content", mode=mode)
    finally:
        os.umask(before)
    assert (tmp_path / "file").read_bytes() == b"content"
    assert mode_of(tmp_path / "file") == mode


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_file(tmp_path / "file", b"old")
    seen: list[int] = []

    def interrupt(descriptor: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        raise KeyboardInterrupt

    monkeypatch.setattr("fedparty.crypto.files.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_file(tmp_path / "file", b"new", mode=0o600)
    assert seen == [0o600]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_private_folder_is_made_private_again(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "a")
    assert mode_of(tmp_path / "a") == 0o700
    (tmp_path / "a").chmod(0o755)
    make_private_folder(tmp_path / "a")
    assert mode_of(tmp_path / "a") == 0o700


def test_a_key_is_read_as_it_was_written(tmp_path: Path) -> None:
    key = generate_key()
    replace_file(tmp_path / "key", key_to_pem(key), mode=0o600)
    assert read_key(tmp_path / "key").private_numbers() == key.private_numbers()


def pem_of(key: Any) -> bytes:
    plain = serialization.NoEncryption()
    return bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (b"hello", "k: not an unencrypted private key in PEM"),
        (pem_of(ed25519.Ed25519PrivateKey.generate()), "k: not an EC P-256 key"),
        (pem_of(ec.generate_private_key(ec.SECP384R1())), "k: not an EC P-256 key"),
    ],
)
def test_what_is_no_key_is_named(pem: bytes, message: str) -> None:
    with pytest.raises(CertificateError) as caught:
        key_from_pem(pem, where="k")
    assert caught.value.message == message
    assert caught.value.hint


def test_a_signature_is_the_same_each_time_and_of_one_key_only() -> None:
    key = generate_key()
    signature = sign(key, b"payload")
    assert signature == sign(key, b"payload")
    assert is_signature(key.public_key(), signature, b"payload")
    assert not is_signature(key.public_key(), signature, b"other")
    assert not is_signature(generate_key().public_key(), signature, b"payload")
    assert not is_signature(key.public_key(), b"no signature", b"payload")


def test_a_secret_is_read_without_its_newline(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    secret = read_secret(tmp_path / "secret")
    assert (secret.reveal(), str(secret)) == ("s3cret", "***")


@pytest.mark.parametrize(
    ("content", "fault"), [(b"", "the secret is empty"), (b" \n", "the secret is empty"), (b"\xff", "it is not text")]
)
def test_a_secret_that_everybody_would_know_is_refused(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"secret: {fault}$"):
        read_secret(tmp_path / "secret")


def test_a_secret_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"secret: No such file or directory$") as raised:
        read_secret(tmp_path / "secret")
    assert raised.value.hint == "Run generate_config.py again and deploy the party."
