"""The job folder: what is read, what is said about the rest, and that what is written is read again."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fedparty.errors import FedpartyError, JobError
from fedparty.jobs import document, folder
from fedparty.jobs.description import JobDescription

JOB = """\
name: sum
roles:
  guest: [10000]
  host: [9999]
tasks:
  sum:
    component: secure_sum
"""
ALL = """\
name: "sum of March"
roles: {guest: [10000], host: &hosts ["9999", 9998]}
tasks:
  first: {component: secure_sum, parameters: &common {rate: 1e-3, n: 0x10, yes: no}}
  second:
    component: secure_sum
    parameters: *common
    role_parameters: {host: {text: "7", day: 2026-01-01, none: ~, deep: [[1], {a: true}]}}
    party_parameters: {9998: {n: 2}}
    cores: 0.5
    memory_bytes: 1073741824
    gpus: 1
    after: [first]
    retries: 5
    timeout_s: 60
timeout_s: 600
priority: -5
"""


def _write(at: Path, text: str | bytes) -> Path:
    (at / "job.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    return at


def _fault(at: Path, text: str | bytes) -> str:
    with pytest.raises(JobError) as raised:
        folder.read(_write(at, text))
    assert raised.value.hint
    return raised.value.message.replace(f"{at}/", "")


def test_every_key(tmp_path: Path) -> None:
    job = folder.read(_write(tmp_path, ALL))
    first, second = job.tasks["first"], job.tasks["second"]
    assert job.roles == {"guest": ("10000",), "host": ("9999", "9998")}
    assert first.parameters == second.parameters == {"rate": 0.001, "n": 16, "yes": "no"}
    assert second.role_parameters["host"] == {
        "text": "7",
        "day": "2026-01-01",
        "none": None,
        "deep": [[1], {"a": True}],
    }
    assert second.party_parameters == {"9998": {"n": 2}}
    assert (second.cores, second.memory_bytes, second.gpus, second.retries) == (0.5, 2**30, 1, 5)
    assert (second.after, second.timeout_s, job.timeout_s, job.priority) == (("first",), 60, 600, -5)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "job.yaml:1:1: job.yaml: a job is a mapping of keys"),
        ("- a", "job.yaml:1:1: job.yaml: a job is a mapping of keys"),
        (JOB + "names: x", "job.yaml:8:1: names: there is no such key; did you mean name?"),
        (JOB + "    core: 1", "job.yaml:8:5: tasks.sum.core: there is no such key; did you mean cores?"),
        (JOB + "    zzz: 1", "job.yaml:8:5: tasks.sum.zzz: there is no such key; there are: component, parameters"),
        (JOB + "    cores: many", "job.yaml:8:5: tasks.sum.cores: it should be a valid number"),
        (JOB + "    cores: 0", "write a number above 0, e.g. 0.5"),
        (JOB + "    after: [sun]", "job.yaml:8:5: tasks.sum.after: there is no task sun; did you mean sum?"),
        (JOB + "    after: [sum]", "job.yaml:5:1: tasks: these wait for each other: sum -> sum"),
        (
            JOB + "    role_parameters: {hosts: {}}",
            "job.yaml:8:5: tasks.sum.role_parameters: there is no role hosts; did you mean host?",
        ),
        (JOB + "    party_parameters: {5: {}}", "tasks.sum.party_parameters: party 5 has no role"),
        (JOB + "    parameters: [1]", "job.yaml:8:5: tasks.sum.parameters: it should be a valid dictionary"),
        (JOB + "priority: 1000", "job.yaml:8:1: priority:"),
        (JOB + "name: again", "job.yaml:8:1: name is given twice, first in line 1"),
        (JOB.replace("9999", "0123"), "job.yaml:4:10: roles.host.0: string should match"),
        (JOB.replace("9999", "10000, 10000"), "job.yaml:4:3: roles.host: party 10000 is given twice"),
        (JOB.replace("    component: secure_sum", "    {}"), "job.yaml:6:3: tasks.sum.component: this key is needed"),
        (JOB.replace("component:", "component: !!python/name:os.system"), "tags are not allowed"),
        (JOB.replace("secure_sum", "!x y"), "job.yaml:7:16: tags are not allowed: remove !x"),
        (JOB.replace("secure_sum", "*none"), "there is no anchor &none"),
        (JOB + "---\na: 1", "a second document begins"),
        (JOB + "? [a]\n: b", "a key must be a text"),
        (JOB + "<<: {a: 1}", "<< is not of YAML 1.2"),
        ("a: &a [*a]", "an alias stands for something that it lies in itself"),
        ("a: [1", "job.yaml:1:6: while parsing a flow sequence: expected ',' or ']'"),
        ("\ta: 1", "job.yaml:1:1: while scanning for the next token: found character '\\t'"),
        ("a: \x00", "job.yaml:1:1: "),
        ("[" * 100_000, "lie more than 60 deep"),
        (f"a: {'9' * 5000}", "a number of more than 400 digits"),
        (JOB + "    parameters: {a: .nan}", "job.yaml:8:21: a number must be finite"),
        ("a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
        ), "there are more than 100000 values"),
        (b"\xff", "job.yaml:1: the file is not UTF-8"),
        (b"#" * (2**20 + 1), "the file is larger than 1048576 bytes"),
    ],
)  # fmt: skip
def test_faults_are_named_with_their_place(text: str | bytes, said: str, tmp_path: Path) -> None:
    assert said in _fault(tmp_path, text)


def test_all_faults_at_once_in_their_order(tmp_path: Path) -> None:
    lines = _fault(tmp_path, JOB.replace("name", "nam") + "    core: 1\n    cores: x").splitlines()
    assert [line.split(": ")[0] for line in lines] == ["job.yaml:1:1", "job.yaml:1:1", "job.yaml:8:5", "job.yaml:9:5"]


def test_a_folder_of_code_that_leads_elsewhere_is_not_passed_over(tmp_path: Path) -> None:
    _write(tmp_path, JOB)
    (tmp_path / "custom").symlink_to("nowhere")
    with pytest.raises(JobError, match="custom is not a folder"):
        folder.read(tmp_path)


def test_a_jobs_own_code_is_described_by_its_digest_and_comes_back(tmp_path: Path) -> None:
    example = Path(__file__).parents[3] / "examples" / "custom_average"
    described, package = folder.load(example)
    assert described.code is not None
    assert package is not None
    assert (described.code.sha256, described.code.size_bytes) == (package.sha256, len(package.content))
    folder.write(tmp_path, described.model_dump(mode="json", exclude_defaults=True), "Again.", package)
    assert folder.load(tmp_path) == (described, package)


@pytest.mark.parametrize(
    ("job", "has_code", "said"),
    [
        (JOB.replace("secure_sum", "custom:a.A"), False, "custom:a.A is the job's own code, and the job has none"),
        (JOB, True, "no task uses the job's own code"),
        (JOB.replace("secure_sum", "custom:a"), True, "is named custom:MODULE.CLASS"),
        (JOB.replace("secure_sum", "'custom:../a.A'"), True, "is named custom:MODULE.CLASS"),
        (JOB + f"code: {{sha256: {'0' * 64}, size_bytes: 1}}\n", False, "there is no key code"),
    ],
)
def test_code_and_what_names_it_go_together(job: str, has_code: bool, said: str, tmp_path: Path) -> None:
    _write(tmp_path, job)
    if has_code:
        (tmp_path / "custom").mkdir()
        (tmp_path / "custom" / "a.py").write_text("class A: pass\n")
    with pytest.raises(JobError, match=said):
        folder.read(tmp_path)


def test_what_else_lies_in_the_folder_is_not_read(tmp_path: Path) -> None:
    _write(tmp_path, JOB)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert folder.read(tmp_path).name == "sum"


def test_only_a_file_is_read(tmp_path: Path) -> None:
    for number, (make, said) in enumerate(
        [
            (lambda path: path.symlink_to("/etc/passwd"), "is a symbolic link"),
            (os.mkfifo, "is not a file"),
            (Path.mkdir, "is not a file"),
            (lambda path: None, "there is no job.yaml in it"),
        ]
    ):
        at = tmp_path / str(number)
        at.mkdir()
        make(at / "job.yaml")
        with pytest.raises(JobError, match=said):
            folder.read(at)
    with pytest.raises(JobError, match="there is no such folder") as raised:
        folder.read(tmp_path / "none")
    assert "fedparty job new" in raised.value.hint


def test_parameters_on_the_command_line(tmp_path: Path) -> None:
    _write(tmp_path, JOB)
    job = folder.read(tmp_path, ["n=5", "list=[1, a]", "text='5'", "n=6", "empty="])
    assert job.tasks["sum"].parameters == {"n": 6, "list": [1, "a"], "text": "5", "empty": None}
    _write(tmp_path, JOB + "  other: {component: c}")
    assert folder.read(tmp_path, ["other.n=5"]).tasks["other"].parameters == {"n": 5}
    for wrong, said in (("n=5", "which task's n is meant"), ("n", "not KEY=VALUE"), ("sum.n=[", "expected")):
        with pytest.raises(JobError, match=said):
            folder.read(tmp_path, [wrong])


@given(st.binary(max_size=200) | st.text(max_size=200))
@example("a: &a {b: *a}")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_refused_with_words(tmp_path: Path, text: str | bytes) -> None:
    content = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    with pytest.raises(FedpartyError):
        folder.read(_write(tmp_path, content))


@given(st.text(alphabet="abn: \n-[]{}&*!'\"#,|>%@?<0.1~", max_size=80))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_looks_like_yaml_is_read_or_refused_with_words(tmp_path: Path, text: str) -> None:
    with suppress(FedpartyError):
        folder.read(_write(tmp_path, JOB + text))


_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), _PLAIN, max_size=4))
@example({"a": "1e-3", "b": "0o7", "c": "yes", "d": "~", "e": "", "f": "<<", "g": 1e300, "<<": 1, "null": "a\x85b"})
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_as_the_same(tmp_path: Path, parameters: dict[str, Any]) -> None:
    job = {
        "name": "x",
        "roles": {"guest": ["10000"]},
        "tasks": {"sum": {"component": "c", "parameters": parameters}},
    }
    (tmp_path / "job.yaml").unlink(missing_ok=True)
    folder.write(tmp_path, job, "As another.")
    assert json.loads(folder.read(tmp_path).travelling()) == JobDescription.model_validate(job).model_dump(
        mode="json", exclude_defaults=True
    )


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    _write(tmp_path, JOB)
    with pytest.raises(JobError, match="exists already"):
        folder.write(tmp_path, {}, "")


def test_a_folder_that_cannot_be_written_says_where_to_go(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="Not a directory") as caught:
        folder.write_text(tmp_path / "file" / "job", "x")
    assert "/tmp/NAME" in caught.value.hint


@pytest.mark.parametrize("template", folder.templates())
def test_templates_are_jobs(template: str, tmp_path: Path) -> None:
    folder.write_text(tmp_path, folder.from_template(template, "my: job", "7", ["8", "9"]))
    job = folder.read(tmp_path)
    assert (job.name, job.parties) == ("my: job", ("7", "8", "9"))


def test_the_example_is_the_template() -> None:
    example_job = folder.read(Path(__file__).parents[3] / "examples" / "secure_sum")
    made = document.read(folder.from_template("secure-sum", "sum", "10000", ["9999"])).value
    assert example_job.tasks["sum"].parameters == made["tasks"]["sum"]["parameters"]
