"""Pack: a bundle that stands alone, with a made-up case and its answer, in one file that can be sent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from clinibundle.bundle.configs import read_config
from clinibundle.bundle.description import Bundle
from clinibundle.console import Talk
from clinibundle.errors import BundleError, OutputError
from clinibundle.exchange.freeze import freeze
from clinibundle.exchange.inspection import inspect_bundle
from clinibundle.exchange.packed import write_manifest, write_zip
from clinibundle.exchange.patient_data import patient_data_in
from clinibundle.exchange.verdicts import Verdict
from clinibundle.phantoms.write import write_phantom_cases
from clinibundle.workflows.segment import SegmentOptions, segment

TEST_CASE = "test_case"
# Shares of a pixel's edge differ in the last bits from machine to machine.
_LEAST_DICE = 0.99
_SEED = 1
_SHOWN = 5


def pack(bundle: Bundle, overlays: Sequence[Path], output: Path, overwrite: bool, talk: Talk) -> None:
    """Writes `output`, whole or not at all; the same bundle gives the same bytes.

    Raises:
        BundleError: if the bundle holds what could tell of a patient, something dangerous, or has no weights.
        OutputError: if `output` is there already, or cannot be written.
    """
    if output.exists() and not overwrite:
        raise OutputError(f"'{output.name}' is there already; choose another name, or add --overwrite")
    with TemporaryDirectory(prefix="clinibundle-") as folder:
        root = Path(folder) / bundle.name
        freeze(bundle.root, overlays, root)
        _refuse_patient_data(root, bundle.name)
        _refuse_danger(root, bundle.name)
        frozen = Bundle(root)
        if not frozen.weights.is_file():
            raise BundleError(f"'{bundle.name}' has no weights (models/model.pt); a packed bundle has to have them")
        talk.stage("making a test case and its answer")
        facts = _facts(frozen, [overlay.stem for overlay in overlays])
        facts["test_case"] = _make_test_case(frozen, Path(folder), talk)
        write_manifest(root, facts)
        talk.stage("packing")
        partial = output.with_name(f".{output.name}.part")
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
            write_zip(root, bundle.name, partial)
            partial.replace(output)
        except OSError as error:
            raise OutputError(f"'{output.name}' cannot be written: {error.strerror}") from error
        finally:
            partial.unlink(missing_ok=True)


def _refuse_patient_data(root: Path, name: str) -> None:
    found = patient_data_in(root)
    if found:
        shown = "; ".join(f"{each.place}: {each.why} ('{each.what[:60]}')" for each in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise BundleError(f"'{name}' is not packed, since it could tell of patients or machines: {shown}{more}")


def _refuse_danger(root: Path, name: str) -> None:
    dangerous = [each for each in inspect_bundle(root).findings if each.verdict is Verdict.DANGEROUS]
    if dangerous:
        raise BundleError(
            f"'{name}' is not packed, since every clinic would refuse it: {dangerous[0].place}: {dangerous[0].why}; "
            "see clinibundle inspect"
        )


def _facts(bundle: Bundle, overlays: list[str]) -> dict[str, Any]:
    metadata = json.loads((bundle.root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    parser = read_config(bundle.root, "inference")
    network = parser.get_parsed_content("network_def")
    versions = {key: metadata.get(f"{key}_version") for key in ("monai", "pytorch", "numpy")}
    return {
        "name": bundle.name,
        "version": metadata["version"],
        "overlays": overlays,
        "made_with": {**versions, **metadata.get("required_packages_version", {})},
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "metrics": metadata.get("eval_metrics", {}),
        "training_data": metadata.get("training_data"),
        "weights_licence": metadata.get("weights_licence"),
    }


def _make_test_case(bundle: Bundle, folder: Path, talk: Talk) -> dict[str, Any] | None:
    """A made-up picture and the bundle's answer to it; None of a bundle that names no phantom."""
    if bundle.data.phantom is None:
        talk.warning(f"'{bundle.name}' names no phantom (configs/data.yaml), so that no test case can be enclosed")
        return None
    made, out, kept = folder / "made", folder / "answer", bundle.root / TEST_CASE
    write_phantom_cases(bundle.data.phantom, made, 1, seed=_SEED, dicom=False)
    (picture,) = (made / "images").iterdir()
    ending = "".join(picture.suffixes)
    kept.mkdir()
    shutil.copy(picture, kept / f"input{ending}")
    segment(bundle, kept / f"input{ending}", out, SegmentOptions(device="cpu"), Talk(quiet=True))
    (mask,) = out.glob("mask.*")
    expected = f"expected{''.join(mask.suffixes)}"
    shutil.copy(mask, kept / expected)
    return {
        "input": f"{TEST_CASE}/input{ending}",
        "expected": f"{TEST_CASE}/{expected}",
        "least_dice": _LEAST_DICE,
        "phantom": bundle.data.phantom,
    }
