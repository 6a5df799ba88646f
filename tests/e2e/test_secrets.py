"""No secret is anywhere but in its own file: not in a log at DEBUG, a database, a metric, an error or the audit log."""

import json
import re
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent import models
from tests.e2e.system import BOARD, HubProcess, System, program, wait_for

pytestmark = pytest.mark.timeout(400)  # a dozen programs are started one after another

PASSPHRASE = "correct-horse-battery-7319"
WEBHOOK = "webhook-secret-5521098"
MAIL = "mail-password-8820147"
DATABASE = "database-password-4471902"
_PEM = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+?)-----END")


def private_keys(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Each with a piece of its body, which no other text has."""
    for path in folder.rglob("*"):
        if path.is_file():
            for match in _PEM.finditer(path.read_bytes()):
                yield path, b"".join(match[1].split())[20:60]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("secrets")


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, bytes]:
    """What the programs printed and answered, by what it was; a whole system ran and has ended, its files are in ``folder``."""
    secret, password = folder / "webhook.secret", folder / "mail.secret"
    secret.write_text(WEBHOOK)
    password.write_text(MAIL)
    sinks = [
        {"name": "hook", "kind": "webhook", "url": "https://127.0.0.1:1/hook", "secret_file": str(secret)},
        {"name": "mail", "kind": "smtp", "host": "127.0.0.1", "port": 1, "user": "hub", "sender": "hub@example.org",
         "recipients": ["ada@example.org"], "secret_file": str(password), "timeout_s": 1.0},
    ]  # fmt: skip
    system = System(folder / "system", log_level="DEBUG", alerts={"sinks": sinks})
    try:
        return _live(system)
    finally:
        system.close()


def _live(system: System) -> dict[str, bytes]:
    hub = system.hub
    admin = hub.data_dir / "admin" / "hubctl.yaml"
    said: dict[str, bytes] = {}

    def hubctl(*words: object, config: Path = admin, **env: str) -> None:
        done = program("hubctl", "--config", config, *words, env={"TIDELINE_HUBCTL_DEBUG": "1", **env})
        said[f"{len(said)}: hubctl {' '.join(map(str, words))}"] = (done.stdout + done.stderr).encode()

    hubctl("trust", "init", "--keys", system.folder / "more-roots", TIDELINE_ROOT_PASSPHRASE=PASSPHRASE)  # there are some
    hubctl("user", "create", "bob", "--role", "viewer")
    hubctl("user", "certificate", "bob", "--out", system.folder / "bob")
    hubctl("token", "create", "--user", "bob", "--out", system.folder / "bearer")
    hubctl("token", "list")
    bearer = system.folder / "bearer" / "hubctl.yaml"
    hubctl("device", "list", config=bearer)
    hubctl("device", "create", "denied", "--board", BOARD, config=bearer)
    token = (system.folder / "bearer" / "token").read_text().strip()
    (system.folder / "bearer" / "token").write_text(token[:-4] + "AAAA")  # almost right: an error must not show the rest
    hubctl("device", "list", config=bearer)
    (system.folder / "bearer" / "token").write_text(token)

    agent = system.agent("cam-1")
    with (agent.folder / "agent.yaml").open("a") as file:
        file.write("log_level: DEBUG\n")
    ticket = agent.folder / "ticket.json"
    again = program("edge-agent", "enroll", "--ticket", ticket, "--data-dir", system.folder / "second")
    said["a ticket used twice"] = (again.stdout + again.stderr).encode()
    agent.start()
    system.publish(lambda number: models.files(version=number))
    wait_for(lambda: agent.status().get("broker_connected"), "the agent's connection", 60)
    hubctl("alert", "sink", "test", "hook")
    hubctl("alert", "sink", "test", "mail")
    hubctl("device", "rotate", "cam-1")
    hubctl("device", "revoke", "cam-1")
    status = program("edge-agent", "status", "--data-dir", agent.data_dir, "--output", "json")
    said["status"] = (status.stdout + status.stderr).encode()
    for page in ("metrics", "livez", "readyz"):
        with urllib.request.urlopen(f"http://127.0.0.1:{hub.config.metrics.port}/{page}", timeout=10) as reply:
            said[page] = reply.read()
    hubctl("audit", "export", "--out", system.folder / "audit.jsonl")
    hubctl("--output", "json", "audit", "list", "--limit", "0")
    agent.stop()
    hub.stop()
    return said


@pytest.fixture(scope="module")
def secrets(folder: Path, told: dict[str, bytes]) -> dict[str, bytes]:
    """By what they are."""
    system = folder / "system"
    found = {"the webhook's secret": WEBHOOK, "the mail password": MAIL, "the passphrase": PASSPHRASE}
    found["the bearer secret"] = (system / "bearer" / "token").read_text().strip()
    found["the bearer secret's second half"] = found["the bearer secret"][-20:]
    found["the ticket's token"] = json.loads((system / "cam-1" / "ticket.json").read_text())["token"]
    return {what: secret.encode() for what, secret in found.items()} | {
        f"the private key in {path.relative_to(folder)}": body for path, body in private_keys(folder)
    }


def test_there_were_secrets_and_places_where_they_might_be(
    folder: Path, told: dict[str, bytes], secrets: dict[str, bytes]
) -> None:
    """What is below proves something only if this does."""
    assert all(len(secret) >= 16 for secret in secrets.values()), secrets.keys()
    keys = [what for what in secrets if what.startswith("the private key")]
    for part in ("ca/", "admin/", "identities/", "root-keys/", "trust/keys/", "broker/", "bob/"):
        assert any(part in what for what in keys), (part, keys)
    assert b'"level": "debug"' in (folder / "system/hub/hub.log").read_bytes()
    assert b"tideline_" in told["metrics"]
    entries = (folder / "system/audit.jsonl").read_text()
    for method in ("CreateDevice", "CreateToken", "IssueCertificate", "Enroll", "PERMISSION_DENIED", "UNAUTHENTICATED"):
        assert method in entries, method


def test_no_file_has_a_secret_but_its_own(folder: Path, secrets: dict[str, bytes]) -> None:
    """Logs, databases with their journals, configurations, status files, the exported audit log."""
    own = {path for path, _ in private_keys(folder)} | {
        folder / "webhook.secret", folder / "mail.secret", folder / "system/bearer/token", folder / "system/cam-1/ticket.json",
    }  # fmt: skip
    leaks = [
        f"{path.relative_to(folder)} has {what}"
        for path in folder.rglob("*")
        if path.is_file() and path not in own
        for data in [path.read_bytes()]
        for what, secret in secrets.items()
        if secret in data
    ]
    assert leaks == []


def test_nothing_that_was_said_has_a_secret(told: dict[str, bytes], secrets: dict[str, bytes]) -> None:
    leaks = [
        f"{what} in the answer to {whom}" for whom, said in told.items() for what, secret in secrets.items() if secret in said
    ]
    assert leaks == []


def test_what_holds_a_secret_is_its_owners_alone(folder: Path, secrets: dict[str, bytes]) -> None:
    private = {path for path, _ in private_keys(folder)}
    private |= {folder / "system" / name for name in ("bearer/token", "cam-1/ticket.json", "hub/data/hub.db", "audit.jsonl")}
    open_ = {
        str(path.relative_to(folder)): oct(mode) for path in private if (mode := stat.S_IMODE(path.stat().st_mode)) & 0o177
    }
    open_.pop("system/hub/data/hub.db", None)  # SQLite's own modes: its folder keeps others out
    assert open_ == {}
    for name in (
        "hub/data",
        "hub/data/ca",
        "hub/data/admin",
        "hub/data/trust/keys",
        "cam-1/data/identities",
        "bearer",
        "root-keys",
    ):
        assert stat.S_IMODE((folder / "system" / name).stat().st_mode) == 0o700, name


def test_a_password_in_database_url_is_never_shown(tmp_path: Path) -> None:
    for url in (
        f"postgresql://hub:{DATABASE}@127.0.0.1:1/hub",
        f"postgresql://hub:{DATABASE}@[::1/hub",
        f"postgres://hub:{DATABASE}@db.invalid/hub",
        f"oracle://hub:{DATABASE}@db.invalid/hub",
        f"postgresql://hub:{DATABASE}@127.0.0.1/hub?nonsense=1",
    ):
        hub = HubProcess(tmp_path / str(abs(hash(url))), database_url=url, log_level="DEBUG")
        for command in ("init", "serve") if "127.0.0.1:1/" in url else ("init",):
            done = program("cloud-hub", command, "--config", hub.config_path)
            assert done.returncode != 0
            assert done.stderr.strip()
            assert DATABASE not in done.stdout + done.stderr, f"{command} {url}"
            assert "Traceback" not in done.stderr
