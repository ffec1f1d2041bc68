from __future__ import annotations

from repository import ROOT


def test_handlers_are_those_of_lung_xray() -> None:
    # Bundles run one by one and share no code, so each has a copy; tests/bundles/lung_xray tries what they do.
    ours, theirs = (
        ROOT / "bundles" / name / f"scripts_{name}" / "handlers.py" for name in ("lung_tumor_ct", "lung_xray")
    )
    assert ours.read_bytes() == theirs.read_bytes()
