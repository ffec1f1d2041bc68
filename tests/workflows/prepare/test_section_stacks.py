import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from clinibundle.console import Talk
from clinibundle.errors import DataFolderError, UnsuitableInput
from clinibundle.workflows.check import check_data_folder
from clinibundle.workflows.prepare import prepare

PAGES, SHAPE = 8, (40, 56)


def stack(dtype=np.uint8, pages=PAGES, seed=0):
    return np.random.default_rng(seed).integers(1, 250, (pages, *SHAPE)).astype(dtype)


def truth(pages=PAGES):
    return np.where(np.random.default_rng(1).random((pages, *SHAPE)) < 0.2, 0, 255).astype(np.uint8)


def run(source, destination):
    return prepare(["image_label_pairs", "section_stacks"], source, destination, False, Talk(quiet=True))


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source" / "isbi"
    folder.mkdir(parents=True)
    tifffile.imwrite(folder / "train-volume.tif", stack(), imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "train-labels.tif", truth(), imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "test-volume.tif", stack(seed=3))
    return tmp_path / "source"


def rows_of(folder):
    return json.loads((folder / "datalist.json").read_text())["training"]


def test_each_page_becomes_a_section_in_blocks_of_neighbours(source, tmp_path):
    result = run(source, tmp_path / "dest")
    assert (result.layout, result.cases) == ("section_stacks", PAGES)
    assert [file for file, _ in result.left_out] == ["isbi/test-volume.tif"]
    rows = rows_of(tmp_path / "dest")
    assert [row["section"] for row in rows] == list(range(PAGES))
    assert [row["fold"] for row in rows] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len({row["group"] for row in rows}) == 4
    for page, row in enumerate(rows):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "dest" / row["image"])), stack()[page])
        assert np.array_equal(np.asarray(Image.open(tmp_path / "dest" / row["label"])), truth()[page])
    assert [
        p for p in check_data_folder(tmp_path / "dest", [{0, 255}], Talk(quiet=True)) if p.severity == "error"
    ] == []


def test_sixteen_bits_instances_and_pixel_size_are_kept(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    resolution = {"resolution": (0.25, 0.25), "metadata": {"unit": "nm", "axes": "ZYX"}}
    tifffile.imwrite(folder / "train-volume.tif", stack(np.uint16) * 200, imagej=True, **resolution)
    tifffile.imwrite(folder / "train-labels.tif", stack(np.uint16, seed=4) * 30)
    run(folder, tmp_path / "dest")
    row = rows_of(tmp_path / "dest")[3]
    assert row["spacing_mm"] == pytest.approx([4e-6, 4e-6])
    for key, expected in (("image", stack(np.uint16)[3] * 200), ("label", stack(np.uint16, seed=4)[3] * 30)):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "dest" / row[key])), expected)


def test_labels_of_any_value_become_black_and_white(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    tifffile.imwrite(folder / "train-volume.tif", stack())
    tifffile.imwrite(folder / "train-labels.tif", truth() // 255)
    run(folder, tmp_path / "dest")
    label = np.asarray(Image.open(tmp_path / "dest" / rows_of(tmp_path / "dest")[0]["label"]))
    assert np.array_equal(label, truth()[0])


def test_stacks_of_different_length_are_refused(source, tmp_path):
    tifffile.imwrite(source / "isbi" / "train-labels.tif", truth(pages=5))
    with pytest.raises(UnsuitableInput, match=r"has 8 pages of 40 × 56, 'train-labels\.tif' 5 pages of 40 × 56"):
        run(source, tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


def test_real_numbers_are_refused(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    tifffile.imwrite(folder / "train-volume.tif", stack(np.float32))
    tifffile.imwrite(folder / "train-labels.tif", truth())
    with pytest.raises(DataFolderError, match="no case of the source can be used"):
        run(folder, tmp_path / "dest")


def test_two_stacks_give_sections_with_names_of_their_own(source, tmp_path):
    for kind, pages in (("volume", stack(seed=9)), ("labels", truth())):
        tifffile.imwrite(source / "isbi" / f"second-{kind}.tif", pages)
    run(source, tmp_path / "dest")
    names = {row["image"] for row in rows_of(tmp_path / "dest")}
    assert len(names) == 2 * PAGES and "images/second-03.png" in names
