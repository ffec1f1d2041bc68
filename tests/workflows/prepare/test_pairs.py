import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from clinibundle.console import Talk
from clinibundle.errors import DataFolderError, UnsuitableInput
from clinibundle.workflows.check import check_data_folder
from clinibundle.workflows.folds import fold_by_hash
from clinibundle.workflows.prepare import prepare

SHAPE = (24, 32)


def picture(seed, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def label(values=(0, 3), shape=SHAPE):
    return np.random.default_rng(5).choice(np.array(values, np.uint8), shape)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def run(source, destination):
    return prepare(["image_label_pairs"], source, destination, False, Talk(quiet=True))


def rows_of(destination):
    return {row["group"]: row for row in json.loads((destination / "datalist.json").read_text())["training"]}


@pytest.fixture
def source(tmp_path):
    for seed, name in enumerate("abcd"):
        save(tmp_path / f"source/images/{name}.png", picture(seed))
        save(tmp_path / f"source/labels/{name}.png", label())
    return tmp_path / "source"


@pytest.fixture
def dest(tmp_path):
    return tmp_path / "dest"


@pytest.mark.parametrize("folder", ["labels", "masks"])
@pytest.mark.parametrize("suffix", ["", "_mask"])
@pytest.mark.parametrize("top", ["", "set"])
def test_pairs_are_taken_over_byte_by_byte(tmp_path, dest, folder, suffix, top):
    source = tmp_path / "source"
    for seed, name in enumerate("ab"):
        save(source / top / f"images/{name}.JPG", picture(seed, (*SHAPE, 3)))
        save(source / top / f"{folder}/{name}{suffix}.png", label())
    result = run(source, dest)
    assert (result.layout, result.cases, result.left_out, result.notes) == ("image_label_pairs", 2, [], [])
    for name, row in rows_of(dest).items():
        assert row == {
            "image": f"images/{name}.jpg",
            "label": f"labels/{name}.png",
            "fold": fold_by_hash(name),
            "group": name,
        }
        assert (dest / row["image"]).read_bytes() == (source / top / f"images/{name}.JPG").read_bytes()
        assert (dest / row["label"]).read_bytes() == (source / top / f"{folder}/{name}{suffix}.png").read_bytes()


def test_what_was_prepared_passes_the_check(source, dest):
    run(source, dest)
    assert [one for one in check_data_folder(dest) if one.severity == "error"] == []


def test_volumes_keep_their_double_ending(tmp_path, dest):
    for kind in ("images", "labels"):
        (tmp_path / "source" / kind).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6), np.int16), np.eye(4)), tmp_path / f"source/{kind}/v.nii.gz")
    run(tmp_path / "source", dest)
    assert rows_of(dest)["v"]["image"] == "images/v.nii.gz"


def test_files_without_counterpart_are_listed(source, dest):
    save(source / "images/only.png", picture(9))
    save(source / "labels/lonely.png", label())
    save(source / "images/a.bmp", picture(10))
    (source / "images/notes.txt").write_text("x")
    result = run(source, dest)
    assert result.cases == 3
    assert [(one.file, one.reason) for one in result.left_out] == [
        ("images/a.bmp", "several files share its name"),
        ("images/a.png", "several files share its name"),
        ("images/notes.txt", "its ending is not that of a picture"),
        ("images/only.png", "no label has its name"),
        ("labels/a.png", "several files share its name"),
        ("labels/lonely.png", "no picture has its name"),
    ]


def test_sizes_that_differ_and_damaged_files_are_left_out(source, dest):
    save(source / "labels/b.png", label(shape=(24, 31)))
    (source / "images/c.png").write_bytes(b"no picture")
    result = run(source, dest)
    assert [(one.file, one.reason.split(";")[0]) for one in result.left_out] == [
        ("images/b.png", "the picture has 24 × 32 pixels, its label 24 × 31"),
        ("images/c.png", "'c.png' cannot be read to its end: it is damaged, cut short, too large or no picture"),
    ]
    assert sorted(rows_of(dest)) == ["a", "d"]
    assert sorted(path.name for path in (dest / "images").iterdir()) == ["a.png", "d.png"]


def test_a_colour_label_without_colours_is_saved_as_grey(source, dest):
    save(source / "labels/b.png", np.stack([label()] * 3, axis=-1))
    (note,) = run(source, dest).notes
    assert (note.file, note.reason) == (
        "images/b.png",
        "label was a colour picture without colours, saved as a grey one",
    )
    with Image.open(dest / "labels/b.png") as stored:
        np.testing.assert_array_equal(np.asarray(stored), label())


def test_a_label_with_colours_is_left_out(source, dest):
    save(source / "labels/b.png", picture(3, (*SHAPE, 3)))
    (left_out,) = run(source, dest).left_out
    assert left_out.reason == "its label is a colour picture; expected one number per pixel"


def test_a_data_folder_with_a_list_is_refused(source, dest):
    (source / "datalist.json").write_text("{}")
    with pytest.raises(UnsuitableInput, match="use it as --dataset-dir"):
        run(source, dest)


# -- volumes, and labels beside their pictures


def volume(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([0.8, 0.9, 2.5, 1]) if affine is None else affine), path)


def scan(seed):
    return np.random.default_rng(seed).integers(-1000, 500, (4, 5, 6)).astype(np.int16)


def outline(value=1, shape=(4, 5, 6)):
    made = np.zeros(shape, np.uint8)
    made[1:3, 1:3, 1:3] = value
    return made


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".NII.GZ"])
@pytest.mark.parametrize("top", ["", "set"])
@pytest.mark.parametrize(
    "names", ["images/{}|labels/{}", "{}|{}_seg", "{}|{}_label", "{}|{}_mask", "images/{}|masks/{}_seg"]
)
def test_volumes_are_paired_with_their_voxel_size(tmp_path, dest, ending, top, names):
    source = tmp_path / "source"
    pairs = {name: [source / top / f"{part.format(name)}{ending}" for part in names.split("|")] for name in "ab"}
    for seed, (image, label) in enumerate(pairs.values()):
        volume(image, scan(seed))
        volume(label, outline())
    result = run(source, dest)
    assert (result.layout, result.cases, result.left_out) == ("image_label_pairs", 2, [])
    for name, row in rows_of(dest).items():
        files = {"image": f"images/{name}{ending.lower()}", "label": f"labels/{name}{ending.lower()}"}
        assert row == {**files, "fold": fold_by_hash(name), "group": name, "spacing_mm": [0.8, 0.9, 2.5]}
        for kind, path in zip(files, pairs[name], strict=True):
            assert (dest / row[kind]).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("ending", ["_seg", "_label", "_mask"])
def test_pictures_may_lie_beside_their_labels_too(tmp_path, dest, ending):
    source = tmp_path / "source"
    save(source / "a.png", picture(1))
    save(source / f"a{ending}.png", label())
    save(source / "b.png", picture(2))
    save(source / f"c{ending}.png", label())
    result = run(source, dest)
    assert list(rows_of(dest)) == ["a"]
    assert [tuple(remark) for remark in result.left_out] == [
        ("b.png", "no label has its name"),
        (f"c{ending}.png", "no picture has its name"),
    ]


def test_a_picture_whose_own_name_ends_like_a_label_keeps_it(tmp_path, dest):
    for name in ("x", "x_seg"):
        save(tmp_path / f"source/images/{name}.png", picture(len(name)))
        save(tmp_path / f"source/labels/{name}.png", label())
    assert run(tmp_path / "source", dest).left_out == []
    assert sorted(rows_of(dest)) == ["x", "x_seg"]


def test_every_problem_of_every_volume_is_told_and_nothing_is_written(tmp_path, dest, capsys):
    source = tmp_path / "source"
    for seed, name in enumerate("abcd"):
        volume(source / f"{name}.nii.gz", scan(seed))
        volume(source / f"{name}_seg.nii.gz", outline())
    volume(source / "a_seg.nii.gz", outline(shape=(4, 5, 7)))
    volume(source / "b_seg.nii.gz", outline(value=4), np.diag([0.8, 0.9, 2.6, 1]))
    (source / "c.nii.gz").write_bytes(b"no volume")
    with pytest.raises(DataFolderError, match="4 errors, listed above"):
        prepare(["image_label_pairs"], source, dest, False, Talk(quiet=True), label_values=[{0, 1}])
    told = sorted(capsys.readouterr().err.splitlines())
    for line, (case, words) in zip(told, [
        ("a", "the image has 4 × 5 × 6 pixels, its label 4 × 5 × 7"),
        ("b", "lie up to 0.5 mm apart"),
        ("b", "{0, 4}, expected {0, 1}"),
        ("c", "cannot be read to its end"),
    ], strict=True):  # fmt: skip
        assert line.startswith(f"error: {case}.nii.gz: ") and words in line
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
