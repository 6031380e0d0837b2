"""The plan: golden bundles, settings that their services load, templates that mirror the bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fedparty.config import Federation, Party
from fedparty.errors import ConfigurationError
from fedparty.generate.addresses import inner_addresses
from fedparty.generate.database import has_own_database
from fedparty.generate.kept import Identity, Kept
from fedparty.generate.plan import Bundle, Trust, plan, tls_addresses, with_engine
from fedparty.generate.ports import assign
from fedparty.generate.render import TEMPLATES, Renderer
from fedparty.settings import FederationSettings, FlowSettings, ServiceSettings, WorkerSettings, load

Read = Callable[..., Federation]

GOLDEN = Path(__file__).parent / "golden"
TRUST = Trust("SHA256:AAAA-BBBB", b"the CA's certificate\n", b"the revocation list\n")
EXCHANGE_IDENTITY = Identity(b"certificate of the exchange\n", b"tls key of the exchange\n")
TWO = "engine=process\nparty_list=(10000 9999)\nparty_ip_list=(10.0.0.1 10.0.0.2)\n"
DOCKER = TWO.replace("process", "docker") + "tag=1.0\n"
SHARED_DATABASE = "flow_replicas=2\n[10000]\nmysql_ip=10.0.0.8\nmysql_user=f\nmysql_password='x y'\n"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "federation": FederationSettings,
    "flow": FlowSettings,
    "worker": WorkerSettings,
}


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer()


GOLDEN_WAYS = {
    "direct": (TWO,),
    "exchange": (TWO, "exchange_ip=10.0.0.3\n"),
    "docker-direct": (DOCKER,),
    "docker-exchange": (DOCKER, "exchange_ip=10.0.0.3\n"),
    "two-flows": (TWO, SHARED_DATABASE),
    "docker-two-flows": (DOCKER, "flow_replicas=2\n"),
}


@pytest.mark.parametrize("way", GOLDEN_WAYS)
def test_bundles_are_as_they_were(read: Read, renderer: Renderer, way: str, update_golden: bool) -> None:
    federation = read(*GOLDEN_WAYS[way])
    rendered = {
        f"{bundle.name}/{path}": content
        for bundle in planned(federation)
        if bundle.party != "9999"  # it differs in names only
        for path, content in files_of(bundle, renderer).items()
        if not (way.startswith("docker") and path.startswith("proxy/live/"))  # as without Docker
    }
    folder = GOLDEN / way
    if update_golden:
        rewrite(folder, rendered)
    golden = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert sorted(rendered) == sorted(golden), "run pytest tests/unit/generate --update-golden"
    for path, content in rendered.items():
        assert content.decode() == golden[path].decode(), f"{path}: see the change with --update-golden and git diff"


@pytest.mark.parametrize("engine", ["process", "docker"])
@pytest.mark.parametrize("service", SETTINGS)
def test_each_service_can_load_its_settings(
    read: Read, renderer: Renderer, tmp_path: Path, engine: str, service: str
) -> None:
    federation = with_engine(read(TWO, "cores=2.5\nspool_quota=3MiB\nlog_level=DEBUG\n"), engine)
    path = tmp_path / "settings.json"
    path.write_bytes(files_of(planned(federation)[0], renderer)[f"{service}/settings.json"])
    settings = load(SETTINGS[service], path)
    assert (settings.party, settings.federation, settings.log_level) == ("10000", "fedparty", "DEBUG")
    if isinstance(settings, FlowSettings):
        assert (settings.cores, settings.max_attempts) == (2.5, 3)
    if isinstance(settings, FederationSettings):
        assert settings.spool_quota_bytes == 3 * 2**20


def test_paths_in_settings_are_files_of_the_bundle(read: Read, renderer: Renderer) -> None:
    bundle = planned(read(TWO))[0]
    files = files_of(bundle, renderer)
    for service in SETTINGS:
        for value in json.loads(files[f"{service}/settings.json"]).values():
            if isinstance(value, str) and value.startswith("bundle/"):
                assert value.removeprefix("bundle/") in files


def test_both_engines_use_the_same_sockets_but_for_the_proxys_admin() -> None:
    process, docker = inner_addresses("process"), inner_addresses("docker")
    assert {name for name in process if process[name] != docker[name]} == {"envoy_admin"}
    assert docker["envoy_admin"] == "127.0.0.1:9901"
    assert all(address.startswith("unix:run/") for address in process.values())


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'podman' is not an engine"):
        inner_addresses("podman")


def test_every_template_makes_a_file_of_a_bundle(read: Read) -> None:
    federation = read(TWO, "exchange_ip=10.0.0.3\n", "flow_replicas=2\n")
    bundles = (*planned(federation), *planned(with_engine(federation, "docker")))
    used = {file.template for bundle in bundles for file in bundle.files if file.template}
    assert used == {
        str(path.relative_to(TEMPLATES)) for path in TEMPLATES.rglob("*.j2") if not path.name.startswith("_")
    }


@pytest.mark.parametrize("engine", ["process", "docker"])
def test_templates_mirror_the_bundle(read: Read, engine: str) -> None:
    for bundle in planned(with_engine(read(TWO, "exchange_ip=10.0.0.3\n", "flow_replicas=2\n"), engine)):
        for file in bundle.files:
            if file.template:
                assert file.template.removeprefix("exchange/") == f"{file.path.replace('flow-2/', 'flow/')}.j2"


def test_no_json_file_has_a_key_twice(read: Read, renderer: Renderer) -> None:
    for bundle in planned(read(TWO, "exchange_ip=10.0.0.3\n")):
        for file in bundle.files:
            if file.template and file.template.endswith(".json.j2"):
                source = renderer._environment.get_template(file.template).render(bundle.variables_of(file))
                json.loads(source, object_pairs_hook=once)


def test_secrets_are_for_the_owner_only_and_live_files_are_known(read: Read) -> None:
    bundle = planned(read(TWO))[0]
    assert {file.path for file in bundle.files if file.mode == 0o600} == {
        "proxy/tls.key", "proxy/live/rds_ingress.json", "flow/signing.key", "secrets/api-token", "secrets/proxy-secret",
    }  # fmt: skip
    assert {file.path for file in bundle.files if file.is_live} == {
        "ca/live/crl.pem", "flow/live/signing.crt", "proxy/live/cds.json", "proxy/live/lds.json",
        "proxy/live/rds_egress.json", "proxy/live/rds_ingress.json", "proxy/live/sds_identity.json",
        "proxy/live/sds_trust.json",
    }  # fmt: skip


def test_what_a_party_may_read_names_no_other_party_behind_an_exchange(read: Read, renderer: Renderer) -> None:
    bundle = planned(read(TWO, "exchange_ip=10.0.0.3\n"))[0]
    assert not [path for path, content in files_of(bundle, renderer).items() if b"9999" in content]


def test_a_party_on_this_machine_only_does_not_listen_to_others(read: Read, renderer: Renderer) -> None:
    local = read("engine=process\nparty_list=(1 2 3)\nparty_ip_list=(localhost 10.0.0.1 2001:db8::1)\n")
    binds = [bundle.variables["party"]["proxy_bind"] for bundle in planned(local)]
    assert binds == ["127.0.0.1", "0.0.0.0", "::"]


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("rest_port=0", None),
        ("rest_bind=0.0.0.0", "https://10.0.0.1:9380"),
        ("rest_bind=::1", "https://[::1]:9380"),
        ("", "https://127.0.0.1:9380"),
    ],
)
def test_the_address_of_rest_is_one_that_answers(read: Read, renderer: Renderer, key: str, url: str | None) -> None:
    about = json.loads(files_of(planned(read(TWO, f"[10000]\n{key}\n"))[0], renderer)["bundle.json"])
    assert about["rest_url"] == url


def test_the_certificate_is_for_the_addresses_of_rest(read: Read) -> None:
    party = read(TWO, "[10000]\nrest_bind=10.9.9.9\n").parties[0]
    assert tls_addresses(party) == ("10.0.0.1", "10.9.9.9", "127.0.0.1")


def test_bundle_json_says_what_the_deployer_reads(read: Read, renderer: Renderer) -> None:
    about = json.loads(files_of(planned(read(TWO, "service_layout=together\n"))[0], renderer)["bundle.json"])
    assert about == {
        "format": 1,
        "party": "10000",
        "federation": "fedparty",
        "fingerprint": "SHA256:AAAA-BBBB",
        "engine": "process",
        "services": ["proxy", "federation", "flow", "worker"],
        "address": "10.0.0.1",
        "proxy_port": 9370,
        "rest_url": "https://127.0.0.1:9380",
        "service_layout": "together",
        "own_keys": [],
        "is_loopback": False,
        "images": {},
        "containers": {},
        "published": [],
    }


def test_a_party_that_keeps_its_keys_is_told_where_they_go(read: Read, renderer: Renderer) -> None:
    federation = read(TWO)
    kept = kept_for(federation.parties[0], tls_key=None, signing_key=None)
    bundle = planned(federation, {"10000": kept})[0]
    files = files_of(bundle, renderer)
    assert not {"proxy/tls.key", "flow/signing.key"} & set(files)
    assert bundle.own_keys == ("keys/tls.key", "keys/signing.key")
    assert "- `keys/tls.key`\n- `keys/signing.key`\n" in files["README.md"].decode()
    assert json.loads(files["flow/settings.json"])["signing_key"] == "keys/signing.key"
    assert "keys/tls.key" in files["proxy/live/sds_identity.json"].decode()


def test_without_docker_and_mysql_the_database_is_a_file(read: Read, renderer: Renderer) -> None:
    files = files_of(planned(read(TWO))[0], renderer)
    settings = json.loads(files["flow/settings.json"])
    assert settings["database_url"] == "sqlite+aiosqlite:///data/flow/flow.db"
    assert settings["database_password"] is settings["database_ca"] is None
    assert "secrets/mysql-password" not in files


@pytest.mark.parametrize("engine", ["process", "docker"])
def test_an_external_database_is_reached_with_its_password_from_a_file(
    read: Read, renderer: Renderer, engine: str
) -> None:
    federation = with_engine(read(TWO, "[9999]\nmysql_ip=fd00::8\nmysql_user=f\nmysql_password='x y'\n"), engine)
    bundle = planned(federation, authorities={"9999": b"the database's CA"})[1]
    files = files_of(bundle, renderer)
    settings = json.loads(files["flow/settings.json"])
    assert settings["database_url"] == "mysql+aiomysql://f@[fd00::8]:3306/fedparty"
    assert settings["database_password"] == "bundle/secrets/mysql-password"
    assert settings["database_ca"] == "bundle/flow/database-ca.crt"
    assert files["secrets/mysql-password"] == b"x y"
    assert files["flow/database-ca.crt"] == b"the database's CA"
    assert "mysql" not in bundle.variables["services"]
    assert not [path for path, content in files.items() if b"x y" in content and not path.startswith("secrets/")]


def test_two_job_servers_have_listeners_of_their_own_and_share_all_else(read: Read, renderer: Renderer) -> None:
    files = files_of(planned(read(TWO, SHARED_DATABASE))[0], renderer)
    first, second = (json.loads(files[f"{service}/settings.json"]) for service in ("flow", "flow-2"))
    assert {name for name in first if first[name] != second[name]} == {"replica", "rest", "peer", "operations"}
    assert (first["replica"], second["replica"], second["replicas"]) == (1, 2, 2)
    assert second["rest"] == "unix:run/flow-2-rest.sock"
    static = json.loads(files["proxy/bootstrap.json"])["static_resources"]
    assert {each["name"]: each["address"]["pipe"]["path"] for each in static["listeners"]} == {
        "own_rest": "run/flow-rest.sock",
        "leader_rest": "run/leader-rest.sock",
        "leader_peer": "run/leader-peer.sock",
    }
    ends = {each["name"]: each["load_assignment"]["endpoints"][0]["lb_endpoints"] for each in static["clusters"]}
    assert [each["endpoint"]["address"]["pipe"]["path"] for each in ends["leader_rest"]] == [
        "run/flow-1-rest.sock", "run/flow-2-rest.sock",
    ]  # fmt: skip
    assert [each["endpoint"]["health_check_config"]["address"]["pipe"]["path"] for each in ends["leader_peer"]] == [
        "run/flow-1-operations.sock", "run/flow-2-operations.sock",
    ]  # fmt: skip


def test_one_job_server_is_not_asked_who_leads(read: Read, renderer: Renderer) -> None:
    static = json.loads(files_of(planned(read(TWO))[0], renderer)["proxy/bootstrap.json"])["static_resources"]
    assert "listeners" not in static
    assert not [each for each in static["clusters"] if "health_checks" in each]


def test_another_number_of_job_servers_changes_nothing_for_the_other_services(read: Read, renderer: Renderer) -> None:
    alone = files_of(planned(read(TWO, SHARED_DATABASE.replace("flow_replicas=2", "flow_replicas=1")))[0], renderer)
    both = files_of(planned(read(TWO, SHARED_DATABASE))[0], renderer)
    assert {path for path in both if both[path] != alone.get(path)} == {
        "README.md", "bundle.json", "flow/settings.json", "flow-2/settings.json", "flow-2/supervisord.conf",
        "proxy/bootstrap.json",
    }  # fmt: skip


def planned(
    federation: Federation, kept: dict[str, Kept] | None = None, authorities: dict[str, bytes] | None = None
) -> tuple[Bundle, ...]:
    all_kept = {party.id: (kept or {}).get(party.id) or kept_for(party) for party in federation.parties}
    exchange = EXCHANGE_IDENTITY if federation.exchange else None
    return plan(federation, assign(federation, {}), all_kept, exchange, TRUST, authorities or {})


def kept_for(party: Party, **keys: bytes | None) -> Kept:
    def content(what: str) -> bytes:
        return f"{what} of {party.id}\n".encode()

    return Kept(
        tls=Identity(content("tls certificate"), keys.get("tls_key", content("tls key"))),
        signing=Identity(content("signing certificate"), keys.get("signing_key", content("signing key"))),
        api_token=f"api-token-of-{party.id}".encode(),
        proxy_secret=f"proxy-secret-of-{party.id}".encode(),
        mysql_password=f"mysql-password-of-{party.id}".encode() if has_own_database(party) else None,
    )


def files_of(bundle: Bundle, renderer: Renderer) -> dict[str, bytes]:
    return bundle.make_files(lambda file, variables: renderer.render(file.template or "", variables))


def once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        assert key not in found, f"{key} is there twice"
        found[key] = value
    return found


def rewrite(folder: Path, files: dict[str, bytes]) -> None:
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.unlink()
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
