"""``fedparty job download``: one folder, whole or absent, that goes on where it broke off."""

from __future__ import annotations

import asyncio
import csv
import fcntl
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from flow_party import EVERYTHING, TOKEN, FlowParty, ScriptedWorker, description, flow_lab

from fedparty.cli import job_download
from fedparty.client import Session
from fedparty.errors import JobError, RpcError
from fedparty.types import Secret

MODEL = bytes(range(256)) * 4000


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def _download(party: FlowParty, job: str, folder: Path) -> list[str]:
    told: list[str] = []

    def download() -> list[str]:
        with Session(party.settings.rest, Secret(TOKEN), patience_s=0) as session:
            return job_download.write(session, job, folder, told.append)

    names = await asyncio.to_thread(download)
    assert names == _names(folder)
    return told


def _figure(value: float | None) -> bytes:
    where = {"time": "2024-05-01T12:00:00.250+00:00", "task": "sum", "attempt": 1, "role": "guest"}
    return json.dumps(where | {"name": "loss", "value": value, "step": None}).encode() + b"\n"


async def test_everything_of_a_job_is_in_one_folder_and_what_is_not_shown_is_said(tmp_path: Path) -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        guest.worker.metrics["guest"] = _figure(0.5) + _figure(None)
        guest.worker.outputs = {"models/final.bin": MODEL}
        job = await guest.submit(description())
        await guest.until(job)
        told = await _download(guest, job, tmp_path / "closed")
        assert [line.partition(":")[0] for line in told] == [
            "without logs at party 9999",
            "without metrics at party 9999",
        ]
        host.allow(EVERYTHING.replace("}]", ", shows: [logs]}]"))
        told = await _download(guest, job, tmp_path / "open")
        assert [line.partition(":")[0] for line in told] == ["without metrics at party 9999"]
        own, other = tmp_path / "open", tmp_path / "open" / "parties" / "9999"
        assert _names(other) == ["logs.jsonl"]
        assert json.loads((other / "logs.jsonl").read_text())["role"] == "host"
        assert json.loads((own / "result.json").read_text()) == {"sum": {"guest": {"role": "guest"}}}
        assert json.loads((own / "results.json").read_text())["9999"] == {"sum": {"host": {"role": "host"}}}
        rows = list(csv.DictReader((own / "metrics.csv").read_text().splitlines()))
        assert [(row["name"], row["value"], row["step"]) for row in rows] == [("loss", "0.5", ""), ("loss", "nan", "")]
        assert _names(own / "tensorboard" / "sum" / "1" / "guest")
        assert (own / "outputs" / "sum" / "1" / "guest" / "models" / "final.bin").read_bytes() == MODEL
        assert _names(tmp_path) == ["closed", "open"]
        await host.until(job)
        assert await _download(host, job, tmp_path / "at the host") == []


async def test_a_download_that_broke_off_goes_on_within_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        party.worker.outputs = {"final.bin": MODEL}
        job = await party.submit(description(host="10000"))
        await party.until(job)
        asked: list[int] = []

        async def broken(worker: ScriptedWorker, request: Any, _context: Any) -> AsyncIterator[bytes]:
            asked.append(request.offset_bytes)
            yield MODEL[request.offset_bytes : request.offset_bytes + 300_000]
            if len(asked) < 3:
                raise OSError("the disk is broken")
            yield MODEL[request.offset_bytes + 300_000 :]

        await party.worker.close()
        monkeypatch.setattr(ScriptedWorker, "_read_output", broken)
        await party.worker.listen(party.settings.worker)
        with pytest.raises(RpcError):
            await _download(party, job, tmp_path / "all")
        assert _names(tmp_path) == [f".all.{job}.partial"]
        lock = os.open(tmp_path / f".all.{job}.partial", os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(JobError, match="another download is writing it"):
            await _download(party, job, tmp_path / "all")
        os.close(lock)
        with pytest.raises(RpcError):
            await _download(party, job, tmp_path / "all")
        await _download(party, job, tmp_path / "all")
        assert (asked[0], asked[1] > 0, asked[2] > asked[1]) == (0, True, True)
        for role in ("guest", "host"):
            assert (tmp_path / "all" / "outputs" / "sum" / "1" / role / "final.bin").read_bytes() == MODEL
        assert _names(tmp_path) == ["all"]
        with pytest.raises(JobError, match="exists already"):
            await _download(party, job, tmp_path / "all")
