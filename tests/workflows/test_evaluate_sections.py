from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from clinibundle.bundle.description import LOWER_IS_BETTER, MEMBRANE_METRICS, Bundle
from clinibundle.console import Talk
from clinibundle.errors import DataFolderError
from clinibundle.metrics import membrane_scores
from clinibundle.workflows.evaluate import evaluate
from toy_tiles import make_tiled_bundle

QUIET = Talk(quiet=True)


def write_sections(folder: Path, names: str, merged: str = "") -> Path:
    """Sections of square cells; of those in `merged` one membrane is not to be seen."""
    truth = np.ones((60, 80), bool)
    truth[::20] = truth[:, ::20] = False
    truth = ndimage.binary_erosion(truth, iterations=2, border_value=1)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for name in names:
        seen = truth.copy()
        if name in merged:
            seen[8:15, 30:55] = True
        Image.fromarray(np.where(seen, 200, 40).astype(np.uint8)).save(folder / "images" / f"{name}.png")
        Image.fromarray(255 * truth.astype(np.uint8)).save(folder / "labels" / f"{name}.png")
    return folder


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(make_tiled_bundle(tmp_path / "toy_tiles"))


def test_cells_and_thresholds_are_scored_and_the_worst_is_shown_by_its_errors(bundle: Bundle, tmp_path: Path) -> None:
    data = write_sections(tmp_path / "data", "abc", merged="b")
    content = evaluate(bundle, data, tmp_path / "out", [], {}, "cpu", False, QUIET)
    assert next(iter(content["summary"])) == "rand_error" and "v_rand" in content["summary"]
    rows = {row["case"]: row for row in csv.DictReader((tmp_path / "out" / "per_case.csv").open())}
    assert 2 * float(rows["a"]["rand_error"]) < float(rows["b"]["rand_error"])
    membranes = content["membranes"]
    for name in ("rand_error", "v_rand", "warping_error"):
        mean = np.mean([float(row[name]) for row in rows.values()])
        assert membranes["cells"][name] == pytest.approx(mean, abs=1e-5) == content["summary"][name]["mean"]
    assert membranes["fixed_threshold"] == 0.4
    best = membranes["best_over_thresholds"]
    assert set(best) == set(membranes["at_fixed_threshold"]) == set(membrane_scores.SCORES)
    # The means are rounded.
    assert best["v_rand"]["value"] >= membranes["at_fixed_threshold"]["v_rand"] - 1e-6
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.index("b: rand_error") < report.index("a: rand_error")
    assert "orange where a cell is split" in report and "rand_error at its best threshold" in report


def test_an_evaluation_that_leaves_no_cells_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    data = write_sections(tmp_path / "data", "a")
    config = bundle.root / "configs" / "evaluate.yaml"
    config.write_text(config.read_text().replace("names: cells", "names: other").replace("keys: cells", "keys: other"))
    with pytest.raises(DataFolderError, match="leaves no 'cells'"):
        evaluate(bundle, data, tmp_path / "out", [], {}, "cpu", False, QUIET)


def test_a_bundle_may_name_the_scores_that_there_are_and_their_directions_are_known() -> None:
    assert set(MEMBRANE_METRICS) <= set(membrane_scores.SCORES)
    assert {name for name in MEMBRANE_METRICS if LOWER_IS_BETTER[name]} == set(MEMBRANE_METRICS) & set(
        membrane_scores.LOWER_IS_BETTER
    )
