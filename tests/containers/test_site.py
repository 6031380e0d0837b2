"""What a site brings of its own: a registry, an environment, a database server, private keys, its way to log in."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from available import program, require
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from deployment import FOLDER, IMAGES, REPOSITORY, SERVICES, SUCCESS, Deployment, deployment, image
from machines import Machine, Machines, ThisMachine, container
from mariadb import PASSWORD, USER, MariaDb, write_certificates
from ports import free_port

pytestmark = [pytest.mark.timeout(600), pytest.mark.matrix]


@pytest.fixture
def alone(tmp_path: Path, machines: Machines) -> Iterator[Deployment]:
    """One party on the last machine, not generated yet."""
    with deployment(tmp_path, machines, {"10000": machines[2]}) as federation:
        yield federation


def assert_works(federation: Deployment, *members: str) -> None:
    done = federation.toy(*(members or ("10000", "10000")), "1")
    assert done.returncode == 0, done.stdout
    assert SUCCESS in done.stdout


# ---- a registry ----


@pytest.fixture
def registry(tmp_path: Path, machines: Machines) -> Iterator[str]:
    """A registry on this machine, over TLS, that the engines trust; its name."""
    require("docker-registry")
    address = f"{machines.gateway}:{free_port()}"
    folder = tmp_path / "registry"
    folder.mkdir()
    write_certificates(folder, folder / "ca.crt", machines.gateway)
    (folder / "config.yml").write_text(f"""
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/storage}}}}
http: {{addr: "{address}", tls: {{certificate: {folder}/server.pem, key: {folder}/server.key}}}}
""")
    trusted = Path("/etc/docker/certs.d", address)
    trusted.mkdir(parents=True)
    shutil.copy(folder / "ca.crt", trusted)
    shutil.copy(folder / "ca.crt", machines.shared / "registry.crt")
    machines[2].run("mkdir", "-p", str(trusted))
    machines[2].run("cp", "/shared/registry.crt", str(trusted / "ca.crt"))
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [str(program("docker-registry")), "serve", str(folder / "config.yml")], stdout=log, stderr=log
        )
    try:
        yield address
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(trusted)
        machines[2].run("rm", "-r", str(trusted))


def test_images_come_from_a_registry(alone: Deployment, registry: str, machines: Machines) -> None:
    alone.options["registry"] = registry
    alone.generate()
    names = [f"{registry}/{image(name)}" for name in IMAGES]
    try:
        pushed = alone.images("push")
        assert pushed.returncode == 0, pushed.stdout
        machines[2].docker("rmi", *map(image, IMAGES))
        done = alone.deploy("all")
        assert done.returncode == 0, done.stdout
        assert "sends" not in done.stdout, "they came by SSH"
        assert_works(alone)
        before = alone.container_states()
        again = alone.deploy("all")
        assert again.returncode == 0, again.stdout
        assert alone.container_states() == before
    finally:
        alone.clear()
        for machine in (ThisMachine(), machines[2]):
            machine.run("docker", "rmi", *names, is_checked=False)
        machines.load(map(image, IMAGES))


# ---- an environment for tasks ----


def test_a_site_image_is_sent_and_used_by_the_worker(alone: Deployment) -> None:
    requirements = alone.folder / "site.txt"
    requirements.write_text("sortedcontainers>=2\n")
    alone.sections["10000"] = {"requirements": str(requirements), "data_dir": "/srv/site-data"}
    machine, worker = alone.places["10000"], container("10000", "worker")
    machine.run("sh", "-c", "mkdir -p /srv/site-data && echo 1,2 > /srv/site-data/table.csv")
    site = image("site-10000")
    try:
        alone.write_configuration()
        built = alone.images("build")
        assert built.returncode == 0, built.stdout
        alone.up()
        assert machine.inspect(worker)["Config"]["Image"] == site
        machine.docker("exec", worker, "python", "-c", "import sortedcontainers")
        assert machine.docker("exec", worker, "cat", "/data/table.csv") == "1,2"
        assert_works(alone)
    finally:
        alone.clear()
        ThisMachine().run("docker", "rmi", site, is_checked=False)
        machine.run("docker", "rmi", site, is_checked=False)


# ---- a database server ----


@pytest.fixture
def database(tmp_path: Path, machines: Machines) -> Iterator[MariaDb]:
    """A MariaDB server of the site, which machines reach over TLS alone."""
    require("mariadbd")
    folder = tmp_path / "database"
    folder.mkdir()
    server = MariaDb(folder, machines.gateway)
    server.start(options=("--require-secure-transport=ON",))
    try:
        yield server
    finally:
        server.stop()


def test_a_database_server_of_the_site_keeps_the_jobs(alone: Deployment, database: MariaDb, machines: Machines) -> None:
    quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    alone.sections["10000"] = {
        "mysql_ip": machines.gateway,
        "mysql_port": str(database.port),
        "mysql_user": USER,
        "mysql_password": f'"{quoted}"',
        "mysql_db": database.create(),
        "mysql_ca": str(database.ca),
    }
    alone.up()
    running = alone.container_states()
    assert set(running) == {container("10000", service) for service in SERVICES if service != "mysql"}
    assert_works(alone)
    with database.admin(alone.sections["10000"]["mysql_db"]) as cursor:
        cursor.execute("SELECT count(*) FROM jobs WHERE state = 'success'")
        assert cursor.fetchone()[0] >= 2

    write_certificates(alone.folder, alone.folder / "other-ca.pem", machines.gateway)
    alone.sections["10000"]["mysql_ca"] = str(alone.folder / "other-ca.pem")
    alone.generate()
    refused = alone.deploy("all", "--timeout", "15")
    assert refused.returncode != 0, refused.stdout
    assert "certificate" in refused.stdout, refused.stdout
    assert machines.gateway in refused.stdout, refused.stdout
    assert_works(alone)


# ---- private keys ----


def make_request(folder: Path, purpose: str) -> None:
    """Make a private key and a signing request, as openssl would."""
    key = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / f"{purpose}.key").write_bytes(pem)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "whatever")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    (folder / f"{purpose}.csr").write_bytes(request.public_bytes(serialization.Encoding.PEM))


@pytest.mark.parametrize("user", ["root", "fate"])
def test_a_party_keeps_its_private_keys(tmp_path: Path, machines: Machines, user: str) -> None:
    places = {"10000": machines[1], "9999": machines[2]}
    with deployment(tmp_path, machines, places, sections={"9999": {"user": user}}) as federation:
        own = tmp_path / "own"
        own.mkdir()
        known = federation.outputs / "parties" / "9999"
        known.mkdir(parents=True)
        for purpose in ("tls", "signing"):
            make_request(own, purpose)
            shutil.copy(own / f"{purpose}.csr", known)
        federation.generate()
        bundle = federation.outputs / "confs-9999"
        assert [file.name for file in bundle.rglob("*.key")] == []
        refused = federation.deploy("all")
        assert refused.returncode != 0, refused.stdout
        assert "its own private keys are missing" in refused.stdout

        machine, home = machines[2], f"{FOLDER}/confs-9999"
        machine.run("mkdir", "-p", f"{home}/keys", user=user)
        for purpose in ("tls", "signing"):
            (machines.shared / "key").write_bytes((own / f"{purpose}.key").read_bytes())
            machine.run("install", "-m", "0600", "-o", user, "/shared/key", f"{home}/keys/{purpose}.key")
        (machines.shared / "key").unlink()
        done = federation.deploy("all")
        assert done.returncode == 0, done.stdout
        assert_works(federation, "10000", "9999")
        assert_works(federation, "9999", "10000")

        gone = federation.deploy("9999", "--delete", "--purge")
        assert gone.returncode == 0, gone.stdout
        assert machine.run("ls", f"{home}/keys").stdout.split() == ["signing.key", "tls.key"]
        back = federation.deploy("9999")
        assert back.returncode == 0, back.stdout


# ---- logging in ----


@contextmanager
def passwords_allowed(machine: Machine, user: str, password: str) -> Iterator[None]:
    """Let a user in by a password for the length of a block."""
    machine.run("sh", "-c", 'printf "%s:%s\\n" "$0" "$1" | chpasswd', user, password)
    configure = (
        'sed -i "s/^PasswordAuthentication .*/PasswordAuthentication $0/" /etc/ssh/sshd_config; pkill -HUP -o sshd'
    )
    machine.run("sh", "-c", configure, "yes")
    try:
        yield
    finally:
        machine.run("sh", "-c", configure, "no")
        machine.run("usermod", "--password", "*", user)


def at_terminal(federation: Deployment, answers: dict[str, str], *words: str) -> tuple[int, str]:
    """Run deploy.py at a terminal where somebody answers questions; return its exit code and what was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, *federation.deploy_command(*words)],
        cwd=REPOSITORY, env=federation.environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # getpass asks the controlling terminal
    )  # fmt: skip
    os.close(theirs)
    watchdog = threading.Timer(200, process.kill)
    watchdog.start()
    shown, left = b"", dict(answers)
    while chunk := _read(ours):
        shown += chunk
        for question in [each for each in left if each.encode() in shown]:
            os.write(ours, f"{left.pop(question)}\n".encode())
    watchdog.cancel()
    os.close(ours)
    return process.wait(), shown.decode(errors="replace")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the last who had it open is gone
        return b""


def test_a_password_is_asked_for_once(alone: Deployment) -> None:
    machine, password = alone.places["10000"], "correct horse"
    alone.options |= {"user": "clerk", "ssh_key": None}
    home = alone.folder / "home"
    home.mkdir()
    alone.further_environment["HOME"] = str(home)
    alone.generate()
    with passwords_allowed(machine, "clerk", password):
        unattended = alone.deploy("all")
        assert unattended.returncode != 0, unattended.stdout
        assert password not in unattended.stdout
        code, shown = at_terminal(alone, {"assword": password}, "all")
    assert code == 0, shown
    assert shown.count("password:") == 1, shown
    assert password not in shown
    assert_works(alone)


def test_the_agent_is_enough(alone: Deployment, machines: Machines, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    socket = str(tmp_path / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE, text=True)
    try:
        assert agent.stdout is not None
        assert "SSH_AUTH_SOCK" in agent.stdout.readline()
        subprocess.run(["ssh-add", "-q", machines.key], env={"SSH_AUTH_SOCK": socket}, check=True)
        alone.options |= {"user": "fate", "ssh_key": None}
        alone.further_environment |= {"HOME": str(home), "SSH_AUTH_SOCK": socket}
        alone.up()
    finally:
        agent.terminate()
        agent.communicate()
    assert_works(alone)
