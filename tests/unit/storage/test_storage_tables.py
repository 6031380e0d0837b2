"""A site's files as tables: types, missing values, which files may be read, and what happens when they change."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedparty.errors import ComponentError, ConfigurationError
from fedparty.storage import reading
from fedparty.storage.source import Source, locate
from fedparty.storage.table import Column, Table, Type

CSV = '\ufeffid,age,weight,city,note\n1,50,70.5,Bonn,\n2,,NA,"Köln, Deutz",x\n3,61,1e2,,NaN\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "people.csv").write_text(CSV, encoding="utf-8")
    return folder


def test_a_csv_file_is_described_and_read(root: Path):
    source = reading.describe(root, "people", "people.csv", "id")
    assert (source.path, source.rows, source.id_column) == ("people.csv", 3, "id")
    assert source.columns == (
        Column("id", Type.INTEGER),
        Column("age", Type.NUMBER),
        Column("weight", Type.NUMBER),
        Column("city", Type.TEXT),
        Column("note", Type.TEXT),
    )
    assert Source.from_json(json.loads(json.dumps(source.to_json()))) == source
    table = reading.read(root, source)
    assert table.column("id").tolist() == [1, 2, 3]
    np.testing.assert_array_equal(table.column("age"), [50, math.nan, 61])
    np.testing.assert_array_equal(table.column("weight"), [70.5, math.nan, 100])
    assert table.column("city").tolist() == ["Bonn", "Köln, Deutz", None]
    assert table.is_missing("city").tolist() == [False, False, True]
    assert table.is_missing("age").tolist() == [False, True, False]


def test_a_column_is_the_readers_own(root: Path):
    table = reading.read_file(root / "people.csv", "people")
    table.column("id")[0] = 99
    assert table.column("id")[0] == 1


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-2", "+3"], Type.INTEGER),
        (["1", "2.0"], Type.NUMBER),
        (["1", ""], Type.NUMBER),
        (["", "NA"], Type.NUMBER),
        (["1", "x"], Type.TEXT),
        (["1", "inf"], Type.TEXT),
        (["1_000"], Type.TEXT),
        ([str(2**53)], Type.INTEGER),
        ([str(2**53 + 1)], Type.TEXT),
    ],
)
def test_the_type_of_a_column_is_found(tmp_path: Path, cells: list[str], kind: Type):
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{cell},x\n" for cell in cells))
    assert reading.read_file(tmp_path / "t.csv", "t").columns[0].type is kind


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_survive_a_csv_file(tmp_path_factory: pytest.TempPathFactory, numbers: list[float]):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text("a\n" + "".join(f"{number!r}\n" for number in numbers))
    assert reading.read_file(path, "t").numbers("a").tolist() == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line must name every column"),
        ("a,,c\n", "the first line must name every column"),
        ("a,a\n", "each name once"),
        ("a,b\n1,2\n1\n", "row 3 has 1 cells, the header has 2"),
        ('a,b\n"1,2\n', "is not CSV"),
        (b"a,b\n\xff,1\n", "is not UTF-8"),
    ],
)
def test_a_damaged_file_is_named(root: Path, text: str | bytes, message: str):
    (root / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigurationError, match=message):
        reading.describe(root, "t", "t.csv", None)


def test_a_file_that_changed_is_not_read_until_it_is_bound_again(root: Path):
    source = reading.describe(root, "people", "people.csv", None)
    (root / "people.csv").write_text("id,age\n1,2\n")
    with pytest.raises(ConfigurationError, match=r"table 'people': the file people\.csv has changed") as told:
        reading.read(root, source)
    assert told.value.hint.endswith("fedparty table bind people people.csv")
    assert reading.read(root, reading.describe(root, "people", "people.csv", None)).rows == 1


def test_a_touched_file_counts_as_changed(root: Path):
    source = reading.describe(root, "people", "people.csv", None)
    os.utime(root / "people.csv", ns=(0, 0))
    with pytest.raises(ConfigurationError, match="has changed"):
        reading.read(root, source)


@pytest.mark.parametrize("path", ["../secret.csv", "people.csv/../../secret.csv", "link.csv", "folder/secret.csv"])
def test_nothing_outside_the_folder_is_read(root: Path, path: str):
    (root.parent / "secret.csv").write_text("a\n1\n")
    (root / "link.csv").symlink_to(root.parent / "secret.csv")
    (root / "folder").symlink_to(root.parent)
    with pytest.raises(ConfigurationError, match=r"lies outside|'\.\.' is not followed"):
        locate(root, path)
    with pytest.raises(ConfigurationError, match="lies outside"):
        locate(root, str(root.parent / "secret.csv"))


def test_a_table_that_is_swapped_for_a_link_is_not_read(root: Path):
    source = reading.describe(root, "people", "people.csv", None)
    (root / "people.csv").rename(root.parent / "moved.csv")
    (root / "people.csv").symlink_to(root.parent / "moved.csv")
    with pytest.raises(ConfigurationError, match="lies outside"):
        reading.read(root, source)


def test_the_folder_itself_may_be_a_link(root: Path, tmp_path: Path):
    (tmp_path / "link").symlink_to(root)
    source = reading.describe(tmp_path / "link", "people", str(root / "people.csv"), None)
    assert source.path == "people.csv"
    assert reading.read(tmp_path / "link", source).rows == 3


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent.csv", "No such file"),
        (".", "is not a file"),
        ("t.txt", "ends in .csv or .parquet"),
        ("a\0b", "not followed"),
    ],
)
def test_what_is_no_table_is_named(root: Path, path: str, message: str):
    (root / "t.txt").write_text("a\n1\n")
    with pytest.raises(ConfigurationError, match=message) as told:
        reading.describe(root, "t", path, None)
    assert told.value.hint


def test_a_site_without_a_folder_is_told_how_to_make_one(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="this site has no folder for tables") as told:
        locate(tmp_path / "tables", "t.csv")
    assert "data_dir" in told.value.hint


@pytest.mark.parametrize(("column", "message"), [("ide", "has no column 'ide'"), ("age", "does not identify its rows")])
def test_an_identifier_identifies(root: Path, column: str, message: str):
    with pytest.raises(ConfigurationError, match=message):
        reading.describe(root, "people", "people.csv", column)


def test_an_unknown_column_is_answered_with_the_nearest():
    table = Table("t", {"weight": np.arange(3), "city": np.array(["a", None, "b"], dtype=object)})
    with pytest.raises(ComponentError, match="table 't' has no column 'wieght'") as told:
        table.column("wieght")
    assert told.value.hint == "Did you mean 'weight'?"
    with pytest.raises(ComponentError, match="is text, not numbers"):
        table.numbers("city")
    with pytest.raises(ComponentError, match="its columns have 2, 3 rows"):
        Table("t", {"a": np.arange(3), "b": np.arange(2)})


def test_a_parquet_file_is_read_as_the_same_csv_is(root: Path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra fedparty[parquet] is not installed")
    from pyarrow import parquet

    columns = {"id": [1, 2, 3], "age": [50, None, 61], "weight": [70.5, None, 100.0], "city": ["Bonn", "Köln", None]}
    parquet.write_table(pyarrow.table(columns), root / "people.parquet")
    source = reading.describe(root, "people", "people.parquet", "id")
    assert [column.type for column in source.columns] == ["integer", "number", "number", "text"]
    table = reading.read(root, source)
    np.testing.assert_array_equal(table.column("age"), [50, math.nan, 61])
    assert table.column("city").tolist() == ["Bonn", "Köln", None]


def test_a_damaged_parquet_file_is_named(root: Path):
    pytest.importorskip("pyarrow", reason="the extra fedparty[parquet] is not installed")
    (root / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ConfigurationError, match="is not a Parquet file"):
        reading.describe(root, "t", "t.parquet", None)
