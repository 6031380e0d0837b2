"""Each mistake that a user makes, with the whole message they read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fedparty.config import ConfigurationErrors, load
from fedparty.errors import ConfigurationError

Faults = Callable[[str], list[str]]
ONE = "party_list=(10000)\nparty_ip_list=(192.168.1.1)\n"
TWO = "party_list=(10000 9999)\nparty_ip_list=(192.168.1.1 192.168.1.1)\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ONE + "partylst=(1)", "3: partylst: is not a key. Did you mean partylist?"),
        (ONE + "Exchange_IP=a", "3: Exchange_IP: is not a key. Did you mean exchange_ip?"),
        (ONE + "tags=1", "3: tags: is not a key. Did you mean tag?"),
        (ONE + "zzz=1", "3: zzz: is not a key. docs/parties.conf.md lists every key."),
        (
            ONE + "user=a\nuser=b",
            "4: user: was given on line 3 already, as user. Remove one of the two.",
        ),
        (
            ONE + "partylist=(9999)",
            "3: partylist: was given on line 1 already, as party_list. Remove one of the two.",
        ),
        (
            "party_list=(10000 9999 9998)\npartyiplist=(192.168.1.1 192.168.1.2)",
            "2: partyiplist: has 2 addresses, but party_list has 3 parties. "
            "Write one address for each party, in the same order.",
        ),
        (
            "party_list=(10000)\nparty_ip_list=(192.168.1.1 192.168.1.2)",
            "2: party_ip_list: has 2 addresses, but party_list has 1 party. "
            "Write one address for each party, in the same order.",
        ),
        (
            TWO + "servingiplist=(192.168.1.1)",
            "3: servingiplist: has 1 address, but party_list has 2 parties. "
            "Write one address for each party, in the same order.",
        ),
        (
            "party_list=(10000 10000)\nparty_ip_list=(192.168.1.1 192.168.1.1)",
            "1: party_list: 10000 is given twice. Give each party an id of its own.",
        ),
        (
            "party_list=(\n10000\n0999)\nparty_ip_list=(192.168.1.1 192.168.1.1)",
            "3: party_list: '0999' is not a party id. Write 1 to 9 digits without a leading zero, e.g. 10000.",
        ),
        (
            "party_list=(10000,9999)\nparty_ip_list=(192.168.1.1 192.168.1.1)",
            "1: party_list: '10000,9999' has a comma; a list is separated by spaces. Write party_list=(first second).",
        ),
        (
            "party_list=()\nparty_ip_list=()",
            "1: party_list: there is no party in it. Write party_list=(10000 9999).",
        ),
        (
            "party_list=(10000)\nparty_ip_list=(192.168.1.300)",
            "2: party_ip_list: '192.168.1.300' is not an IP address or host name. "
            "Write e.g. 192.168.1.1 or party-a.example.org.",
        ),
        (
            "party_list=(10000)\nparty_ip_list=('')",
            "2: party_ip_list: '' is not an IP address or host name. Write e.g. 192.168.1.1 or party-a.example.org.",
        ),
        (
            "party_list=(10000)\nparty_ip_list=(0.0.0.0)",
            "2: party_ip_list: 0.0.0.0 names no single machine. Write the address by which the other parties reach it.",
        ),
        (
            ONE + "exchangeip=my_host",
            "3: exchangeip: 'my_host' is not an IP address or host name. "
            "Write e.g. 192.168.1.1 or party-a.example.org.",
        ),
        (ONE + "proxy_port=0", "3: proxy_port: '0' is not a port. Write a number from 1 to 65535."),
        (ONE + "ssh_port=65536", "3: ssh_port: '65536' is not a port. Write a number from 1 to 65535."),
        (
            ONE + "rest_port=http",
            "3: rest_port: 'http' is not a port. Write a number from 1 to 65535, or 0 to publish nothing.",
        ),
        (
            TWO + "proxy_port=9370",
            "3: proxy_port: 9370 is taken twice on 192.168.1.1, by proxy_port of 10000, proxy_port of 9999. "
            "Give each its own, or leave the key out: free ports are planned.",
        ),
        (
            ONE + "exchange_ip=192.168.1.1\nexchange_port=9400\n[10000]\nrest_port=9400",
            "6: rest_port: 9400 is taken twice on 192.168.1.1, by rest_port of 10000, exchange_port. "
            "Give each its own, or leave the key out: free ports are planned.",
        ),
        (
            "party_list=(1 2)\nparty_ip_list=(127.0.0.1 localhost)\n[1]\nproxy_port=5000\n[2]\nboard_port=5000",
            "6: board_port: 5000 is taken twice on 127.0.0.1, by proxy_port of 1, board_port of 2. "
            "Give each its own, or leave the key out: free ports are planned.",
        ),
        (
            "party_list=(1 2 3 4 5)\nparty_ip_list=(a a a a a)\nproxy_port=5000",
            "3: proxy_port: 5000 is taken twice on a, by proxy_port of 1, proxy_port of 2, proxy_port of 3 and 2 more. "
            "Give each its own, or leave the key out: free ports are planned.",
        ),
        (ONE + "dir=data/fate", "3: dir: 'data/fate' is not absolute. Write a path that starts with /."),
        (ONE + "dir=~/fate", "3: dir: '~/fate' is not absolute. Write a path that starts with /."),
        (
            ONE + "process_dir=/a:b",
            "3: process_dir: '/a:b' has a colon or a control character. Write a path without them.",
        ),
        (ONE + "engine=podman", "3: engine: 'podman' is not possible. Write docker or process."),
        (
            ONE + "log_level=info",
            "3: log_level: 'info' is not possible. Write DEBUG, INFO, WARNING or ERROR.",
        ),
        (ONE + "user=(root)", "3: user: takes one value, not a list. Write user=value, without brackets."),
        (ONE + "user=-oProxyCommand=x", "3: user: '-oProxyCommand=x' is not a user name. Write e.g. fate."),
        (
            ONE + "spool_quota=10GB",
            "3: spool_quota: '10GB' is not a size. Write a whole number with B, KiB, MiB, GiB or TiB, e.g. 10GiB.",
        ),
        (
            ONE + "proxy_window=1KiB",
            "3: proxy_window: 1KiB is not possible. Write a size from 65536 to 2147483647 bytes.",
        ),
        (ONE + "cores=0", "3: cores: '0' is not a number above 0. Write e.g. 30 or 0.5."),
        (ONE + "cores=nan", "3: cores: 'nan' is not a number above 0. Write e.g. 30 or 0.5."),
        (
            ONE + "max_attempts=0",
            "3: max_attempts: '0' is not possible. Write a whole number from 1 to 100.",
        ),
        (
            ONE + "federation_name=My_Lab",
            "3: federation_name: 'My_Lab' is not a name. Write 1 to 63 lower-case letters, digits or -, e.g. fedparty.",
        ),
        (
            ONE + "registry=https://example.org",
            "3: registry: 'https://example.org' is not a registry. "
            "Write host, host:port or host/folder, without https://.",
        ),
        (
            ONE + "tag=-x",
            "3: tag: '-x' is not an image tag. Write letters, digits, dots, - or _, e.g. 1.0.0.",
        ),
        (
            ONE + "rest_bind=localhost",
            "3: rest_bind: 'localhost' is not an IP address. "
            "Write 127.0.0.1 for this machine, 0.0.0.0 for every network.",
        ),
        (
            ONE + "extra_hosts=(party-b)",
            "3: extra_hosts: 'party-b' is not name:address. Write e.g. (party-b.example.org:192.168.1.2).",
        ),
        (
            ONE + "certificate_lifetime_days=400\nca_lifetime_days=365",
            "3: certificate_lifetime_days: a certificate for 400 days would outlive the CA with its 365 days. "
            "Write ca_lifetime_days larger than certificate_lifetime_days.",
        ),
        (ONE + "[9998]", "3: [9998]: is not in party_list. Add the party there, or remove this section."),
        (ONE + "[guest]", "3: [guest]: is not a party id. Write the id of a party, e.g. [10000], or [exchange]."),
        (
            ONE + "exchangeip=\n[exchange]",
            "4: [exchange]: there is no exchange. Write exchange_ip above the first section, or remove this one.",
        ),
        (
            ONE + "[10000]\nfederation_name=a",
            "4: federation_name: is for the whole federation, but stands in a section. "
            "Write it above the first section.",
        ),
        (
            ONE + "exchange_ip=192.168.1.9\n[exchange]\nrest_port=0",
            "5: rest_port: means nothing for the exchange. Write it above the first section or in a party's section.",
        ),
        (
            ONE + "mysql_ip=192.168.1.20\nmysql_user=fate",
            "3: mysql_ip: an external database needs mysql_password. Write mysql_password=... as well.",
        ),
        (
            ONE + "mysql_ip=192.168.1.20\nmysql_password=x1",
            "3: mysql_ip: an external database needs mysql_user. Write mysql_user=... as well.",
        ),
        (
            ONE + "mysql_ip=192.168.1.20\nmysql_user=fate\nmysql_password=fate_dev",
            "5: mysql_password: a published default password protects nothing. "
            "Set another one in the database and write it here.",
        ),
        (
            TWO + "mysql_ip=192.168.1.20\nmysql_user=fate\nmysql_password=x1",
            "3: mysql_ip: the database 'fedparty' on 192.168.1.20 would be shared by 10000, 9999. "
            "Write a mysql_db of its own into the section of each party.",
        ),
        (
            ONE + "user=$(whoami)",
            "3: user: a shell would expand this; the file is read, never executed. "
            "Write the value itself; a literal $ or ` belongs in 'single quotes'.",
        ),
        (
            "party_list=(10000\nparty_ip_list=(192.168.1.1)",
            "1: party_list: the bracket is not closed. Write party_list=(...) with a closing bracket.",
        ),
    ],
)
def test_one_fault_is_one_whole_message(faults_of: Faults, text: str, message: str) -> None:
    assert faults_of(text) == [f"parties.conf:{message}"]


def test_missing_lists_are_named_without_a_line(faults_of: Faults) -> None:
    assert faults_of("user=fate") == [
        "parties.conf: party_list: is missing. Write party_list=(10000 9999).",
        "parties.conf: party_ip_list: is missing. "
        "Write party_ip_list=(127.0.0.1 127.0.0.1), one address for each party.",
    ]


def test_all_faults_come_at_once_in_the_order_of_the_file(faults_of: Faults) -> None:
    faults = faults_of(
        "user=$USER\n"
        "party_list=(10000 abc 9998 10000)\n"
        "party_ip_list=(192.168.1.1 192.168.1.999 192.168.1.1)\n"
        "dir=relative\n"
        "enginee=docker\n"
        "ca_lifetime_days=1\n"
        "[10000]\nproxy_port=5000\n"
        "[9998]\nrest_port=5000\n"
        "[1]\nssh_port=99999\n"
    )
    assert [(fault.split(":")[1], fault.split(": ")[1]) for fault in faults] == [
        ("1", "user"),
        ("2", "party_list"),
        ("2", "party_list"),
        ("3", "party_ip_list"),
        ("3", "party_ip_list"),
        ("4", "dir"),
        ("5", "enginee"),
        ("6", "ca_lifetime_days"),
        ("10", "rest_port"),
        ("11", "[1]"),
        ("12", "ssh_port"),
    ]


def test_the_error_carries_its_faults_and_a_hint(read: Callable[[str], object]) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(ONE + "dir=x\nuser=1")
    error = raised.value
    assert isinstance(error, ConfigurationErrors)
    assert [(fault.line, fault.key) for fault in error.faults] == [(3, "dir"), (4, "user")]
    assert error.hint == "Correct the file and run the command again; docs/parties.conf.md explains every key."
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "parties.conf: is empty. Start from the parties.conf of this project."),
        (b" \n\t\r\n", "parties.conf: is empty. Start from the parties.conf of this project."),
        (b"user=a\nuser=\xff\xfe", "parties.conf:2: is not text. Save it as UTF-8 text."),
        ("user=a".encode("utf-16-le"), "parties.conf:1: is not text. Save it as UTF-8 text."),
        (b"\x7fELF\x02\x01\x01\x00", "parties.conf:1: is not text. Save it as UTF-8 text."),
        (b"a=1\n\x1b[31m", "parties.conf:2: is not text. Save it as UTF-8 text."),
        (b"#" * (4 * 2**20 + 1), "parties.conf: is larger than 4 MiB. Start from the parties.conf of this project."),
    ],
)
def test_a_file_that_is_no_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("parties.conf").write_bytes(content)
    with pytest.raises(ConfigurationErrors) as raised:
        load(Path("parties.conf"))
    assert raised.value.message == message


def test_a_file_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    expected = {
        "absent": "absent: there is no such file. Run this in its folder, or name it with -c.",
        "folder": "folder: is a folder. Name the file in it with -c.",
        "loop": f"loop: cannot be read ({os.strerror(40)}). Make it readable for this user.",
    }
    for name, message in expected.items():
        with pytest.raises(ConfigurationErrors) as raised:
            load(Path(name))
        assert raised.value.message == message
