"""What dciodvfy, of dicom3tools, says of a file: a referee that shares no code with us."""

import shutil
import subprocess
from pathlib import Path

import pytest


def dciodvfy_errors(path: Path, kind: str) -> list[str]:
    """Its errors; the test is skipped where it is not installed, and fails where it takes the file for another kind."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed")
    verdict = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    said = (verdict.stdout + verdict.stderr).splitlines()
    assert kind in said
    return [line for line in said if line.startswith("Error")]
