"""Which service reads which file, and what that means for its digest."""

from __future__ import annotations

import pytest

from fedparty.pki.manifest import FileEntry
from fedparty.pki.readers import digest, live_rank, readers


@pytest.mark.parametrize(
    ("path", "services"),
    [
        ("proxy/bootstrap.json", {"proxy"}),
        ("proxy/tls.key", {"proxy"}),
        ("flow/settings.json", {"flow"}),
        ("flow-2/settings.json", {"flow-2"}),
        ("flow/database-ca.crt", {"flow", "flow-2"}),
        ("ca/ca.crt", {"federation", "flow", "flow-2", "worker"}),
        ("secrets/api-token", {"flow", "flow-2"}),
        ("secrets/proxy-secret", {"federation", "flow", "flow-2"}),
        ("secrets/mysql-password", {"flow", "flow-2", "mysql"}),
        ("bundle.json", set()),
        ("README.md", set()),
        ("fedparty-bundle", set()),
        ("docker-compose.yml", set()),
        ("supervisord.conf", set()),
    ],
)
def test_each_file_has_its_readers(path: str, services: set[str]) -> None:
    assert readers(path, FileEntry("0")) == services


def test_a_live_file_is_noticed_and_so_read_by_nobody_once() -> None:
    assert readers("proxy/live/cds.json", FileEntry("0", is_live=True)) == set()


def test_a_digest_changes_with_what_the_service_reads_and_with_nothing_else() -> None:
    files = {"flow/settings.json": FileEntry("a"), "proxy/bootstrap.json": FileEntry("b")}
    other = files | {"proxy/bootstrap.json": FileEntry("c")}
    assert digest("flow", files) == digest("flow", other)
    assert digest("proxy", files) != digest("proxy", other)
    assert digest("flow", files) == digest("flow", dict(reversed(files.items())))


def test_live_files_are_put_in_place_so_that_the_proxy_can_follow() -> None:
    names = ["lds.json", "rds_egress.json", "cds.json", "sds_trust.json", "crl.pem"]
    ordered = sorted((f"x/live/{name}" for name in names), key=live_rank)
    assert [path.rpartition("/")[2] for path in ordered] == [
        "crl.pem", "sds_trust.json", "cds.json", "rds_egress.json", "lds.json",
    ]  # fmt: skip
