"""What must not come into the code: each thing is planted once, and the project's own checks refuse it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

RUFF = Path(sys.executable).parent / "ruff"

LINTED = {
    "pickle": "import pickle\n",
    "pickle by name": "from pickle import loads\n",
    "cloudpickle": "import cloudpickle\n",
    "dill": "import dill\n",
    "joblib": "from joblib import load\n",
    "marshal": "import marshal\n",
    "shelve": "import shelve\n",
    "torch.load": "import torch\n\ntorch.load('a')\n",
    "torch.load with weights_only=False": "from torch import load\n\nload('a', weights_only=False)\n",
    "torch.save": "import torch\n\ntorch.save({}, 'a')\n",
    "torch.jit.load": "import torch\n\ntorch.jit.load('a')\n",
    "torch.hub": "import torch\n\ntorch.hub.load('a', 'b')\n",
    "extractall of a tar": "import tarfile\n\nwith tarfile.open('a') as tar:\n    tar.extractall('b')\n",
    "extractall of a zip": "import zipfile\n\nzipfile.ZipFile.extractall(zipfile.ZipFile('a'))\n",
    "unpack_archive": "import shutil\n\nshutil.unpack_archive('a')\n",
    "yaml.load": "import yaml\n\nyaml.load('a', Loader=yaml.SafeLoader)\n",
    "yaml.load with an unsafe loader": "import yaml\n\nyaml.load('a', yaml.Loader)\n",
    "yaml.unsafe_load": "import yaml\n\nyaml.unsafe_load('a')\n",
    "yaml.full_load": "import yaml\n\nyaml.full_load('a')\n",
    "yaml.load_all": "import yaml\n\nyaml.load_all('a')\n",
    "eval": "eval('1')\n",
    "exec": "exec('1')\n",
    "a shell": "import subprocess\n\nsubprocess.run('ls', shell=True, check=True)\n",
    "a shell by another name": "from subprocess import Popen as P\n\nP('ls', shell=True)\n",
    "os.system": "import os\n\nos.system('ls')\n",
    "os.popen": "import os\n\nos.popen('ls')\n",
    "mktemp": "import tempfile\n\ntempfile.mktemp()\n",
    "an unverified context": "import ssl\n\nssl._create_unverified_context()\n",
    "CERT_NONE": "import ssl\n\ncontext = ssl.create_default_context()\ncontext.verify_mode = ssl.CERT_NONE\n",
    "verify=False": "import requests\n\nrequests.get('https://a', verify=False, timeout=5)\n",
    "a request without an end": "import requests\n\nrequests.get('https://a')\n",
    "an old TLS": "import ssl\n\nssl.wrap_socket(ssl_version=ssl.PROTOCOL_TLSv1)\n",
    "MD5": "import hashlib\n\nhashlib.md5(b'a')\n",
    "XML": "from xml.etree import ElementTree\n\nElementTree.fromstring('<a/>')\n",
    "a file for everybody": "from pathlib import Path\nimport os\n\nos.chmod(Path('a'), 0o777)\n",
    "logging that listens": "import logging.config\n\nlogging.config.listen(1)\n",
}

# what no rule of the linter sees: options by their name, whoever is called
UNSAFE_OPTIONS: dict[str, object] = {
    "allow_pickle": False,
    "weights_only": True,
    "shell": False,
    "trust_remote_code": False,
    "enable_unsafe_extraction": False,
}
NEVER_FALSE = {"verify", "check_hostname"}  # others may call something of theirs so
UNSAFE_METHODS = {"extractall", "enable_unsafe_deserialization"}


def _lint(code: str, where: str) -> subprocess.CompletedProcess[str]:
    command = [RUFF, "check", "--no-cache", "--output-format", "concise", "--stdin-filename", REPOSITORY / where, "-"]
    return subprocess.run(command, input=code, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize("what", LINTED)
@pytest.mark.parametrize("where", ["cloud_hub/pipeline/planted.py", "edge_agent/infer/planted.py", "scripts/planted.py"])
def test_the_linter_refuses(what: str, where: str) -> None:
    out = _lint(LINTED[what], where)
    security = [
        line for line in out.stdout.splitlines() if any(f" {code}" in line for code in ("S1", "S2", "S3", "S5", "S6", "TID251"))
    ]
    assert out.returncode == 1 and security, out.stdout + out.stderr


def test_the_linter_takes_code_without_any_of_this() -> None:
    out = _lint('"""Nothing."""\n\nimport json\n\nprint_me = json.dumps({})\n', "cloud_hub/pipeline/planted.py")
    assert out.returncode == 0, out.stdout


def unsafe(source: str) -> Iterator[tuple[int, str]]:
    """Line and what is wrong with it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                safe = UNSAFE_OPTIONS.get(keyword.arg or "")
                if safe is not None and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is safe):
                    yield node.lineno, f"{keyword.arg} must be {safe}"
                if keyword.arg in NEVER_FALSE and isinstance(keyword.value, ast.Constant) and keyword.value.value is False:
                    yield node.lineno, f"{keyword.arg} must not be False"
            if isinstance(node.func, ast.Attribute) and node.func.attr in UNSAFE_METHODS:
                yield node.lineno, node.func.attr
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value is False:
            for target in node.targets:
                if isinstance(target, ast.Attribute) and target.attr == "check_hostname":
                    yield node.lineno, "check_hostname must stay"


@pytest.mark.parametrize(
    "code",
    [
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=setting)",
        "load(path, weights_only=False)",
        "client.get(url, verify=False)",
        "run(words, shell=True)",
        "archive.extractall(folder)",
        "context.check_hostname = False",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_unsafe_options_are_seen(code: str) -> None:
    assert list(unsafe(code))


def test_safe_options_are_not() -> None:
    assert not list(unsafe("np.load(path, allow_pickle=False)\nload(path, weights_only=True)\nrun(words, shell=False)"))


def test_no_module_uses_an_unsafe_option() -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}: {what}"
        for package in ("protos", "edge_agent", "cloud_hub", "firmware_images", "scripts")
        for path in (REPOSITORY / package).rglob("*.py")
        for line, what in unsafe(path.read_text())
    ]
    assert found == []


def test_no_exemption_hides_one_of_these() -> None:
    """``noqa`` without a code hides everything."""
    rules = ("S1", "S2", "S3", "S5", "S6", "S7", "TID251")
    for package in ("protos", "edge_agent", "cloud_hub", "firmware_images", "scripts"):
        for path in (REPOSITORY / package).rglob("*.py"):
            for line in path.read_text().splitlines():
                _, mark, rest = line.partition("# noqa")
                codes = rest.removeprefix(":").partition("#")[0].replace(",", " ").split()
                assert not mark or (codes and not any(code.startswith(rules) for code in codes)), f"{path}: {line}"
