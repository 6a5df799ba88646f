"""What every test may use."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tideline", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("tideline")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data sets that are not part of the project; TIDELINE_DATA or ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("TIDELINE_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets at {folder}; set TIDELINE_DATA to run this test")
    return folder
