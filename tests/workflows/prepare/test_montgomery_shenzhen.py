"""Made-up copies of the releases: a few pictures of 32 × 24 pixels under the releases' own names."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from clinibundle.console import Talk
from clinibundle.errors import DataFolderError, OutputError, UnsuitableInput, UsageError
from clinibundle.workflows.check import TWO_CLASSES, check_data_folder
from clinibundle.workflows.prepare import prepare

SHAPE = (24, 32)
SHENZHEN = ["CHNCXR_0001_0", "CHNCXR_0002_1"]
MONTGOMERY = ["MCUCXR_0003_0", "MCUCXR_0004_1"]


def picture(name, shape=SHAPE):
    return np.random.default_rng(list(name.encode())).integers(0, 256, shape, dtype=np.uint8)


def mask(shape=SHAPE, columns=slice(4, 12), value=255):
    label = np.zeros(shape, np.uint8)
    label[4:20, columns] = value
    return label


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def mask_name(name):
    return f"{name}_mask.png" if name.startswith("CHN") else f"{name}.png"


def kaggle(root, pictures="CXR_png", names=(*SHENZHEN, *MONTGOMERY)):
    for name in names:
        save(root / pictures / f"{name}.png", picture(name))
        save(root / "masks" / mask_name(name), mask())
    return root


def montgomery(root, names=MONTGOMERY):
    for name in names:
        save(root / "CXR_png" / f"{name}.png", picture(name))
        save(root / "ManualMask/leftMask" / f"{name}.png", mask(columns=slice(4, 12)))
        save(root / "ManualMask/rightMask" / f"{name}.png", mask(columns=slice(18, 26)))
    (root / "ManualMask/leftMask/Thumbs.db").write_bytes(b"x")
    readings = root / "ClinicalReadings" / f"{names[0]}.txt"
    readings.parent.mkdir()
    readings.write_text("Patient's Sex: F\nPatient's Age: 027Y\nnormal")
    return root


def run(source, destination, overwrite=False):
    return prepare(["montgomery_shenzhen"], source, destination, overwrite, Talk(quiet=True))


def content(path):
    with Image.open(path) as stored:
        return np.asarray(stored)


def rows_of(destination):
    return {row["group"]: row for row in json.loads((destination / "datalist.json").read_text())["training"]}


@pytest.fixture
def source(tmp_path):
    return tmp_path / "source"


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "dest"


@pytest.mark.parametrize("prefix", ["", "data/Lung Segmentation", "archive/data/Lung Segmentation"])
@pytest.mark.parametrize("pictures", ["CXR_png", "images"])
def test_the_kaggle_set_becomes_a_data_folder(source, dest, prefix, pictures):
    kaggle(source / prefix, pictures)
    result = run(source, dest)
    assert (result.layout, result.cases, result.left_out, result.notes) == ("montgomery_shenzhen", 4, [], [])
    rows = rows_of(dest)
    assert sorted(rows) == [*SHENZHEN, *MONTGOMERY]
    for name, row in rows.items():
        assert row == {
            "image": f"images/{name}.png",
            "label": f"labels/{name}.png",
            "fold": row["fold"],
            "group": name,
            "source_hospital": "shenzhen" if name in SHENZHEN else "montgomery",
            "tuberculosis": name in ("CHNCXR_0002_1", "MCUCXR_0004_1"),
            "convention": "heart_excluded",
        }
        np.testing.assert_array_equal(content(dest / row["image"]), picture(name))
        np.testing.assert_array_equal(content(dest / row["label"]), mask())
    assert check_data_folder(dest, TWO_CLASSES) == []


def test_of_two_copies_in_one_archive_the_upper_is_taken(source, dest):
    kaggle(source / "Lung Segmentation")
    kaggle(source / "data/Lung Segmentation", names=SHENZHEN)
    assert run(source, dest).cases == 4


def test_two_sets_side_by_side_are_refused(source, dest):
    kaggle(source / "a")
    kaggle(source / "b")
    with pytest.raises(UnsuitableInput, match="2 sets \\('a', 'b'\\)"):
        run(source, dest)
    assert not dest.exists()


@pytest.mark.parametrize("prefix", ["", "MontgomerySet", "NLM/MontgomerySet"])
def test_the_original_montgomery_masks_are_joined(source, dest, prefix):
    montgomery(source / prefix)
    result = run(source, dest)
    assert (result.cases, result.left_out, result.notes) == (2, [], [])
    for row in rows_of(dest).values():
        np.testing.assert_array_equal(content(dest / row["label"]), mask() | mask(columns=slice(18, 26)))
        assert row["source_hospital"] == "montgomery"


def test_no_patient_data_is_taken_over(source, dest):
    montgomery(source)
    run(source, dest)
    assert sorted(path.name for path in dest.iterdir()) == ["datalist.json", "images", "labels"]
    assert "027" not in (dest / "datalist.json").read_text()


def test_pictures_and_masks_without_counterpart_are_listed(source, dest):
    kaggle(source)
    save(source / "CXR_png/CHNCXR_0009_0.png", picture("9"))
    save(source / "CXR_png/readme.png", picture("r"))
    save(source / "masks/MCUCXR_0008_1.png", mask())
    result = run(source, dest)
    assert result.cases == 4
    assert {one.file: one.reason for one in result.left_out} == {
        "CXR_png/CHNCXR_0009_0.png": "the set has no mask for this picture",
        "CXR_png/readme.png": "its name is not of the form CHNCXR_0001_0.png or MCUCXR_0001_0.png",
        "masks/MCUCXR_0008_1.png": "the set has no picture for this mask",
    }


def test_a_lung_without_its_other_is_left_out(source, dest):
    montgomery(source)
    (source / "ManualMask/rightMask" / f"{MONTGOMERY[0]}.png").unlink()
    (left_out,) = run(source, dest).left_out
    assert (left_out.file, left_out.reason) == (
        f"CXR_png/{MONTGOMERY[0]}.png",
        "the set has the mask of one lung only for this picture",
    )


def test_equal_colours_become_grey_without_a_word(source, dest):
    kaggle(source)
    name = SHENZHEN[0]
    save(source / f"CXR_png/{name}.png", np.stack([picture(name)] * 3, axis=-1))
    assert run(source, dest).notes == []
    np.testing.assert_array_equal(content(dest / f"images/{name}.png"), picture(name))


def test_real_colours_become_luminance_with_a_note(source, dest):
    kaggle(source)
    name = SHENZHEN[0]
    save(source / f"CXR_png/{name}.png", np.full((*SHAPE, 3), (255, 0, 0), np.uint8) + picture("x", (*SHAPE, 1)) // 8)
    (note,) = run(source, dest).notes
    assert (note.file, note.reason) == (f"CXR_png/{name}.png", "colour picture, turned to grey by its luminance")
    assert rows_of(dest)[name]["notes"] == [note.reason]
    assert content(dest / f"images/{name}.png").ndim == 2


def test_a_palette_is_resolved(source, dest):
    kaggle(source)
    name = SHENZHEN[0]
    inverted = Image.fromarray(picture(name))
    inverted = inverted.convert("P")
    inverted.putpalette([255 - level for level in range(256) for _ in range(3)])
    inverted.save(source / f"CXR_png/{name}.png")
    run(source, dest)
    np.testing.assert_array_equal(content(dest / f"images/{name}.png"), 255 - picture(name))


def test_sixteen_bits_are_stretched_with_a_note(source, dest):
    kaggle(source)
    name = SHENZHEN[0]
    deep = np.linspace(100, 4095, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.uint16)
    save(source / f"CXR_png/{name}.png", deep)
    (note,) = run(source, dest).notes
    assert note.reason == "uint16 values from 100 to 4095, stretched to 8 bit"
    grey = content(dest / f"images/{name}.png")
    assert (grey.dtype, grey.min(), grey.max()) == (np.uint8, 0, 255)
    np.testing.assert_allclose(grey, (deep.astype(float) - 100) / 3995 * 255, atol=0.51)


@pytest.mark.parametrize("value", [1, 255])
def test_masks_become_0_and_255(source, dest, value):
    kaggle(source)
    save(source / f"masks/{SHENZHEN[0]}_mask.png", mask(value=value))
    assert run(source, dest).notes == []
    np.testing.assert_array_equal(content(dest / f"labels/{SHENZHEN[0]}.png"), mask())


def test_soft_and_colour_masks_are_cut_at_half_with_a_note(source, dest):
    kaggle(source)
    soft = mask()
    soft[0, :4] = (100, 127, 128, 200)
    red = np.stack([soft, soft * 0, soft * 0], axis=-1)
    for name, array in zip(SHENZHEN, (soft, red), strict=True):
        save(source / f"masks/{name}_mask.png", array)
    result = run(source, dest)
    assert [note.reason for note in result.notes] == ["mask had values between 0 and 255, cut at half"] * 2
    for name in SHENZHEN:
        label = content(dest / f"labels/{name}.png")
        assert label[0, :4].tolist() == [0, 0, 255, 255]
        np.testing.assert_array_equal(label[1:], mask()[1:])


def test_an_empty_mask_stays_empty(source, dest):
    kaggle(source)
    save(source / f"masks/{SHENZHEN[0]}_mask.png", np.zeros(SHAPE, np.uint8))
    run(source, dest)
    assert not content(dest / f"labels/{SHENZHEN[0]}.png").any()


def test_a_smaller_mask_of_the_same_shape_is_resized_with_a_note(source, dest):
    kaggle(source)
    save(source / f"masks/{SHENZHEN[0]}_mask.png", mask()[::2, ::2])
    (note,) = run(source, dest).notes
    assert note.reason == "mask of 12 × 16 pixels, picture of 24 × 32; the mask was resized by nearest neighbour"
    np.testing.assert_array_equal(content(dest / f"labels/{SHENZHEN[0]}.png"), mask())


@pytest.mark.parametrize(
    ("picture_shape", "mask_shape", "kept"),
    [
        ((291, 300), (50, 52), True),
        ((291, 300), (49, 51), True),
        ((291, 300), (51, 51), False),
        (SHAPE, (32, 24), False),
    ],
)
def test_only_a_mask_of_another_aspect_ratio_is_left_out(source, dest, picture_shape, mask_shape, kept):
    kaggle(source)
    name = SHENZHEN[0]
    save(source / f"CXR_png/{name}.png", picture(name, picture_shape))
    save(source / f"masks/{name}_mask.png", mask(mask_shape))
    result = run(source, dest)
    assert (name in rows_of(dest)) == kept
    assert (dest / f"images/{name}.png").exists() == kept
    if kept:
        assert content(dest / f"labels/{name}.png").shape == picture_shape
    else:
        assert [one.file for one in result.left_out] == [f"CXR_png/{name}.png"]
        assert "aspect ratios differ" in result.left_out[0].reason


@pytest.mark.parametrize("damaged", [f"CXR_png/{SHENZHEN[0]}.png", f"masks/{SHENZHEN[0]}_mask.png"])
def test_a_damaged_file_leaves_its_case_out(source, dest, damaged):
    kaggle(source)
    (source / damaged).write_bytes((source / damaged).read_bytes()[:60])
    (left_out,) = run(source, dest).left_out
    assert left_out.file == f"CXR_png/{SHENZHEN[0]}.png"
    assert "cannot be read" in left_out.reason
    assert len(rows_of(dest)) == 3


def test_nothing_is_written_when_no_case_is_left(source, dest):
    kaggle(source, names=SHENZHEN[:1])
    (source / f"masks/{SHENZHEN[0]}_mask.png").write_bytes(b"")
    with pytest.raises(DataFolderError, match=r"no case of .* 'CXR_png/CHNCXR_0001_0.png'"):
        run(source, dest)
    assert [path.name for path in dest.parent.iterdir()] == ["source"]


def test_an_older_data_folder_is_only_replaced_when_told(source, dest):
    kaggle(source)
    dest.mkdir()
    (dest / "old.txt").write_text("old")
    with pytest.raises(OutputError, match="not empty"):
        run(source, dest)
    assert (dest / "old.txt").exists()
    run(source, dest, overwrite=True)
    assert not (dest / "old.txt").exists()
    assert len(rows_of(dest)) == 4


@pytest.mark.parametrize("place", [".", "masks/out"])
def test_the_source_is_never_written_to(source, place):
    kaggle(source)
    before = sorted(source.rglob("*"))
    with pytest.raises(UsageError, match="never written to"):
        run(source, source / place, overwrite=True)
    assert sorted(source.rglob("*")) == before


def test_folds_are_balanced_and_the_same_in_a_second_run(source, dest, tmp_path):
    names = [
        f"{hospital}CXR_{n:04d}_{tb}"
        for hospital, n_max in (("CHN", 8), ("MCU", 5))
        for n in range(n_max)
        for tb in (0, 1)
    ]
    kaggle(source, names=names)
    run(source, dest)
    run(source, tmp_path / "again")
    assert (dest / "datalist.json").read_text().replace('"dest"', '"again"') == (
        tmp_path / "again/datalist.json"
    ).read_text()
    rows = rows_of(dest).values()
    for stratum in {(row["source_hospital"], row["tuberculosis"]) for row in rows}:
        sizes = Counter(row["fold"] for row in rows if (row["source_hospital"], row["tuberculosis"]) == stratum)
        assert max(sizes.values()) - min(sizes[fold] for fold in range(5)) <= 1
    assert sorted(Counter(row["fold"] for row in rows).values()) == [5, 5, 5, 5, 6]
