"""The images that `fedparty images build` makes: what is in them, who runs them, and what they do without a network."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from available import require

from fedparty import __version__
from fedparty.deploy.images import LocalImages
from fedparty.deploy.images.debian import machines_mirror, make_base

ROOT = Path(__file__).resolve().parents[2]
TAG = "test-images"
NAMES = ("proxy", "party", "mysql")
PASSWORD = "p\"a\\s#s'w$(id)"
ANYBODY = "23456:23456"

pytestmark = pytest.mark.timeout(900)


def docker(*words: str, is_checked: bool = True, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(["docker", *words], input=given, capture_output=True)
    assert done.returncode == 0 or not is_checked, done.stderr.decode()
    return done


def images(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "deploy.py"), "images", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def full(name: str) -> str:
    return f"fedparty/{name}:{TAG}"


@pytest.fixture(scope="module", autouse=True)
def release() -> Iterator[None]:
    require("docker")
    built = images("build", *NAMES, "--tag", TAG)
    assert built.returncode == 0, built.stderr
    yield
    docker("rmi", *map(full, NAMES), is_checked=False)


def inspect(name: str) -> dict[str, object]:
    return json.loads(docker("image", "inspect", full(name)).stdout)[0]


STRICT = (
    "--network", "none", "--read-only", "--tmpfs", "/tmp", "--user", ANYBODY, "--cap-drop", "ALL",
    "--security-opt", "no-new-privileges",
)  # fmt: skip


def run(name: str, *words: str, options: tuple[str, ...] = (), is_checked: bool = True) -> str:
    """Return what a command says in a container that may do nothing, as a user that no image knows."""
    entry, *rest = words
    done = docker("run", "--rm", *STRICT, *options, "--entrypoint", entry, full(name), *rest, is_checked=is_checked)
    return done.stdout.decode() + done.stderr.decode()


@pytest.mark.parametrize("name", NAMES)
class TestEveryImage:
    def test_it_is_not_for_root_and_says_what_it_is(self, name: str) -> None:
        config = inspect(name)["Config"]
        labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
        assert config["User"] == "10001:10001"
        assert config["WorkingDir"] == "/fedparty"
        assert "FEDPARTY_HOME=/fedparty" in config["Env"]
        assert config["Healthcheck"]["Test"] == ["CMD", "healthy"]
        assert (labels["version"], labels["licenses"]) == (__version__, "Apache-2.0")
        assert labels["title"].startswith("fedparty ")

    def test_any_user_runs_it_and_its_root_is_read_only(self, name: str) -> None:
        assert run(name, "id", "-u").strip() == "23456"
        assert "Read-only" in run(name, "touch", "/fedparty/x", is_checked=False)

    def test_it_has_no_documents_and_no_setuid_program(self, name: str) -> None:
        folders = [f"/usr/share/{each}" for each in ("doc", "man", "info", "locale")]
        found = run(name, "find", *folders, "-type", "f", "!", "-name", "copyright", "!", "-name", "locale.alias")
        assert found == ""
        lines = run(name, "find", "/", "-xdev", "-perm", "/6000", "-type", "f", is_checked=False).splitlines()
        assert [line for line in lines if line.startswith("/")] == []

    def test_nothing_of_its_building_is_in_a_layer(self, name: str) -> None:
        given = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
        bundle = hashlib.sha256(Path(given).read_bytes()).hexdigest() if given else ""
        for layer in layers(name):
            for member in layer:
                assert not member.name.startswith("build/"), member.name
                if member.isfile() and member.size > 1000 and member.name.endswith((".pem", ".crt")):
                    assert hashlib.sha256(layer.extractfile(member).read()).hexdigest() != bundle, member.name  # type: ignore[union-attr]


def layers(name: str) -> Iterator[tarfile.TarFile]:
    with tarfile.open(fileobj=io.BytesIO(docker("save", full(name)).stdout)) as archive:
        (manifest,) = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        for path in manifest["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(path)) as layer:
                yield layer


@pytest.mark.parametrize(("name", "limit_mib"), [("proxy", 200), ("party", 350), ("mysql", 170)])
def test_it_is_small(name: str, limit_mib: int) -> None:
    assert inspect(name)["Size"] <= limit_mib * 2**20


def test_the_images_share_the_layer_of_debian() -> None:
    assert len({inspect(name)["RootFS"]["Layers"][0] for name in NAMES}) == 1


class TestParty:
    def test_it_has_the_toy_example_with_and_without_python(self) -> None:
        for words in (["python", "run_toy_example.py"], ["run_toy_example.py"], ["./run_toy_example.py"]):
            assert "success to calculate secure_sum, it is 2000.0" in run("party", *words, "10000", "10000", "0")

    def test_it_has_what_its_commands_need_and_no_more(self) -> None:
        for command in ("serve", "health", "migrate", "bundle", "job", "console", "party", "component", "table"):
            run("party", "fedparty", command, "--help")
        failed = run("party", "python", "-c", _IMPORT_ALL).splitlines()
        deployers = ("fedparty.cli.", "fedparty.deploy.lab", "fedparty.deploy.transport", "fedparty.generate")
        assert [name for name in failed if not name.startswith(deployers)] == []
        run("party", "python", "-c", "import aiomysql")
        for absent in ("torch", "pip", "setuptools", "jinja2", "paramiko", "docker", "supervisor", "envoy"):
            assert "ModuleNotFoundError" in run("party", "python", "-c", f"import {absent}", is_checked=False)

    def test_it_is_compiled(self) -> None:
        compiled = (
            "import fedparty, importlib.util, pathlib;"
            "assert pathlib.Path(importlib.util.cache_from_source(fedparty.__file__)).exists()"
        )
        run("party", "python", "-c", compiled)

    def test_healthy_tells_what_the_service_says(self, tmp_path: Path) -> None:
        give(tmp_path / "bundle.json", json.dumps({"services": ["flow"]}))
        give(tmp_path / "flow/settings.json", json.dumps({"operations": "127.0.0.1:8000"}))
        with container("party", "--entrypoint", "sleep", "-v", f"{tmp_path}:/fedparty/bundle:ro", words=("60",)) as it:
            silent = docker("exec", it, "healthy", "flow", is_checked=False)
            assert silent.returncode == 1
            assert json.loads(silent.stdout)["state"] == "down"
            docker("exec", "-d", it, "python", "-c", _READY)
            assert states(docker("exec", it, "healthy", "--wait", "20", "flow"))[-1] == "healthy"
            assert docker("exec", "-e", "FEDPARTY_SERVICE=flow", it, "healthy").returncode == 0


_IMPORT_ALL = """
import importlib, pkgutil, fedparty
for found in pkgutil.walk_packages(fedparty.__path__, "fedparty.", onerror=lambda name: None):
    if found.name not in ("fedparty.__main__", "fedparty.database.migrations.env"):  # which run when they are imported
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError:
            print(found.name)
"""

_READY = """
from http.server import *
class Ready(BaseHTTPRequestHandler):
    def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
HTTPServer(("127.0.0.1", 8000), Ready).serve_forever()
"""


class TestProxy:
    def test_healthy_once_its_listeners_are_open(self, tmp_path: Path) -> None:
        with proxy(tmp_path, ingress_port=10000) as it:
            ready = docker("exec", it, "healthy", "--wait", "20")
            assert json.loads(ready.stdout.splitlines()[-1]) == {
                "service": "proxy", "state": "healthy", "detail": "", "pid": 0, "started": 0,
            }  # fmt: skip

    def test_not_healthy_while_a_port_is_taken(self, tmp_path: Path) -> None:
        with proxy(tmp_path, ingress_port=9901) as it:
            taken = docker("exec", it, "healthy", "--wait", "2", is_checked=False)
            last = json.loads(taken.stdout.splitlines()[-1])
            assert taken.returncode == 1
            assert (last["state"], last["detail"]) == (
                "waiting", "cannot listen: ingress; is the port taken by another program?",
            )  # fmt: skip

    def test_down_while_nothing_answers(self) -> None:
        assert '"state": "down"' in run("proxy", "healthy", is_checked=False)


@contextmanager
def proxy(folder: Path, *, ingress_port: int) -> Iterator[str]:
    """Run the proxy with a configuration of two listeners, written as `generate` writes JSON."""
    discovery = {"path": "bundle/proxy/live/lds.json", "watched_directory": {"path": "bundle/proxy/live"}}
    bootstrap = {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9901}}},
        "dynamic_resources": {"lds_config": {"path_config_source": discovery}},
    }
    addresses = {
        "egress": {"pipe": {"path": "run/egress.sock"}},
        "ingress": {"socket_address": {"address": "127.0.0.1", "port_value": ingress_port}},
    }
    listeners = [
        {
            "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
            "name": name,
            "address": address,
            "filter_chains": [{"name": "other", "filters": [_ECHO]}],
        }
        for name, address in addresses.items()
    ]
    give(folder / "bootstrap.json", json.dumps(bootstrap))
    give(folder / "live/lds.json", json.dumps({"resources": listeners}, indent=2))
    with container("proxy", "-v", f"{folder}:/fedparty/bundle/proxy:ro", "--tmpfs", "/fedparty/run:mode=1777") as it:
        yield it


_ECHO = {
    "name": "envoy.filters.network.echo",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"},
}


@pytest.fixture
def volume() -> Iterator[str]:
    name = f"fpt-images-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", name)
    yield name
    docker("volume", "rm", name)


@pytest.fixture
def password(tmp_path: Path) -> Path:
    return give(tmp_path / "mysql-password", PASSWORD)


@contextmanager
def database(volume: str, password: Path, *, is_awaited: bool = True) -> Iterator[str]:
    with container(
        "mysql", "-v", f"{volume}:/fedparty/data/mysql", "--tmpfs", "/fedparty/mysql:mode=1777",
        "-v", f"{password}:/fedparty/bundle/secrets/mysql-password:ro",
    ) as it:  # fmt: skip
        if is_awaited:
            ready = docker("exec", it, "healthy", "--wait", "60", is_checked=False)
            assert ready.returncode == 0, docker("logs", it).stderr.decode()
        yield it


class TestDatabase:
    def test_what_was_written_is_there_after_a_restart(self, volume: str, password: Path) -> None:
        with database(volume, password) as it:
            docker("exec", it, "database", "client", "-e", "CREATE TABLE kept (n INT); INSERT INTO kept VALUES (7)")
        with database(volume, password) as it:
            assert query(it, "SELECT n FROM kept") == "7"

    def test_a_first_start_that_was_cut_off_is_begun_again(self, volume: str, password: Path) -> None:
        with database(volume, password, is_awaited=False) as it:
            until_logged(it, "first start")
            docker("kill", "--signal", "KILL", it)
        spoil = "mkdir -p data/mysql/unfinished && echo half > data/mysql/unfinished/ibdata1"
        run("mysql", "sh", "-c", spoil, options=("-v", f"{volume}:/fedparty/data/mysql"))
        with database(volume, password) as it:
            assert query(it, "SELECT 1") == "1"
            assert sorted(docker("exec", it, "ls", "/fedparty/data/mysql").stdout.decode().split()) == [
                "database", "temporary",
            ]  # fmt: skip

    def test_a_killed_database_loses_nothing(self, volume: str, password: Path) -> None:
        with database(volume, password) as it:
            docker("exec", it, "database", "client", "-e", "CREATE TABLE kept (n INT); INSERT INTO kept VALUES (7)")
            docker("kill", "--signal", "KILL", it)
        with database(volume, password) as it:
            assert query(it, "SELECT n FROM kept") == "7"

    def test_only_the_party_gets_in_and_only_by_its_password(self, volume: str, password: Path) -> None:
        with database(volume, password) as it:
            for user in ("root", "mysql", "fedparty", "nobody"):
                socket = ("--no-defaults", "--socket=/fedparty/mysql/mysqld.sock", f"--user={user}")
                refused = docker("exec", it, "mariadb", *socket, "-e", "SELECT 1", is_checked=False)
                assert b"Access denied" in refused.stderr, user
            assert "denied" in docker(
                "exec", it, "database", "client", "-e", "SELECT * FROM mysql.global_priv", is_checked=False
            ).stderr.decode()  # fmt: skip

    def test_the_password_is_on_no_command_line_and_in_no_environment(self, volume: str, password: Path) -> None:
        with database(volume, password) as it:
            shown = docker("exec", it, "sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ").stdout
            assert PASSWORD.encode() not in shown + docker("inspect", it).stdout + docker("logs", it).stderr

    def test_nothing_listens_on_a_network(self, volume: str, password: Path) -> None:
        with database(volume, password) as it:
            tables = docker("exec", it, "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout.decode().splitlines()
            assert [line for line in tables if ":" in line] == []

    def test_a_wrong_password_is_not_healthy(self, volume: str, password: Path) -> None:
        with database(volume, password) as it:
            docker(
                "exec", it, "sh", "-c", "mkdir -p /tmp/bundle/secrets; echo wrong > /tmp/bundle/secrets/mysql-password"
            )
            denied = docker("exec", "-e", "FEDPARTY_HOME=/tmp", it, "healthy", is_checked=False)
            assert denied.returncode == 1
            assert json.loads(denied.stdout)["state"] == "waiting"
            assert "Access denied" in json.loads(denied.stdout)["detail"]

    def test_a_new_password_is_in_force_after_a_restart(self, volume: str, password: Path) -> None:
        with database(volume, password):
            pass
        give(password, "another")
        with database(volume, password) as it:
            assert query(it, "SELECT 1") == "1"

    def test_without_its_password_it_does_not_start_and_says_so(self, volume: str, tmp_path: Path) -> None:
        with database(volume, give(tmp_path / "empty", ""), is_awaited=False) as it:
            assert docker("wait", it).stdout.strip() != b"0"
            assert b"mysql-password is empty" in docker("logs", it).stderr

    def test_down_while_it_does_not_run(self, password: Path) -> None:
        option = ("-v", f"{password}:/fedparty/bundle/secrets/mysql-password:ro")
        assert '"state": "down"' in run("mysql", "healthy", options=option, is_checked=False)

    def test_a_dump_brings_everything_back(self, volume: str, password: Path) -> None:
        with database(volume, password) as it:
            docker("exec", it, "database", "client", "-e", "CREATE TABLE kept (n INT); INSERT INTO kept VALUES (7)")
            dump = docker("exec", it, "database", "dump").stdout
            docker("exec", it, "database", "client", "-e", "DROP TABLE kept; CREATE TABLE later (n INT)")
            cut = docker("exec", "-i", it, "database", "restore", given=dump[:-200], is_checked=False)
            assert b"no whole dump; nothing was changed" in cut.stderr
            docker("exec", "-i", it, "database", "restore", given=dump)
            assert query(it, "SELECT n FROM kept") == "7"
            assert query(it, "SHOW TABLES") == "kept"


def query(it: str, text: str) -> str:
    return (
        docker("exec", it, "database", "client", "--skip-column-names", "--batch", "-e", text).stdout.decode().strip()
    )


def until_logged(it: str, text: str) -> None:
    with subprocess.Popen(["docker", "logs", "-f", it], stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as log:
        assert log.stdout is not None
        for line in log.stdout:
            if text.encode() in line:
                log.terminate()
                return
    raise AssertionError(f"{text!r} was never logged")


@contextmanager
def container(name: str, *options: str, words: tuple[str, ...] = ()) -> Iterator[str]:
    it = f"fpt-images-{uuid.uuid4().hex[:8]}"
    try:
        docker("run", "-d", "--name", it, *STRICT, *options, full(name), *words)
        yield it
    finally:
        docker("rm", "-f", "-v", it)


def give(path: Path, text: str) -> Path:
    """Write a file that any user reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in (path.parent, *path.parent.parents):
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return path


def states(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return [json.loads(line)["state"] for line in done.stdout.splitlines()]


class TestArchive:
    def test_one_file_brings_images_to_a_machine_without_them(self, tmp_path: Path) -> None:
        file = tmp_path / "release.tar"
        saved = images("save", str(file), "proxy", "mysql", "--tag", TAG)
        assert saved.returncode == 0, saved.stderr
        assert file.stat().st_mode & 0o777 == 0o600
        before = inspect("mysql")["Id"]
        docker("rmi", "--no-prune", full("mysql"))
        loaded = images("load", str(file))
        assert loaded.returncode == 0, loaded.stderr
        assert inspect("mysql")["Id"] == before

    def test_what_is_no_archive_is_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "notes.txt"
        file.write_text("not an archive")
        loaded = images("load", str(file))
        assert loaded.returncode == 1
        assert "is not a whole archive of images" in loaded.stderr

    def test_a_missing_image_is_not_saved_and_leaves_no_file(self, tmp_path: Path) -> None:
        saved = images("save", str(tmp_path / "x.tar"), "proxy", "--tag", "never-built")
        assert saved.returncode == 1
        assert "there is no image fedparty/proxy:never-built on this machine" in saved.stderr
        assert list(tmp_path.iterdir()) == []

    def test_list_tells_what_is_missing(self) -> None:
        assert images("list", *NAMES, "--tag", TAG).returncode == 0
        absent = images("list", "proxy", "--tag", "never-built")
        assert absent.returncode == 1
        assert "fedparty/proxy:never-built  is missing" in absent.stdout


@pytest.mark.matrix
class TestOffline:
    def test_from_a_wheelhouse_and_a_base_made_from_a_mirror(self, tmp_path: Path) -> None:
        require("debootstrap")
        if os.geteuid() != 0:
            pytest.skip("debootstrap takes root")
        base, tag = "fpt-images/base:bookworm", "test-offline"
        filled = images("wheelhouse", str(tmp_path / "wheels"), "proxy", "party")
        assert filled.returncode == 0, filled.stderr
        LocalImages().make_base(base, make_base(machines_mirror(), tmp_path), ['CMD ["bash"]'])
        try:
            built = images(
                "build", "party", "--offline", "--wheelhouse", str(tmp_path / "wheels"), "--base", base, "--tag", tag
            )
            assert built.returncode == 0, built.stderr
            toy = docker("run", "--rm", *STRICT, f"fedparty/party:{tag}", "run_toy_example.py", "10000", "9999", "0")
            assert b"it is 2000.0" in toy.stdout
        finally:
            docker("rmi", f"fedparty/party:{tag}", base, is_checked=False)

    def test_offline_without_a_wheelhouse_is_refused(self) -> None:
        command = [sys.executable, str(ROOT / "deploy.py"), "images", "build", "proxy", "--offline"]
        environment = {key: value for key, value in os.environ.items() if key != "PIP_FIND_LINKS"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        assert done.returncode == 1
        assert "fedparty images wheelhouse FOLDER" in done.stderr


@pytest.mark.matrix
def test_worker_torch_adds_torch_and_keeps_the_partys_libraries() -> None:
    built = images("build", "party", "worker-torch", "--tag", TAG)
    assert built.returncode == 0, built.stderr
    try:
        assert run("worker-torch", "python", "-c", "import torch; print(torch.ones(2).sum().item())").strip() == "2.0"
        assert "it is 2000.0" in run("worker-torch", "run_toy_example.py", "10000", "9999", "0")
        assert inspect("worker-torch")["RootFS"]["Layers"][:3] == inspect("party")["RootFS"]["Layers"][:3]
        assert inspect("worker-torch")["Config"]["User"] == "10001:10001"
    finally:
        docker("rmi", full("worker-torch"))


@pytest.mark.matrix
class TestSite:
    @pytest.fixture
    def site(self, tmp_path: Path) -> Iterator[Path]:
        (tmp_path / "parties.conf").write_text(
            f"party_list=(10000)\nparty_ip_list=(127.0.0.1)\ntag={TAG}\nrequirements={tmp_path / 'site.txt'}\n"
        )
        yield tmp_path
        docker("rmi", full("site-10000"), is_checked=False)

    def test_its_requirements_are_added_to_what_the_party_has(self, site: Path) -> None:
        (site / "site.txt").write_text("sortedcontainers>=2\n")
        built = images("build", "-c", str(site / "parties.conf"), "site-10000")
        assert built.returncode == 0, built.stderr
        run("site-10000", "python", "-c", "import sortedcontainers, fedparty.worker.service")

    def test_a_requirement_that_contradicts_the_partys_fails(self, site: Path) -> None:
        (site / "site.txt").write_text("numpy<2\n")
        refused = images("build", "-c", str(site / "parties.conf"), "site-10000")
        assert refused.returncode == 1
        assert "fedparty/site-10000:test-images cannot be built" in refused.stderr
        assert "numpy<2" in refused.stderr
