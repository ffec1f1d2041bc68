from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clinibundle.errors import UnreadableInput, UnsuitableInput
from clinibundle.pictures.sections import open_sections

SHAPE = (100, 133)
WAYS: dict[str, dict[str, Any]] = {
    "in one piece": {},
    "tiles": {"tile": (64, 32)},
    "compressed tiles": {"tile": (64, 32), "compression": "zlib"},
    "compressed strips": {"rowsperstrip": 7, "compression": "zlib"},
    "strips": {"rowsperstrip": 7},
    "big endian": {"byteorder": ">"},
    "BigTIFF": {"bigtiff": True, "tile": (16, 16)},
    "LZMA": {"tile": (32, 32), "compression": "lzma"},
    "ImageJ": {"imagej": True},
}


def values(dtype: str, pages: int = 2, colours: int = 0) -> np.ndarray:
    shape = (pages, *SHAPE, *([colours] if colours else []))
    return (np.random.default_rng(0).random(shape) * 200).astype(dtype)


def window(rows: tuple[int, int], columns: tuple[int, int]) -> tuple[slice, slice]:
    return slice(min(rows), max(rows)), slice(min(columns), max(columns))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("tiff")
    paths = {}
    for way, how in WAYS.items():
        for dtype in ("uint8", "uint16", "float32"):
            paths[way, dtype] = folder / f"{way}-{dtype}.tif"
            tifffile.imwrite(paths[way, dtype], values(dtype), photometric="minisblack", **how)
    return paths


@settings(max_examples=60, deadline=None)
@given(
    way=st.sampled_from(sorted(WAYS)),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    page=st.integers(0, 1),
    rows=st.tuples(st.integers(0, SHAPE[0]), st.integers(0, SHAPE[0])),
    columns=st.tuples(st.integers(0, SHAPE[1]), st.integers(0, SHAPE[1])),
)
def test_any_window_of_any_tiff_is_what_tifffile_reads_as_a_whole(written, way, dtype, page, rows, columns) -> None:
    place = window(rows, columns)
    with open_sections(written[way, dtype]) as stack:
        found = stack.sections[page].read(*place)
        assert (stack.is_stack, len(stack.sections), stack.sections[page].shape) == (True, 2, SHAPE)
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, tifffile.imread(written[way, dtype])[page][place])


def test_colour_becomes_brightness_and_is_told(tmp_path: Path) -> None:
    rgb = values("uint8", 1, 3)
    tifffile.imwrite(tmp_path / "rgb.tif", rgb, photometric="rgb", tile=(32, 32))
    with open_sections(tmp_path / "rgb.tif") as stack:
        grey = stack.sections[0].read(slice(0, 50), slice(20, 60))
        assert any(check.name == "colour" and check.status == "warning" for check in stack.checks)
    weights = np.array([0.299, 0.587, 0.114])
    assert np.allclose(grey, rgb[0, :50, 20:60] @ weights, atol=1e-3)


def test_white_is_zero_is_turned_once(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "white.tif", values("uint8", 1)[0], photometric="miniswhite")
    with open_sections(tmp_path / "white.tif") as stack:
        found = stack.sections[0].read(slice(0, 100), slice(0, 133))
        assert [check.name for check in stack.checks if check.status == "fixed"] == ["photometric_interpretation"]
    assert np.array_equal(found, 255 - values("uint8", 1)[0])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"imagej": True, "resolution": (250000, 125000), "metadata": {"unit": "mm"}}, (4e-6, 8e-6)),
        ({"imagej": True, "resolution": (0.25, 0.25), "metadata": {"unit": "nm"}}, (4e-6, 4e-6)),
        ({"imagej": True, "resolution": (250, 250), "metadata": {"unit": "um"}}, (4e-6, 4e-6)),
        ({"resolution": (2500000, 2500000), "resolutionunit": "CENTIMETER"}, (4e-6, 4e-6)),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.008}},
         (4e-6, 8e-6)),
    ],
)  # fmt: skip
def test_pixel_size_is_read_where_it_is_stated(tmp_path: Path, how: dict[str, Any], expected: Any) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values("uint8"), photometric="minisblack", **how)
    with open_sections(tmp_path / "a.tif") as stack:
        assert stack.spacing_mm == (None if expected is None else pytest.approx(expected))
        told = next(check for check in stack.checks if check.name == "pixel_spacing")
    assert told.status == ("warning" if expected is None else "passed")


def test_one_page_is_a_picture_and_a_stack_of_one_is_a_stack(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "one.tif", values("uint8", 1)[0])
    with open_sections(tmp_path / "one.tif") as stack:
        assert not stack.is_stack


def test_a_small_picture_of_another_kind_is_a_section_too(tmp_path: Path) -> None:
    Image.fromarray(values("uint8", 1)[0]).save(tmp_path / "a.png")
    with open_sections(tmp_path / "a.png") as stack:
        assert np.array_equal(stack.sections[0].read(slice(3, 9), slice(2, 100)), values("uint8", 1)[0, 3:9, 2:100])
        assert stack.family == "png"


def test_a_truncated_tiff_is_refused_in_one_sentence(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values("uint8", 1)[0])
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: len(whole) // 2])
    with (
        pytest.raises(UnreadableInput, match=r"'a\.tif' is damaged or truncated"),
        open_sections(tmp_path / "a.tif") as stack,
    ):
        stack.sections[0].read(slice(0, 100), slice(0, 133))


@pytest.mark.parametrize("content", [b"", b"II*\0", b"no TIFF at all"])
def test_what_is_no_tiff_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UnreadableInput, match=r"'a\.tif' cannot be read as a TIFF"), open_sections(tmp_path / "a.tif"):
        pass


def test_what_would_have_to_be_decoded_as_a_whole_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clinibundle.pictures.tiff_pages._LARGEST_PIECE_BYTES", 1000)
    tifffile.imwrite(tmp_path / "a.tif", values("uint8", 1)[0], compression="zlib", rowsperstrip=100)
    with pytest.raises(UnsuitableInput, match="save it in tiles"), open_sections(tmp_path / "a.tif"):
        pass


class TestOmeZarr:
    zarr = pytest.importorskip("zarr")

    def write(self, path: Path, array: np.ndarray, names: str, version: int = 3, **multiscale: Any) -> Path:
        group = self.zarr.open_group(str(path), mode="w", zarr_format=version)
        group.create_array("0", data=array, chunks=tuple(min(size, 32) for size in array.shape))
        described = {"axes": [{"name": axis} for axis in names], "datasets": [{"path": "0"}], **multiscale}
        if version == 3:
            group.attrs["ome"] = {"version": "0.5", "multiscales": [described]}
        else:
            group.attrs["multiscales"] = [{**described, "version": "0.4"}]
        return path

    @pytest.mark.parametrize("version", [2, 3])
    @pytest.mark.parametrize(("shape", "axes"), [(SHAPE, "yx"), ((3, *SHAPE), "zyx"), ((1, 1, 3, *SHAPE), "tczyx")])
    def test_windows_are_those_of_the_array(self, tmp_path: Path, version: int, shape: Any, axes: str) -> None:
        array = (np.random.default_rng(1).random(shape) * 255).astype(np.uint8)
        with open_sections(self.write(tmp_path / "a.ome.zarr", array, axes, version)) as stack:
            last = stack.sections[-1].read(slice(5, 70), slice(11, 131))
            assert (stack.case, stack.is_stack, stack.family) == ("a", len(axes) > 2, "ome.zarr")
        assert np.array_equal(last, array.reshape(-1, *SHAPE)[-1, 5:70, 11:131])

    def test_pixel_size_comes_from_the_scale_and_the_axes_units(self, tmp_path: Path) -> None:
        path = tmp_path / "a.zarr"
        described = {
            "axes": [{"name": "y", "unit": "nanometer"}, {"name": "x", "unit": "micrometer"}],
            "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [4.0, 0.008]}]}],
        }
        self.write(path, np.zeros(SHAPE, np.uint8), "yx", **described)
        with open_sections(path) as stack:
            assert stack.spacing_mm == pytest.approx((8e-6, 4e-6))

    def test_several_channels_are_refused(self, tmp_path: Path) -> None:
        path = self.write(tmp_path / "a.zarr", np.zeros((2, *SHAPE), np.uint8), "cyx")
        with pytest.raises(UnsuitableInput, match="one channel"), open_sections(path):
            pass

    def test_a_folder_that_is_no_ome_zarr_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "a.zarr").mkdir()
        with pytest.raises(UnreadableInput, match="no OME-Zarr picture"), open_sections(tmp_path / "a.zarr"):
            pass
