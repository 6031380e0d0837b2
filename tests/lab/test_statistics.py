"""The statistics example as its README shows it: bind, allow, submit; and what happens when a step is left out."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from laboratory import ENVIRONMENT, REPOSITORY, Laboratory, laboratory

from fedparty.client import Session
from fedparty.components.statistics import suppressed
from fedparty.errors import FedpartyError

EXAMPLE = REPOSITORY / "examples" / "statistics"
COLUMNS = ("radius", "texture", "area", "smoothness", "concavity")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with laboratory(tmp_path_factory.mktemp("lab")) as lab:
        lab.write_configuration()
        lab.up("--no-verify")
        yield lab


def fedparty(lab: Laboratory, party: str, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "fedparty", *arguments],
        cwd=REPOSITORY,
        env=ENVIRONMENT | {"FEDPARTY_HOME": str(lab.home(party))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def allow(lab: Laboratory, party: str) -> None:
    folder = lab.home(party) / "policy"
    folder.mkdir(exist_ok=True)
    shutil.copy(EXAMPLE / "policy.yaml", folder / "new")
    (folder / "new").rename(folder / "policy.yaml")


def pooled() -> dict[str, np.ndarray[Any, Any]]:
    rows = []
    for site in ("10000", "9999"):
        with (EXAMPLE / "data" / f"patients-{site}.csv").open() as file:
            rows += list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in COLUMNS}


def test_the_example_gives_what_numpy_gives_on_the_pooled_table(lab: Laboratory) -> None:
    for party in lab.parties:
        allow(lab, party)
        tables = lab.home(party) / "data" / "tables"
        tables.mkdir(parents=True, exist_ok=True)
        shutil.copy(EXAMPLE / "data" / f"patients-{party}.csv", tables)
        bound = fedparty(lab, party, "table", "bind", "patients", f"patients-{party}.csv", "--id", "patient")
        assert "radius" in bound
        assert "identifies a row" in bound
    assert "patients" in fedparty(lab, "10000", "table", "list")
    shown = json.loads(fedparty(lab, "9999", "table", "show", "patients", "--output", "json"))
    assert (shown["rows"], shown["id_column"]) == (284, "patient")

    fedparty(lab, "10000", "job", "submit", str(EXAMPLE), "--wait")
    with Session.at_home(lab.home("10000")) as session:
        job = session.jobs(1)[0]
        results = {task.party: task.result for task in session.job(job.id).tasks}
    assert results["10000"] == results["9999"]
    for name, values in pooled().items():
        found = results["10000"]["columns"][name]
        assert (found["count"], found["missing"]) == (569, 0)
        assert found["mean"] == pytest.approx(float(values.mean()), rel=1e-13)
        assert found["variance"] == pytest.approx(float(values.var(ddof=1)), rel=1e-11)
    counts, _ = np.histogram(pooled()["radius"], [5, 10, 15, 20, 25, 30])
    histogram = results["10000"]["columns"]["radius"]["histogram"]
    assert [histogram["below"], *histogram["counts"], histogram["above"]] == suppressed([0, *counts.tolist(), 0], 10)


def test_a_file_that_changed_fails_the_job_with_the_table_and_the_remedy(lab: Laboratory) -> None:
    path = lab.home("9999") / "data" / "tables" / "patients-9999.csv"
    os.utime(path, ns=(1, 1))
    told = fedparty(lab, "10000", "job", "submit", str(EXAMPLE), "--wait", code=3)
    assert "table 'patients': the file patients-9999.csv has changed since it was bound" in told
    assert "fedparty table bind patients patients-9999.csv" in told


def test_a_site_without_the_table_is_named(lab: Laboratory) -> None:
    assert "not bound any more" in fedparty(lab, "9999", "table", "unbind", "patients")
    told = fedparty(lab, "10000", "job", "submit", str(EXAMPLE), "--wait", code=3)
    assert "party 9999 has no table 'patients'" in told
    assert "At party 9999: fedparty table list" in told


def test_nothing_outside_the_folder_for_tables_can_be_bound(lab: Laboratory) -> None:
    secret = lab.bundle("9999") / "secrets" / "api-token"
    link = lab.home("9999") / "data" / "tables" / "token.csv"
    link.symlink_to(secret)
    with Session.at_home(lab.home("9999")) as session:
        for path in (str(secret), "../../bundle/secrets/api-token", "token.csv"):
            with pytest.raises(FedpartyError, match=r"lies outside|'\.\.' is not followed"):
                session.bind_table("token", path)


def test_a_wrong_job_is_refused_before_it_starts(lab: Laboratory, tmp_path: Path) -> None:
    text = (EXAMPLE / "job.yaml").read_text()
    cases = {
        "component: statistics": ("component: statistic", "there is no component 'statistic' here", "'statistics'"),
        "min_group": ("mingroup", "unknown parameter 'mingroup'", "Did you mean 'min_group'?"),
    }
    for right, (wrong, error, hint) in cases.items():
        (tmp_path / "job.yaml").write_text(text.replace(right, wrong))
        told = fedparty(lab, "10000", "job", "submit", str(tmp_path), code=1)
        assert error in told
        assert hint in told


def test_components_are_listed_and_described_by_the_party(lab: Laboratory) -> None:
    assert "statistics" in fedparty(lab, "10000", "component", "list")
    described = json.loads(fedparty(lab, "10000", "component", "describe", "statistics", "--output", "json"))
    assert {"table", "columns", "min_group"} <= {each["name"] for each in described["parameters"]}
    told = fedparty(lab, "10000", "component", "describe", "statistic", code=1)
    assert "Did you mean 'statistics'?" in told
