"""Files of KubeFATE users work as they are."""

from collections.abc import Callable
from pathlib import PurePosixPath

import pytest

from fedparty.config import Loaded

Read = Callable[[str], Loaded]

RELEASE_1_3 = """\
#!/bin/bash

user=root
dir=/data/projects/fate
partylist=(10000 9999) 
partyiplist=(192.168.1.1 192.168.1.2)
servingiplist=(192.168.1.1 192.168.1.2)

# default
exchangeip=

# modify if you are going to use an external db
mysql_ip=mysql
mysql_user=fate
mysql_password=fate_dev
mysql_db=fate_flow

# modify if you are going to use an external redis
redis_ip=redis
redis_port=6379
redis_password=fate_dev
"""  # noqa: W291  as shipped

RELEASE_1_5 = """\
user=fate
dir=/data/projects/fate
partylist=(10000 9999)
partyiplist=(192.168.7.1 192.168.7.2)
servingiplist=()
exchangeip=192.168.7.3
# computing_backend could be eggroll or spark.
computing_backend=eggroll

# true if you need python-nn else false, the default value will be false
enabled_nn=false

fateboard_username=admin                    # Username to access fateboard
fateboard_password=admin                    # Password to access fateboard
"""

RELEASE_2 = """\
user=fate
dir=/data/projects/fate
party_list=(10000 9999)
party_ip_list=(192.168.7.1 192.168.7.2)
serving_ip_list=(192.168.7.1 192.168.7.2)

# Engines:
# Computing : Eggroll, Spark, Spark_local
computing=Eggroll
# Federation: OSX(computing: Eggroll/Spark/Spark_local), Pulsar/RabbitMQ(computing: Spark/Spark_local)
federation=OSX
storage=Eggroll
algorithm=Basic
device=CPU

# spark and eggroll
compute_core=16
gpu_count=0
backend=eggroll

exchangeip=

mysql_ip=mysql
mysql_user=fate
mysql_password=fate_dev
mysql_db=fate_flow
serverTimezone=UTC

name_node=hdfs://namenode:9000

fateboard_username=admin
fateboard_password=admin

serving_admin_username=admin
serving_admin_password=admin

RegistryURI=192.168.10.1/federatedai/
TAG=1.8.0-release
SSH_PORT=2222
"""


def test_release_1_3(read: Read) -> None:
    loaded = read(RELEASE_1_3)
    guest, host = loaded.federation.parties
    assert (guest.id, guest.address, guest.serving_address) == ("10000", "192.168.1.1", "192.168.1.1")
    assert (host.id, host.address) == ("9999", "192.168.1.2")
    assert (guest.user, guest.directory) == ("root", PurePosixPath("/data/projects/fate"))
    assert guest.database is None
    assert loaded.federation.exchange is None
    assert list(map(str, loaded.warnings)) == [
        "parties.conf:7: servingiplist: this release has no online serving. "
        "The addresses were checked and are kept for a later release.",
        "parties.conf:15: mysql_password: the published password 'fate_dev' is not used. "
        "A database of the party's own has a random password, or needs none.",
        "parties.conf:19: redis_ip: has no effect here. Nothing here needs Redis.",
        "parties.conf:20: redis_port: has no effect here. Nothing here needs Redis.",
        "parties.conf:21: redis_password: the published password 'fate_dev' is not used; every secret is random. "
        "Nothing here needs Redis.",
    ]


def test_release_1_5(read: Read) -> None:
    loaded = read(RELEASE_1_5)
    exchange = loaded.federation.exchange
    assert exchange is not None
    assert (exchange.address, exchange.port, exchange.user, exchange.id) == ("192.168.7.3", None, "fate", "exchange")
    assert [party.serving_address for party in loaded.federation.parties] == [None, None]
    assert [warning.key for warning in loaded.warnings] == [
        "computing_backend",
        "enabled_nn",
        "fateboard_username",
        "fateboard_password",
    ]
    assert str(loaded.warnings[-1]) == (
        "parties.conf:14: fateboard_password: the published password 'admin' is not used; every secret is random. "
        "Each party's REST has a random token, secrets/api-token in its bundle."
    )


def test_release_2(read: Read) -> None:
    loaded = read(RELEASE_2)
    assert loaded.federation.registry == "192.168.10.1/federatedai"
    assert loaded.federation.tag is None
    assert loaded.federation.name == "fedparty"
    assert [party.ssh_port for party in loaded.federation.parties] == [2222, 2222]
    assert [warning.key for warning in loaded.warnings] == [
        "serving_ip_list",
        "computing",
        "federation",
        "storage",
        "algorithm",
        "device",
        "compute_core",
        "gpu_count",
        "backend",
        "mysql_password",
        "serverTimezone",
        "name_node",
        "fateboard_username",
        "fateboard_password",
        "serving_admin_username",
        "serving_admin_password",
        "TAG",
    ]
    assert (
        str(loaded.warnings[6]) == "parties.conf:17: compute_core: has no effect here. Limit a party's jobs with cores."
    )


@pytest.mark.parametrize(
    "spelling", [("partylist", "partyiplist", "servingiplist"), ("party_list", "party_ip_list", "serving_ip_list")]
)
def test_both_spellings_mean_the_same(read: Read, spelling: tuple[str, str, str]) -> None:
    ids, addresses, serving = spelling
    federation = read(f"{ids}=( 10000\n 9999 )\n{addresses}=(a b)\n{serving}=(c d)").federation
    assert [(party.id, party.address, party.serving_address) for party in federation.parties] == [
        ("10000", "a", "c"),
        ("9999", "b", "d"),
    ]


def test_windows_line_ends_and_a_byte_order_mark(read: Read) -> None:
    assert read("\ufeff" + RELEASE_1_3.replace("\n", "\r\n")).federation == read(RELEASE_1_3).federation


def test_a_password_of_ones_own_is_named_without_its_value(read: Read) -> None:
    (warning,) = read("party_list=(1)\nparty_ip_list=(a)\nmysql_password=hunter2").warnings
    assert str(warning) == (
        "parties.conf:3: mysql_password: is not used without mysql_ip. "
        "A database of the party's own has a random password, or needs none."
    )
