"""A job's own code as an archive: the same bytes everywhere, and nothing in it that does harm where it is unpacked."""

from __future__ import annotations

import io
import os
import stat
import warnings
import zipfile
from pathlib import Path

import pytest

from fedparty.errors import JobError
from fedparty.jobs import code

CONTENT = b"class A: pass\n"
PLAIN = (stat.S_IFREG | 0o400) << 16


def _folder(at: Path, *names: str) -> Path:
    for name in names:
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(CONTENT)
    return at


def _archive(*names: str, compression: int = zipfile.ZIP_STORED, mode: int = PLAIN, data: bytes = CONTENT) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names given twice
        for name in names:
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr, entry.compress_type = 3, mode, compression
            archive.writestr(entry, data)
    return content.getvalue()


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first = _folder(tmp_path / "a", "b.py", "a.py", "p/__init__.py", "p/q.py")
    second = _folder(tmp_path / "b", "p/q.py", "p/__init__.py", "a.py", "b.py", "__pycache__/a.cpython-311.pyc")
    os.utime(second / "a.py", (0, 0))
    (second / "b.py").chmod(0o777)
    packed = code.pack(first)
    assert packed == code.pack(second) == code.read(packed.content)
    assert list(packed.files) == ["a.py", "b.py", "p/__init__.py", "p/q.py"]
    (second / "b.py").write_bytes(CONTENT + b"\n")
    assert code.pack(second).sha256 != packed.sha256


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a.txt"], "is not the file of a module"),
        (["a-b.py"], "is not the file of a module"),
        (["class.py"], "is not the file of a module"),
        (["1/a.py"], "cannot be imported"),
        ([".git/a.py"], "cannot be imported"),
        (["json.py"], "would take the place of the module json"),
        (["fedparty/__init__.py"], "would take the place of the module fedparty"),
        (["a.py", "A.py"], "are the same module"),
        (["a.py", "a/b.py"], "are the same module"),
        (["p/a.py", "P/b.py"], "are the same module"),
        ([], "there is no module in it"),
    ],
)
def test_a_folder_holds_modules_alone(names: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "custom").mkdir()
    with pytest.raises(JobError, match=said):
        code.pack(_folder(tmp_path / "custom", *names))


def test_nothing_but_plain_files_is_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret.py"
    secret.write_text("x = 1\n")
    folder = _folder(tmp_path / "custom", "a.py")
    for make, said in (
        (lambda: (folder / "b.py").symlink_to(secret), "is a symbolic link"),
        (lambda: (folder / "b.py").symlink_to(folder), "is a symbolic link"),
        (lambda: os.mkfifo(folder / "b.py"), "is not a file"),
    ):
        make()
        with pytest.raises(JobError, match=said):
            code.pack(folder)
        (folder / "b.py").unlink()


def test_ten_gigabytes_are_refused_without_being_read(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "a.py")
    with (folder / "b.py").open("wb") as file:
        file.truncate(10 << 30)
    (folder / "b.py").chmod(0)
    with pytest.raises(JobError, match="more than 1000 files or 10485760 bytes"):
        code.pack(folder)


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="more than 1000 files"):
        code.pack(_folder(tmp_path, *(f"m{number}.py" for number in range(1001))))


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (b"", "cannot be read"),
        (b"PK\x05\x06" + bytes(18), "no files"),
        (_archive("../a.py"), "is not the file of a module"),
        (_archive("p/../../a.py"), "is not the file of a module"),
        (_archive("/a.py"), "is not the file of a module"),
        (_archive("p//a.py"), "is not the file of a module"),
        (_archive("./a.py"), "is not the file of a module"),
        (_archive("a\\b.py"), "is not the file of a module"),
        (_archive("p/"), "is not the file of a module"),
        (_archive("ａ.py"), "is not the file of a module"),
        (_archive("a.py", "a.py"), "twice"),
        (_archive("a.py", "A.py"), "are the same module"),
        (_archive("os.py"), "would take the place"),
        (_archive("a.py", mode=(stat.S_IFLNK | 0o777) << 16, data=b"/etc/passwd"), "is not a plain file"),
        (_archive("a.py", mode=(stat.S_IFBLK | 0o600) << 16), "is not a plain file"),
        (_archive("a.py", mode=(stat.S_IFREG | 0o4755) << 16), "is not a plain file"),
        (_archive("a.py", compression=zipfile.ZIP_DEFLATED, data=bytes(100 << 20)), "is compressed"),
        (_archive("b.py", "a.py"), "in another order"),
        (b"#!/bin/sh\n" + _archive("a.py"), "holds more than its files"),
        (_archive("a.py") + b"more", "holds more than its files|cannot be read"),
        (_archive(*(f"m{number}.py" for number in range(1001))), "more than 1000 files"),
        (bytes(code.MAX_BYTES + 1), "10485760 bytes"),
    ],
)  # fmt: skip
def test_an_archive_of_a_stranger_is_taken_as_we_write_it_or_not_at_all(archive: bytes, said: str) -> None:
    with pytest.raises(JobError, match=said):
        code.read(archive)


def test_a_damaged_archive_is_refused() -> None:
    archive = _archive("a.py")
    at = archive.index(CONTENT)
    with pytest.raises(JobError, match="cannot be read"):
        code.read(archive[:at] + b"X" + archive[at + 1 :])
    sizes = archive.replace(len(CONTENT).to_bytes(4, "little"), (1 << 31).to_bytes(4, "little"))
    with pytest.raises(JobError):
        code.read(sizes)
