from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy import ndimage

from clinibundle.bundle.configs import read_config
from clinibundle.bundle.description import Bundle
from clinibundle.bundle.tiles import TilePredictor
from clinibundle.console import Talk
from clinibundle.errors import BundleError, UnreadableInput, UnsuitableInput
from clinibundle.pictures.sections import open_sections
from clinibundle.workflows.sections import probability as probability_module
from clinibundle.workflows.sections import segment as segment_module
from clinibundle.workflows.segment import SegmentOptions, segment
from toy_tiles import make_tiled_bundle

QUIET = Talk(quiet=True)
SHAPE = (75, 101)


def section(seed: int = 0, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Dark lines on a bright ground, roughly as membranes lie."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 5)
    return np.where(np.abs(smooth) < 0.25 * smooth.std(), 60, 190).astype(np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(make_tiled_bundle(tmp_path / "toy_tiles"))


def run(bundle: Bundle, path: Path, out: Path, **options: Any) -> Path:
    segment(bundle, path, out, SegmentOptions(device="cpu", **options), QUIET)
    return out


def monai_answer(bundle: Bundle, picture: Path) -> dict[str, np.ndarray]:
    """Of the bundle's own inference config, without clinibundle's tiles: (rows, columns)."""
    parser = read_config(bundle.root, "inference")
    data = parser.get_parsed_content("preprocessing")({"image": str(picture)})
    network = parser.get_parsed_content("network_def").eval()
    network.load_state_dict(torch.load(bundle.weights))
    with torch.inference_mode():
        pred = parser.get_parsed_content("inferer")(data["image"][None], network)[0]
    left = parser.get_parsed_content("postprocessing")({**data, "pred": pred})
    return {key: np.asarray(left[key])[0].T for key in ("pred", "probability")}


def test_a_stack_gives_labels_and_probability_page_by_page(bundle: Bundle, tmp_path: Path) -> None:
    pages = np.stack([section(seed) for seed in range(3)])
    tifffile.imwrite(
        tmp_path / "stack.tif", pages, imagej=True, resolution=(0.25, 0.25), metadata={"unit": "nm", "axes": "ZYX"}
    )
    out = run(bundle, tmp_path / "stack.tif", tmp_path / "out")
    assert {path.name for path in out.iterdir()} == {
        "mask.tif", "prediction.tif", "measurements.json", "cells.csv", "report.html",
    }  # fmt: skip
    cells, certainty = tifffile.imread(out / "mask.tif"), tifffile.imread(out / "prediction.tif")
    assert cells.shape == certainty.shape == pages.shape
    assert (cells.dtype, certainty.dtype) == (np.uint16, np.uint16)
    for page, own in enumerate(cells):
        Image.fromarray(pages[page]).save(tmp_path / "page.png")
        expected = monai_answer(bundle, tmp_path / "page.png")
        assert np.array_equal(own, expected["pred"]) and own.max() > 5
        assert np.abs(certainty[page] / 65535 - expected["probability"]).max() < 1e-4
    # ImageJ reads how large a pixel is.
    with tifffile.TiffFile(out / "prediction.tif") as written:
        assert written.is_imagej and written.imagej_metadata["unit"] == "nm" and written.imagej_metadata["slices"] == 3
    with open_sections(out / "mask.tif") as read_back:
        assert read_back.spacing_mm == pytest.approx((4e-6, 4e-6))
    facts = json.loads((out / "measurements.json").read_text())
    assert facts["source"]["shape"] == [3, *SHAPE]
    assert [finding["cells"] for finding in facts["findings"]] == [int(page.max()) for page in cells]
    table = list(csv.DictReader((out / "cells.csv").open()))
    areas = [int(row["area_px"]) for row in table if row["section"] == "2"]
    assert areas == np.bincount(cells[1].ravel())[1:].tolist()
    assert float(table[0]["area_um2"]) == pytest.approx(int(table[0]["area_px"]) * 16e-6)


@pytest.mark.parametrize("suffix", ["png", "tif", "zarr"])
def test_a_single_section_comes_back_in_its_own_family(bundle: Bundle, tmp_path: Path, suffix: str) -> None:
    Image.fromarray(section()).save(tmp_path / "a.png")
    expected = monai_answer(bundle, tmp_path / "a.png")["pred"]
    source, family = tmp_path / f"b.{suffix}", {"zarr": "ome.zarr"}.get(suffix, suffix)
    if suffix == "zarr":
        zarr = pytest.importorskip("zarr")
        group = zarr.open_group(str(source), mode="w", zarr_format=2)
        group.create_array("0", data=section(), chunks=(32, 32))
        axes = [{"name": "y"}, {"name": "x"}]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    else:
        Image.fromarray(section()).save(source)
    out = run(bundle, source, tmp_path / "out")
    with open_sections(out / f"mask.{family}") as mask:
        assert np.array_equal(mask.sections[0].read(slice(0, SHAPE[0]), slice(0, SHAPE[1])), expected)
    assert (out / f"probability.{family}").exists()


def test_sixteen_bits_and_other_brightness_give_the_same_cells(bundle: Bundle, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", section())
    tifffile.imwrite(tmp_path / "b.tif", section().astype(np.uint16) * 150 + 900)
    masks = [tifffile.imread(run(bundle, tmp_path / f"{name}.tif", tmp_path / name) / "mask.tif") for name in "ab"]
    assert np.array_equal(*masks)


class Killed(BaseException):
    """As a signal that no one catches."""


def kill_after(count: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Lets the network see so many tiles, and counts them."""
    seen = 0
    original = TilePredictor.ready_for

    def ready_for(self: TilePredictor, statistics: Any) -> Any:
        network = original(self, statistics)

        def counted(window: np.ndarray) -> np.ndarray:
            nonlocal seen
            if seen == count:
                raise Killed
            seen += 1
            return network(window)

        return counted

    monkeypatch.setattr(TilePredictor, "ready_for", ready_for)
    return lambda: seen


def test_a_killed_run_goes_on_where_it_was_and_gives_the_same(bundle: Bundle, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(segment_module, "_KEPT_FROM_PIXELS", 1)
    tifffile.imwrite(tmp_path / "a.tif", section())
    whole = run(bundle, tmp_path / "a.tif", tmp_path / "whole")
    assert not (tmp_path / "whole.unfinished").exists()
    with monkeypatch.context() as patched:
        kill_after(5, patched)
        with pytest.raises(Killed):
            run(bundle, tmp_path / "a.tif", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with monkeypatch.context() as patched:
        tiles_seen = kill_after(1000, patched)
        out = run(bundle, tmp_path / "a.tif", tmp_path / "out")
        assert tiles_seen() == 3 * 4 - 5
    assert not (tmp_path / "out.unfinished").exists()
    for name in ("mask.tif", "probability.tif", "cells.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_what_an_unfinished_run_left_of_other_weights_is_not_taken(bundle: Bundle, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(segment_module, "_KEPT_FROM_PIXELS", 1)
    tifffile.imwrite(tmp_path / "a.tif", section())
    with monkeypatch.context() as patched:
        kill_after(5, patched)
        with pytest.raises(Killed):
            run(bundle, tmp_path / "a.tif", tmp_path / "out")
    state = torch.load(bundle.weights)
    torch.save({key: 0.5 * value for key, value in state.items()}, bundle.weights)
    with monkeypatch.context() as patched:
        tiles_seen = kill_after(1000, patched)
        run(bundle, tmp_path / "a.tif", tmp_path / "out")
        assert tiles_seen() == 3 * 4


def test_no_more_of_a_section_is_read_at_once_than_a_tile_and_a_stripe(bundle: Bundle, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(probability_module, "_ROWS_AT_ONCE", 16)
    monkeypatch.setattr("clinibundle.workflows.sections.report._SIDE", 40)
    monkeypatch.setattr("clinibundle.workflows.sections.report._ROWS_AT_ONCE", 16)
    largest = 0

    class Watched:
        def __init__(self, section: Any) -> None:
            self._section, self.shape, self.dtype = section, section.shape, section.dtype

        def read(self, rows: slice, columns: slice) -> np.ndarray:
            nonlocal largest
            values = self._section.read(rows, columns)
            largest = max(largest, values.size)
            return values

    original = segment_module.open_sections

    def watching(path: Path) -> Any:
        manager = original(path)
        stack = manager.__enter__()
        object.__setattr__(stack, "sections", [Watched(each) for each in stack.sections])
        return _Kept(stack, manager)

    class _Kept:
        def __init__(self, stack: Any, manager: Any) -> None:
            self.stack, self.manager = stack, manager

        def __enter__(self) -> Any:
            return self.stack

        def __exit__(self, *error: Any) -> Any:
            return self.manager.__exit__(*error)

    monkeypatch.setattr(segment_module, "open_sections", watching)
    tifffile.imwrite(tmp_path / "a.tif", section(shape=(400, 300)), tile=(16, 16))
    run(bundle, tmp_path / "a.tif", tmp_path / "out")
    assert largest <= max((32 + 8 + 2) ** 2, 16 * 300)


def test_a_folder_of_sections_is_several_cases_and_one_bad_one_stops_none(bundle: Bundle, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b"):
        Image.fromarray(section()).save(source / f"{name}.png")
    (source / "c.tif").write_bytes(b"no picture")
    outcomes = segment(bundle, source, tmp_path / "out", SegmentOptions(device="cpu"), QUIET)
    assert [(o.case, o.refusal is None) for o in outcomes] == [("a", True), ("b", True), ("c", False)]
    assert (tmp_path / "out" / "b" / "mask.png").is_file() and (tmp_path / "out" / "summary.csv").is_file()


def test_an_empty_section_is_refused_and_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full(SHAPE, 7, np.uint8))
    with pytest.raises(UnsuitableInput, match="'a' shows nothing"):
        run(bundle, tmp_path / "a.tif", tmp_path / "out")
    assert not list(tmp_path.glob("*out*"))


def test_dicom_and_other_files_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"x")
    with pytest.raises(UnreadableInput, match="expected TIFF, OME-Zarr or PNG"):
        run(bundle, tmp_path / "a.dcm", tmp_path / "out")


def test_a_limit_of_memory_is_kept_or_refused(bundle: Bundle, tmp_path: Path) -> None:
    Image.fromarray(section()).save(tmp_path / "a.png")
    with pytest.raises(UnsuitableInput, match=r"more than the 0\.1 GiB of --max-memory"):
        run(bundle, tmp_path / "a.png", tmp_path / "out", max_memory_gib=0.1)
    run(bundle, tmp_path / "a.png", tmp_path / "out", max_memory_gib=1.0)


def test_eight_views_are_asked_for_in_tiles_as_well(tmp_path: Path) -> None:
    Image.fromarray(section()).save(tmp_path / "a.png")
    certainties = []
    for views in (1, 8):
        bundle = Bundle(make_tiled_bundle(tmp_path / f"toy_{views}", views=views))
        # Looks to one side, so that the answer depends on how the section is turned.
        state = torch.load(bundle.weights, weights_only=True)
        state["conv.weight"][1, :, :, :2] = 0
        torch.save(state, bundle.weights)
        out, expected = run(bundle, tmp_path / "a.png", tmp_path / str(views)), monai_answer(bundle, tmp_path / "a.png")
        certainties.append(np.asarray(Image.open(out / "probability.png")) / 65535)
        assert np.abs(certainties[-1] - expected["probability"]).max() < 1e-4
    assert np.abs(np.subtract(*certainties)).max() > 0.05


def test_missing_weights_are_refused_by_their_place(bundle: Bundle, tmp_path: Path) -> None:
    bundle.weights.unlink()
    Image.fromarray(section()).save(tmp_path / "a.png")
    with pytest.raises(BundleError, match=r"'toy_tiles' has no weights at '.*models/model\.pt'"):
        run(bundle, tmp_path / "a.png", tmp_path / "out")


def test_what_looks_at_more_than_pixels_cannot_be_tiled(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "blur.yaml").write_text("preprocessing::transforms::2:\n  _target_: GaussianSmoothd\n  keys: image\n")
    Image.fromarray(section()).save(tmp_path / "a.png")
    with pytest.raises(BundleError, match="cannot be run in tiles: GaussianSmoothd"):
        run(bundle, tmp_path / "a.png", tmp_path / "out", overlays=[tmp_path / "blur.yaml"])
