"""The revocation list as a running service sees it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from watchfiles import awatch

from fedparty.crypto.files import replace_file
from fedparty.crypto.revocations import Revocations
from fedparty.errors import CertificateError


def test_a_revoked_serial_is_seen_as_soon_as_the_file_is_replaced(guest: Any) -> None:
    revocations = Revocations(guest.crl)
    (serial,) = (entry.serial for entry in guest.authority.certificates())
    assert not revocations.is_revoked(serial)
    guest.authority.revoke(serial)
    guest.refresh_crl()
    assert revocations.is_revoked(serial)
    assert revocations.is_revoked(serial.upper().zfill(42))


@pytest.mark.parametrize("serial", ["", "xyz", "12 34;"])
def test_a_serial_that_cannot_be_read_counts_as_revoked(guest: Any, serial: str) -> None:
    assert Revocations(guest.crl).is_revoked(serial)


def test_a_bad_list_leaves_the_good_one_in_force(guest: Any, caplog: pytest.LogCaptureFixture) -> None:
    (revoked,) = guest.authority.revoke("10000")
    guest.refresh_crl()
    revocations = Revocations(guest.crl)
    replace_file(guest.crl, b"no list")
    with caplog.at_level(logging.ERROR):
        assert revocations.is_revoked(revoked.serial)
        assert revocations.is_revoked(revoked.serial)
    assert caplog.messages == [
        f"{guest.crl}: not a revocation list in PEM; the list read before stays in force",
    ]
    guest.refresh_crl()
    assert revocations.is_revoked(revoked.serial)


def test_a_list_that_vanishes_leaves_the_good_one_in_force(guest: Any) -> None:
    (revoked,) = guest.authority.revoke("10000")
    guest.refresh_crl()
    revocations = Revocations(guest.crl)
    guest.crl.unlink()
    assert revocations.is_revoked(revoked.serial)


def test_an_absent_list_is_an_error_at_the_start(guest: Any) -> None:
    guest.crl.unlink()
    with pytest.raises(CertificateError) as caught:
        Revocations(guest.crl)
    assert caught.value.message == f"{guest.crl}: there is no revocation list"


async def test_changes_tell_of_each_new_list_and_of_nothing_else(guest: Any) -> None:
    revocations = Revocations(guest.crl)
    changes = revocations.changes()
    first = asyncio.ensure_future(anext(changes))
    (guest.folder / "other").write_text("not the list")
    guest.authority.revoke("10000")
    guest.refresh_crl()
    await asyncio.wait_for(first, 20)
    (serial,) = (entry.serial for entry in guest.authority.certificates())
    assert revocations.is_revoked(serial)
    second = asyncio.ensure_future(anext(changes))
    second.cancel()
    await asyncio.wait([second])
    await changes.aclose()


async def test_where_the_kernel_gives_no_watch_the_list_is_polled(
    guest: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    is_polled = asyncio.Event()

    def refusing(*folders: Any, force_polling: bool | None, **options: Any) -> Any:
        if not force_polling:
            raise OSError(24, "Too many open files")
        is_polled.set()
        return awatch(*folders, force_polling=True, poll_delay_ms=50, **options)

    monkeypatch.setattr("fedparty.crypto.revocations.awatch", refusing)
    changes = Revocations(guest.crl).changes()
    first = asyncio.ensure_future(anext(changes))
    await is_polled.wait()
    guest.authority.revoke("10000")
    guest.refresh_crl()
    await asyncio.wait_for(first, 20)
    await changes.aclose()
    assert "so it is polled" in caplog.text
