"""Each kind of problem is made, one at a time, in a data folder that is otherwise in order."""

import json
import os
import zlib

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from clinibundle.console import Talk
from clinibundle.errors import DataFolderError
from clinibundle.workflows.check import TWO_CLASSES, Problem, check_data_folder

SIZE = 32
COUNT = 4


def picture(seed, shape=(SIZE, SIZE), dtype=np.uint8):
    return np.random.default_rng(seed).integers(1, 250, shape).astype(dtype)


def mask(shape=(SIZE, SIZE), value=255):
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(8, 20) for _ in shape)] = value
    return label


def save(path, array):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(array).save(path)


def row(number, **changes):
    return {
        "image": f"images/c{number}.png",
        "label": f"labels/c{number}.png",
        "fold": number % 2,
        "group": f"g{number}",
        **changes,
    }


def write_list(folder, rows, **sections):
    (folder / "datalist.json").write_text(json.dumps({"training": rows, **sections}))


def found(folder, label_values=TWO_CLASSES):
    return check_data_folder(folder, label_values)


def kinds(folder, label_values=TWO_CLASSES):
    return [(problem.case, problem.kind, problem.severity) for problem in found(folder, label_values)]


@pytest.fixture
def folder(tmp_path):
    for number in range(COUNT):
        save(tmp_path / f"images/c{number}.png", picture(number))
        save(tmp_path / f"labels/c{number}.png", mask(value=255 if number % 2 else 1))
    write_list(tmp_path, [row(number) for number in range(COUNT)])
    return tmp_path


def test_a_folder_in_order_has_no_problem(folder):
    assert found(folder) == []


def test_a_folder_without_a_list_in_order_has_no_problem(folder):
    (folder / "datalist.json").unlink()
    # Four names are too few for five folds by hash.
    assert kinds(folder) == [("images", "empty_fold", "warning")]
    for number in range(COUNT, 16):
        save(folder / f"images/c{number}.png", picture(number))
        save(folder / f"labels/c{number}.png", mask())
    assert found(folder) == []


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(DataFolderError, match="is no folder"):
        check_data_folder(tmp_path / "absent")


def test_an_empty_folder_has_no_cases(tmp_path):
    assert kinds(tmp_path) == [("images", "no_cases", "error")]


@pytest.mark.parametrize("content", ["{", "[]", '{"training": {}}', "\xff".encode("latin-1")])
def test_an_unreadable_list(folder, content):
    (folder / "datalist.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert kinds(folder) == [("datalist.json", "unreadable_list", "error")]


def test_a_list_without_training_rows(folder):
    write_list(folder, [], testing=[row(number) for number in range(COUNT)])
    assert kinds(folder) == [("images", "no_cases", "error")]


@pytest.mark.parametrize("wrong", ["text", {"label": "labels/c0.png"}, {"image": 3}])
def test_a_malformed_row(folder, wrong):
    write_list(folder, [*(row(number) for number in range(COUNT)), wrong])
    assert kinds(folder) == [(f"training[{COUNT}]", "malformed_row", "error")]


def test_listed_files_that_are_missing(folder):
    (folder / "images/c1.png").unlink()
    (folder / "labels/c2.png").unlink()
    assert kinds(folder) == [("images/c1.png", "missing_file", "error"), ("images/c2.png", "missing_file", "error")]
    assert "labels/c2.png" in found(folder)[1].detail


def test_a_row_without_a_label(folder):
    rows = [row(number) for number in range(COUNT)]
    del rows[1]["label"]
    write_list(folder, rows)
    assert ("images/c1.png", "image_without_label", "error") in kinds(folder)


def test_a_testing_row_without_a_label_is_a_warning(folder):
    save(folder / "images/t.png", picture(99))
    write_list(folder, [row(number) for number in range(COUNT)], testing=[{"image": "images/t.png"}])
    assert kinds(folder) == [("images/t.png", "image_without_label", "warning")]


def test_files_that_the_list_does_not_name(folder):
    save(folder / "images/extra.png", picture(50))
    save(folder / "labels/extra.png", mask())
    expected = [("images/extra.png", "not_listed", "warning"), ("labels/extra.png", "not_listed", "warning")]
    assert kinds(folder) == expected


def test_without_a_list_images_and_labels_that_have_no_counterpart(folder):
    (folder / "datalist.json").unlink()
    (folder / "images/c0.png").unlink()
    (folder / "labels/c3.png").unlink()
    expected = [("labels/c0.png", "label_without_image", "error"), ("images/c3.png", "image_without_label", "error")]
    assert [one for one in kinds(folder) if "without" in one[1]] == expected


def test_paths_that_leave_the_folder_are_warned_of_without_being_shown(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("patient_Smith")
    save(outside / "far.png", picture(70))
    relative = os.path.relpath(outside / "far.png", folder)
    rows = [row(number) for number in range(COUNT)]
    rows[0]["label"] = str(folder / "labels/c0.png")
    extra = [
        {**row(0), "image": str(outside / "far.png"), "group": "x"},
        {**row(1), "image": relative, "group": "y", "fold": 0},
    ]
    write_list(folder, [*rows, *extra])
    problems = found(folder)
    outside_folder = [(one.case, one.severity) for one in problems if one.kind == "outside_folder"]
    assert outside_folder == [("images/c0.png", "warning"), ("far.png", "warning"), ("far.png", "warning")]
    assert {one.kind for one in problems} == {"outside_folder", "same_picture"}
    assert not any("Smith" in one.case + one.detail or str(folder) in one.case + one.detail for one in problems)


def test_a_link_inside_the_folder_is_no_problem(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "c0.png"
    (folder / "images/c0.png").rename(elsewhere)
    (folder / "images/c0.png").symlink_to(elsewhere)
    assert found(folder) == []


@pytest.mark.parametrize("which", ["images", "labels"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_unreadable_files(folder, which, damage):
    path = folder / which / "c2.png"
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) * 2 // 3], "text": b"no picture", "empty": b""}[damage])
    assert kinds(folder) == [("images/c2.png", "unreadable", "error")]


def test_a_flipped_byte_in_a_png_is_noticed(folder):
    path = folder / "images/c2.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)
    assert kinds(folder) == [("images/c2.png", "unreadable", "error")]


def swap(folder, number, image, label, ending, write):
    """Case `number` in another file format."""
    for which, array in (("images", image), ("labels", label)):
        (folder / which / f"c{number}.png").unlink()
        write(folder / which / f"c{number}{ending}", array)
    rows = [row(other) for other in range(COUNT)]
    rows[number] |= {"image": f"images/c{number}{ending}", "label": f"labels/c{number}{ending}"}
    write_list(folder, rows)


def nifti(affine=None, dtype=np.int16):
    return lambda path, array: nibabel.save(
        nibabel.Nifti1Image(array.astype(dtype), np.diag([1, 1, 2, 1.0]) if affine is None else affine), path
    )


FORMATS = {
    "jpeg": (".jpg", save, (SIZE, SIZE)),
    "tiff": (".tif", tifffile.imwrite, (SIZE, SIZE)),
    "tiff stack": (".tif", tifffile.imwrite, (24, SIZE, SIZE)),
    "nifti": (".nii", nifti(), (24, SIZE, SIZE)),
    "nifti gz": (".nii.gz", nifti(), (24, SIZE, SIZE)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_other_formats_are_read_whole(folder, name):
    ending, write, shape = FORMATS[name]
    swap(folder, 0, picture(0, shape), mask(shape), ending, write)
    allowed = None if name == "jpeg" else TWO_CLASSES  # JPEG changes a mask's values
    assert found(folder, allowed) == []
    path = folder / f"images/c0{ending}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert kinds(folder, allowed) == [(f"images/c0{ending}", "unreadable", "error")]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_compressed_tiff_stacks_are_read(folder, compression):
    def write(path, array):
        pages = [Image.fromarray(page) for page in array]
        pages[0].save(path, save_all=True, append_images=pages[1:], compression=compression)

    swap(folder, 0, picture(0, (3, SIZE, SIZE)), mask((3, SIZE, SIZE)), ".tif", write)
    assert kinds(folder) == [("images/c0.tif", "empty_label", "warning")]  # 3 pages are fewer than the mask's first, 8
    save(folder / "labels/c0.tif", mask())
    assert kinds(folder) == [("images/c0.tif", "size_mismatch", "error")]


def test_sizes_that_differ(folder):
    save(folder / "labels/c1.png", mask((SIZE, SIZE - 1)))
    assert kinds(folder) == [("images/c1.png", "size_mismatch", "error")]
    assert "32 × 32" in found(folder)[0].detail and "32 × 31" in found(folder)[0].detail


def test_a_colour_picture_has_the_size_of_its_grey_label(folder):
    save(folder / "images/c1.png", picture(1, (SIZE, SIZE, 3)))
    swap(folder, 2, picture(2, (SIZE, SIZE, 3)), mask(), ".tif", tifffile.imwrite)
    assert found(folder) == []


@pytest.mark.parametrize(("shift_mm", "expected"), [(0.05, []), (0.2, [("images/c0.nii", "affine_mismatch", "error")])])
def test_nifti_places_that_differ(folder, shift_mm, expected):
    shape, affine = (24, SIZE, SIZE), np.diag([1, 1, 2, 1.0])
    swap(folder, 0, picture(0, shape), mask(shape), ".nii", nifti(affine))
    moved = affine.copy()
    moved[2, 3] = shift_mm
    nifti(moved)(folder / "labels/c0.nii", mask(shape))
    assert kinds(folder) == expected


@pytest.mark.parametrize("values", [(0, 2), (0, 1, 255), (0, 128, 255)])
def test_label_values_outside_the_allowed_sets(folder, values):
    label = mask()
    label[:2, : len(values)] = values
    label[label == 255] = values[-1]
    save(folder / "labels/c1.png", label)
    assert kinds(folder) == [("images/c1.png", "label_values", "error")]
    assert kinds(folder, None) == []


def test_many_label_values_are_not_all_shown(folder):
    save(folder / "labels/c1.png", np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE))
    assert "… 1024 in all" in found(folder)[0].detail


@pytest.mark.parametrize("wrong", [0.5, np.nan])
def test_any_whole_numbers_are_allowed_but_no_fractions(folder, wrong):
    shape = (24, SIZE, SIZE)
    label = mask(shape, 7).astype(np.float32)
    swap(folder, 0, picture(0, shape), label, ".nii", nifti(dtype=np.float32))
    assert found(folder, None) == []
    label[0, 0, 0] = wrong
    nifti(dtype=np.float32)(folder / "labels/c0.nii", label)
    assert kinds(folder, None) == [("images/c0.nii", "label_values", "error")]


def test_a_colour_label(folder):
    save(folder / "labels/c1.png", np.stack([mask()] * 3, axis=-1))
    assert kinds(folder) == [("images/c1.png", "label_channels", "error")]


def test_an_empty_label(folder):
    save(folder / "labels/c1.png", np.zeros((SIZE, SIZE), np.uint8))
    assert kinds(folder) == [("images/c1.png", "empty_label", "warning")]


def test_constant_images_are_warned_of_and_are_no_repeats(folder):
    for number in (0, 1):
        save(folder / f"images/c{number}.png", np.full((SIZE, SIZE), 17, np.uint8))
    assert kinds(folder) == [(f"images/c{number}.png", "constant_image", "warning") for number in (0, 1)]


def test_values_that_are_no_numbers(folder):
    image = picture(0, (24, SIZE, SIZE)).astype(np.float32)
    image[3, 4, 5] = np.inf
    swap(folder, 0, image, mask(image.shape), ".nii", nifti(dtype=np.float32))
    assert kinds(folder) == [("images/c0.nii", "not_finite", "error")]


def test_a_group_in_two_folds_is_not_named(folder):
    write_list(folder, [row(number, group="Smith, John") for number in range(COUNT)])
    assert kinds(folder) == [("images/c1.png", "group_in_two_folds", "error")]
    assert "images/c0.png" in found(folder)[0].detail
    assert "Smith" not in found(folder)[0].detail


def test_a_group_in_training_and_testing(folder):
    rows = [row(number, group="one" if number in (0, 3) else number) for number in range(COUNT)]
    write_list(folder, rows[:3], testing=rows[3:])
    assert kinds(folder) == [("images/c3.png", "group_in_two_folds", "error")]


@pytest.mark.parametrize(("other", "severity"), [(1, "error"), (2, "warning")])
def test_the_same_picture_under_two_names(folder, other, severity):
    # Stored anew with another compression: it is the content that counts.
    Image.fromarray(picture(0)).save(folder / f"images/c{other}.png", compress_level=0)
    assert kinds(folder) == [(f"images/c{other}.png", "same_picture", severity)]


def test_the_same_picture_in_training_and_testing(folder):
    save(folder / "images/c3.png", picture(0))
    rows = [row(number) for number in range(COUNT)]
    write_list(folder, rows[:3], testing=rows[3:])
    assert kinds(folder) == [("images/c3.png", "same_picture", "error")]


def test_the_same_picture_without_a_list_goes_by_the_folds_of_the_names(folder):
    (folder / "datalist.json").unlink()
    for number in range(1, COUNT):
        save(folder / f"images/c{number}.png", picture(0))
    assert {severity for _, kind, severity in kinds(folder) if kind == "same_picture"} == {"error"}


def test_rows_without_a_fold(folder):
    rows = [row(number) for number in range(COUNT)]
    del rows[2]["fold"]
    write_list(folder, rows)
    assert kinds(folder) == [("images/c2.png", "fold_missing", "error")]
    write_list(folder, [{key: value for key, value in one.items() if key != "fold"} for one in rows])
    assert kinds(folder) == [("datalist.json", "fold_missing", "error")]


@pytest.mark.parametrize("fold", ["1", 1.0, True, -1, [0]])
def test_folds_that_are_no_whole_numbers(folder, fold):
    write_list(folder, [*(row(number) for number in range(COUNT - 1)), row(3, fold=fold)])
    assert kinds(folder) == [("images/c3.png", "fold_not_integer", "error")]


def test_fewer_than_two_folds(folder):
    write_list(folder, [row(number, fold=0) for number in range(COUNT)])
    assert kinds(folder) == [("datalist.json", "few_folds", "warning")]


def test_a_fold_without_a_case(folder):
    write_list(folder, [row(number, fold=number % 2 * 3) for number in range(COUNT)])
    assert kinds(folder) == [("datalist.json", "empty_fold", "warning")]


def test_all_problems_come_in_one_list(folder):
    (folder / "images/c0.png").write_bytes(zlib.compress(b"x"))
    save(folder / "labels/c1.png", mask((SIZE, 16), value=7))
    save(folder / "labels/c2.png", np.zeros((SIZE, SIZE), np.uint8))
    write_list(folder, [row(number, group="one") for number in range(COUNT)])
    assert kinds(folder) == [
        ("images/c1.png", "group_in_two_folds", "error"),
        ("images/c0.png", "unreadable", "error"),
        ("images/c1.png", "label_values", "error"),
        ("images/c1.png", "size_mismatch", "error"),
        ("images/c2.png", "empty_label", "warning"),
    ]


def test_progress_is_told_and_a_problem_has_a_form_for_programs(folder, capsys):
    check_data_folder(folder, TWO_CLASSES, Talk())
    assert f"({COUNT})" in capsys.readouterr().err
    problem = Problem("images/a.png", "empty_label", "nothing", "warning")
    assert problem.as_dict() == {
        "case": "images/a.png",
        "kind": "empty_label",
        "detail": "nothing",
        "severity": "warning",
    }
