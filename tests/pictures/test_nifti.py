"""Label maps from NIfTI lie on the volume's voxels or are refused; volumes become NIfTI as nibabel and ITK read it."""

import gzip
import warnings
from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from clinibundle.errors import ClinibundleError, GeometryError, OutputError, UnreadableInput
from clinibundle.pictures.nifti import SAME_GRID_MM, read_labels_on_grid, write_nifti
from clinibundle.volume import Source, Volume

SHAPE = (5, 6, 7)
LABELS = np.random.default_rng(5).integers(0, 4, SHAPE).astype(np.uint16)
FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
SQUARE = np.array([[0.8, 0, 0, -31], [0, 1.1, 0, 12.5], [0, 0, 2.5, -140], [0, 0, 0, 1]])
TURNED = np.eye(4)
TURNED[:3, :3] = Rotation.from_euler("xyz", [20, -15, 25], degrees=True).as_matrix() @ SQUARE[:3, :3]
TURNED[:3, 3] = (-31, 12.5, -140)
SHEARED = SQUARE.copy()
SHEARED[1, 2] = 0.7


def volume(affine=SQUARE, array=None):
    array = np.zeros(SHAPE, np.int16) if array is None else array
    return Volume(array, affine, (0.8, 1.1, 2.5), "hounsfield", Source("dicom", "a", "nii.gz"))


def save(path, array, affine_lps):
    """A NIfTI with a sform of any kind, impossible ones included."""
    header = nibabel.Nifti1Image(array, None).header
    header["sform_code"] = 1
    for name, row in zip(("srow_x", "srow_y", "srow_z"), FLIP @ affine_lps, strict=False):
        header[name] = row
    nibabel.save(nibabel.Nifti1Image(array, None, header), path)
    return path


@pytest.mark.parametrize("affine", [SQUARE, TURNED], ids=["axial", "oblique"])
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)), ids=str)
@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_swapped_and_turned_axes_are_put_right(tmp_path, affine, order, signs):
    # By hand: each stored axis runs along one of the volume's axes, forwards or backwards.
    stored, moved = LABELS, affine.copy()
    for axis, sign in enumerate(signs):
        if sign < 0:
            stored = np.flip(stored, axis)
            moved[:3, 3] += moved[:3, axis] * (SHAPE[axis] - 1)
            moved[:3, axis] *= -1
    stored = stored.transpose(order)
    moved[:3, :3] = moved[:3, order]
    found = read_labels_on_grid(save(tmp_path / "labels.nii.gz", stored, moved), volume(affine))
    np.testing.assert_array_equal(found, LABELS)


def test_labels_on_a_sheared_grid_are_taken(tmp_path):
    path = save(tmp_path / "labels.nii", LABELS, SHEARED)
    np.testing.assert_array_equal(read_labels_on_grid(path, volume(SHEARED)), LABELS)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_labels_of_any_number_type_are_taken(tmp_path, dtype):
    found = read_labels_on_grid(save(tmp_path / "labels.nii.gz", LABELS.astype(dtype), SQUARE), volume())
    np.testing.assert_array_equal(found, LABELS)


def shifted(mm):
    affine = SQUARE.copy()
    affine[0, 3] += mm
    return affine


def turned_about_the_diagonal(degrees):
    """Turned so that the first and the last voxel stay where they are."""
    first, last = (SQUARE @ [0, 0, 0, 1])[:3], (SQUARE @ [4, 5, 6, 1])[:3]
    axis = (last - first) / np.linalg.norm(last - first)
    turn = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
    affine = SQUARE.copy()
    affine[:3, :3] = turn @ SQUARE[:3, :3]
    affine[:3, 3] = first + turn @ (SQUARE[:3, 3] - first)
    np.testing.assert_allclose((affine @ [4, 5, 6, 1])[:3], last)
    return affine


def scaled(factor):
    return SQUARE @ np.diag([factor, 1, 1, 1])


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (shifted(0.2), r"up to 0\.20 mm beside those of the series \(limit 0\.05 mm\)"),
        (shifted(0.8), r"up to 0\.80 mm beside"),
        (turned_about_the_diagonal(5), r"up to 0\.\d+ mm beside"),
        (scaled(1.05), r"up to 0\.16 mm beside"),
        (np.diag([0, 1.0, 1, 1]), "no usable affine"),
        (np.full((4, 4), np.nan), "no usable affine"),
    ],
    ids=["shifted by little", "shifted by a voxel", "turned", "scaled", "flat", "not numbers"],
)
def test_a_label_map_beside_the_grid_is_refused(tmp_path, affine, words):
    with pytest.raises(GeometryError, match=words):
        read_labels_on_grid(save(tmp_path / "labels.nii.gz", LABELS, affine), volume())


def test_a_label_map_a_rounding_error_beside_the_grid_is_taken(tmp_path):
    path = save(tmp_path / "labels.nii.gz", LABELS, shifted(SAME_GRID_MM * 0.9))
    np.testing.assert_array_equal(read_labels_on_grid(path, volume()), LABELS)


@pytest.mark.parametrize("shape", [(5, 6, 8), (6, 5, 7), (5, 6, 1), (1, 1, 1)])
def test_a_label_map_of_another_size_is_refused(tmp_path, shape):
    path = save(tmp_path / "labels.nii.gz", np.zeros(shape, np.uint8), SQUARE)
    with pytest.raises(GeometryError, match="expected a label map drawn on that series"):
        read_labels_on_grid(path, volume())


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 7, 1), (5, 6, 7, 2)])
def test_other_than_three_axes_are_refused(tmp_path, shape):
    with pytest.raises(GeometryError, match=rf"has {len(shape)} axes; expected a label map of the series' 5 × 6 × 7"):
        read_labels_on_grid(save(tmp_path / "labels.nii.gz", np.zeros(shape, np.uint8), SQUARE), volume())


@pytest.mark.parametrize(
    "odd",
    [
        LABELS.astype(np.float32) + 0.5,
        LABELS.astype(np.int16) - 1,
        np.where(LABELS == 1, np.nan, 0.0),
        np.where(LABELS == 1, np.inf, 0.0),
        LABELS.astype(np.int32) + 65_535,
        LABELS * np.float64(1e12),
    ],
    ids=["fractions", "negative", "nan", "infinite", "too large", "far too large"],
)
def test_values_that_are_no_labels_are_refused_without_a_warning(tmp_path, odd):
    path = save(tmp_path / "ct.nii.gz", odd, SQUARE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            UnreadableInput, match=r"'ct\.nii\.gz' is no label map: expected whole numbers from 0 to 65535"
        ):
            read_labels_on_grid(path, volume())


@pytest.mark.parametrize(
    "content",
    [b"", b"Dear colleague", b"\x5c\x01\x00\x00" + b"\0" * 400, gzip.compress(b"x")],
    ids=["empty", "a letter", "no header", "another gzip"],
)
@pytest.mark.parametrize("name", ["labels.nii", "labels.nii.gz", "labels.txt", "labels"])
def test_what_is_no_nifti_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ClinibundleError, match=f"'{name}'"):
        read_labels_on_grid(tmp_path / name, volume())


def test_a_cut_file_is_refused(tmp_path):
    for name in ("labels.nii", "labels.nii.gz"):
        path = save(tmp_path / name, np.random.default_rng(1).integers(0, 9, SHAPE).astype(np.uint8), SQUARE)
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(UnreadableInput, match="damaged or something else"):
            read_labels_on_grid(path, volume())


def test_no_voxel_of_another_size_is_read(tmp_path, monkeypatch):
    path = save(tmp_path / "labels.nii.gz", np.zeros((9, 9, 9), np.uint8), SQUARE)
    monkeypatch.setattr(nibabel.arrayproxy.ArrayProxy, "__array__", lambda *_, **__: pytest.fail("voxels were read"))
    with pytest.raises(GeometryError):
        read_labels_on_grid(path, volume())


# Writing

VALUES = np.random.default_rng(2).integers(-1000, 1500, SHAPE).astype(np.int16)


@pytest.mark.parametrize("affine", [SQUARE, TURNED], ids=["axial", "oblique"])
@pytest.mark.parametrize("array", [VALUES, VALUES.astype(np.float32) / 3, LABELS], ids=["int16", "float32", "uint16"])
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_a_volume_comes_back_with_its_place_from_nibabel_and_from_itk(tmp_path, name, array, affine):
    import itk

    write_nifti(tmp_path / name, volume(affine, array))
    image = nibabel.load(tmp_path / name)
    assert image.get_data_dtype() == array.dtype
    np.testing.assert_array_equal(np.asarray(image.dataobj), array)
    np.testing.assert_allclose(image.affine, FLIP @ affine, atol=1e-5)
    assert image.header.get_xyzt_units()[0] == "mm"
    for form in (image.get_sform(coded=True), image.get_qform(coded=True)):
        assert form[1] == 1
        np.testing.assert_allclose(form[0], FLIP @ affine, atol=1e-4)
    # ITK's coordinates are LPS, as ours.
    read = itk.imread(str(tmp_path / name))
    np.testing.assert_allclose(read.TransformIndexToPhysicalPoint([3, 1, 4]), (affine @ [3, 1, 4, 1])[:3], atol=1e-3)
    np.testing.assert_array_equal(itk.array_from_image(read).T, array)


def test_a_shear_stands_in_the_sform_alone(tmp_path):
    write_nifti(tmp_path / "ct.nii", volume(SHEARED, VALUES))
    image = nibabel.load(tmp_path / "ct.nii")
    np.testing.assert_allclose(image.affine, FLIP @ SHEARED, atol=1e-5)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 0)


@pytest.mark.parametrize("array", [VALUES[:, ::-1], np.asfortranarray(VALUES), VALUES[1:4, 2:, ::2]])
def test_an_array_that_lies_in_memory_in_any_way_is_written_rightly(tmp_path, array):
    for name in ("ct.nii", "ct.nii.gz"):
        write_nifti(tmp_path / name, volume(array=array))
        np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / name).dataobj), array)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_where_nothing_can_be_written_it_is_said(tmp_path, name):
    with pytest.raises(OutputError, match=f"cannot write '{name}': No such file or directory; choose another place"):
        write_nifti(tmp_path / "nowhere" / name, volume(array=VALUES))
