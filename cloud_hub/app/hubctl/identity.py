"""Identities on the disk of whoever uses them: nobody else may read them."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from cloud_hub.app.hubctl.failure import refused
from edge_agent.core.files import write_atomic

CONFIG = "hubctl.yaml"


def make_key() -> tuple[str, str]:
    """A new EC P-256 key and a signing request for it, both PEM; the hub takes no name from the request."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    key_pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key_pem.decode(), request.public_bytes(serialization.Encoding.PEM).decode()


def new_folder(path: Path) -> Path:
    """Made before the hub is asked, so that nothing is issued for a folder that cannot be written. Raises Failure."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (path / CONFIG).exists():
        raise refused(f"{path} holds an identity already: name a new folder")
    return path


def write(folder: Path, files: Mapping[str, str], settings: Mapping[str, str]) -> Path:
    """All of them mode 0600, the settings last, which marks the identity whole; their path."""
    for name, text in files.items():
        write_atomic(folder / name, text.encode())
    write_atomic(folder / CONFIG, yaml.safe_dump(dict(settings), sort_keys=False).encode())
    return folder / CONFIG
