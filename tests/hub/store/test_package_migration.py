"""Firmware that was published before there were packages is one of them afterwards."""

import json

from cloud_hub.core.targets import PACKAGES
from cloud_hub.store import targets
from tests.hub.store.test_migrations import _insert, older
from tests.hub.telemetry_parts import TENANT


def test_it_is_named_by_its_new_path_and_signed_anew(empty_url: str) -> None:
    db = older(empty_url, "0010")
    with db.write() as tx:
        for kind, path, variant in (
            ("firmware", "firmware/default/camera-x86/base/1.0", "camera-x86"),
            ("manifest", "models/default/signs/1/onnx-int8/manifest.pb", "onnx-int8"),
        ):
            _insert(
                tx,
                "tuf_targets",
                path=path,
                tenant=TENANT,
                subject="firmware" if kind == "firmware" else "model",
                name="base",
                version="1.0",
                kind=kind,
                variant=variant,
                length=5,
                sha256="0" * 64,
                boards=json.dumps(["camera-x86"]),
                bin="bin-00",
                release=1,
                signed_release=1,
                created_at=0,
                queued_at=0,
            )
    db.migrate()
    with db.read() as tx:
        ((firmware, signed, _),) = targets.packages(tx, TENANT, PACKAGES, from_="", limit=9)
        assert firmware.path == "firmware/default/base/1.0/camera-x86" and not signed
        assert targets.in_bins(tx, [firmware.bin]) == ({firmware.bin: [firmware]}, [firmware])
        assert targets.find(tx, "models/default/signs/1/onnx-int8/manifest.pb") is not None
    db.close()
