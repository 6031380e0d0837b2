"""What a valid file becomes."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from fedparty.config import Loaded
from fedparty.types import Secret

Read = Callable[[str], Loaded]
TWO = "party_list=(10000 9999)\nparty_ip_list=(192.168.1.1 192.168.1.2)\n"


def test_one_party_alone_is_a_federation(read: Read) -> None:
    (party,) = read("party_list=(10000)\nparty_ip_list=(127.0.0.1)").federation.parties
    assert party.id == "10000"


def test_a_scalar_is_a_list_of_one(read: Read) -> None:
    assert [party.id for party in read("party_list=10000\nparty_ip_list=127.0.0.1").federation.parties] == ["10000"]


def test_a_section_overrides_the_top_and_the_top_the_default(read: Read) -> None:
    federation = read(TWO + "ssh_port=2222\ncores=4\n[9999]\nssh_port=22\ncores=\nengine=process").federation
    guest, host = federation.parties
    assert (guest.ssh_port, guest.cores, guest.engine) == (2222, 4.0, "docker")
    assert (host.ssh_port, host.cores, host.engine) == (22, None, "process")
    assert federation.party("9999") is host
    with pytest.raises(KeyError):
        federation.party("1")


def test_a_section_may_come_in_parts(read: Read) -> None:
    guest = read(TWO + "[10000]\ncores=1\n[9999]\ncores=2\n[10000]\nuser=fate").federation.parties[0]
    assert (guest.cores, guest.user) == (1.0, "fate")


def test_the_exchange_is_a_machine_of_its_own(read: Read) -> None:
    text = "user=fate\nexchange_ip=EXAMPLE.org\nexchange_port=443\n[exchange]\nuser=root\nmanaged=manual"
    exchange = read(TWO + text).federation.exchange
    assert exchange is not None
    assert (exchange.address, exchange.port, exchange.user, exchange.managed) == ("example.org", 443, "root", "manual")


def test_an_external_database_for_each_party(read: Read) -> None:
    text = (
        "mysql_ip=192.168.1.20\nmysql_user=fate\nmysql_password='$ecret'\n[10000]\nmysql_db=a\n[9999]\nmysql_ip=mysql"
    )
    guest, host = read(TWO + text).federation.parties
    assert guest.database is not None
    assert (guest.database.host, guest.database.port, guest.database.name) == ("192.168.1.20", 3306, "a")
    assert guest.database.password == Secret("$ecret")
    assert "$ecret" not in repr(guest)
    assert host.database is None


def test_typed_values(read: Read) -> None:
    text = (
        "spool_quota=5gib\nproxy_window=65536\npeer_timeout_s=0.5\nprocess_dir=/a/../b/\ndata_dir='/my data'\n"
        "extra_hosts=(B.example.org:192.168.1.2 c:fd00::0001)\nrest_bind=0.0.0.0\n[10000]\nrest_port=0"
    )
    guest, host = read(TWO + text).federation.parties
    assert (guest.spool_quota_bytes, guest.proxy_window_bytes, guest.peer_timeout_s) == (5 * 2**30, 65536, 0.5)
    assert (guest.process_dir, guest.data_dir) == (Path("/b"), PurePosixPath("/my data"))
    assert guest.extra_hosts == (("b.example.org", "192.168.1.2"), ("c", "fd00::1"))
    assert (guest.rest_port, host.rest_port, guest.rest_bind) == (0, None, "0.0.0.0")


def test_the_ssh_key_may_lie_in_the_home_folder(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/fate")
    assert read(TWO + "ssh_key=~/.ssh/id").federation.parties[0].ssh_key == Path("/home/fate/.ssh/id")


def test_loopback_addresses_are_one_machine(read: Read) -> None:
    federation = read("party_list=(1 2 3 4)\nparty_ip_list=(127.0.0.1 127.1.2.3 LOCALHOST ::1)").federation
    assert {party.host for party in federation.parties} == {"127.0.0.1"}
    other = read("party_list=(1 2)\nparty_ip_list=(FD00::0:1 localhost.example.org)").federation
    assert [party.host for party in other.parties] == ["fd00::1", "localhost.example.org"]


def test_the_same_port_on_two_machines_is_fine(read: Read) -> None:
    assert {
        party.proxy_port for party in read(TWO + "proxy_port=5000\nrest_port=0\nboard_port=0").federation.parties
    } == {5000}


def test_500_parties_are_read_in_a_tenth_of_a_second(read: Read) -> None:
    ids = range(10000, 10500)
    text = f"party_list=({' '.join(map(str, ids))})\n"
    text += f"party_ip_list=({' '.join(f'10.0.{i // 256}.{i % 256}' for i in range(500))})\nexchange_ip=10.1.0.1\n"
    text += "".join(f"[{party}]\nuser=fate\nproxy_port=9400\ncores=2 # {party}\n" for party in ids)
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        federation = read(text).federation
        durations.append(time.perf_counter() - start)
    assert len(federation.parties) == 500
    assert min(durations) < 0.1


def test_importing_needs_the_standard_library_alone() -> None:
    program = (
        "import sys, fedparty.config\n"
        "roots = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(*sorted(root for root in roots if not root.startswith(('_', 'fedparty', 'distutils-'))))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
