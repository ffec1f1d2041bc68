from dataclasses import replace

import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from clinibundle.errors import OutputError
from clinibundle.pictures import write
from clinibundle.pictures.read import read_picture
from clinibundle.pictures.write import write_label_map
from clinibundle.volume import Source, Volume

LABELS = (np.arange(12 * 7).reshape(12, 7) % 5).astype(np.int64)
AFFINE = np.array([[0, -0.7, 0.1, 3], [0.5, 0, 0, -20], [0, 0.02, 2, 9], [0, 0, 0, 1.0]])


def volume(shape, family="png", **more):
    return Volume(np.zeros(shape, np.float32), None, None, "grey", Source("picture", "a", family), **more)


def read_back(path):
    if path.name.endswith(".nii.gz"):
        return np.asarray(nibabel.load(path).dataobj)
    return tifffile.imread(path).T if path.suffix == ".tif" else np.asarray(Image.open(path)).T


@pytest.mark.parametrize("family", ["png", "tif", "nii.gz"])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(label_map=arrays(np.int32, array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 65_535)))
def test_any_label_map_comes_back_as_it_was(tmp_path, family, label_map):
    path = write_label_map(tmp_path, label_map, volume(label_map.shape, family))
    assert path.name == f"mask.{family}"
    np.testing.assert_array_equal(read_back(path).reshape(label_map.shape), label_map)


@pytest.mark.parametrize("family", ["png", "tif"])
def test_rows_of_the_file_are_the_second_axis_of_the_label_map(tmp_path, family):
    path = write_label_map(tmp_path, LABELS, volume(LABELS.shape, family))
    stored = tifffile.imread(path) if family == "tif" else np.asarray(Image.open(path))
    assert stored.shape == (7, 12)
    assert stored[6, 2] == LABELS[2, 6]


@pytest.mark.parametrize("family", ["png", "tif", "nii.gz"])
@pytest.mark.parametrize(("largest", "dtype"), [(1, np.uint8), (255, np.uint8), (256, np.uint16), (65_535, np.uint16)])
def test_it_takes_as_few_bits_as_the_labels_need(tmp_path, family, largest, dtype):
    label_map = np.where(LABELS == 4, largest, 0)
    assert read_back(write_label_map(tmp_path, label_map, volume(LABELS.shape, family))).dtype == dtype


@pytest.mark.parametrize("family", ["tif", "nii.gz"])
def test_more_than_65535_labels_take_32_bits(tmp_path, family):
    label_map = LABELS + 70_000
    found = read_back(write_label_map(tmp_path, label_map, volume(LABELS.shape, family)))
    np.testing.assert_array_equal(found.reshape(label_map.shape), label_map)


def test_more_labels_than_png_can_hold_are_refused(tmp_path):
    with pytest.raises(OutputError, match="label 70004 does not fit into a PNG"):
        write_label_map(tmp_path, LABELS + 70_000, volume(LABELS.shape))


def test_labels_below_zero_are_refused(tmp_path):
    with pytest.raises(OutputError, match="label -1"):
        write_label_map(tmp_path, LABELS - 1, volume(LABELS.shape))


def test_a_mask_of_another_shape_than_its_source_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"the mask has the shape \(12, 7\), its source \(7, 12\)"):
        write_label_map(tmp_path, LABELS, volume((7, 12)))
    assert not list(tmp_path.iterdir())


def test_the_mask_of_a_colour_picture_is_flat(tmp_path):
    colour = replace(volume((12, 7, 3)), meaning="colour")
    np.testing.assert_array_equal(read_back(write_label_map(tmp_path, LABELS, colour)), LABELS)


@pytest.mark.parametrize("family", ["png", "tif", "nii.gz"])
def test_a_file_that_reads_back_differently_is_found(tmp_path, family, monkeypatch):
    monkeypatch.setattr(write.Image, "open", lambda path: Image.fromarray(np.zeros((7, 12), np.uint8)))
    monkeypatch.setattr(write.tifffile, "imread", lambda path: np.zeros((7, 12), np.uint8))
    monkeypatch.setattr(write.nibabel, "load", lambda path: nibabel.Nifti1Image(np.zeros((12, 7), np.uint8), np.eye(4)))
    with pytest.raises(OutputError, match="reads back differently"):
        write_label_map(tmp_path, LABELS, volume(LABELS.shape, family))


def nifti(path, shape, sform=AFFINE, qform=None, codes=(2, 1), kind=nibabel.Nifti1Image):
    image = kind(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), None)
    image.set_sform(sform, code=codes[0])
    image.set_qform(sform if qform is None else qform, code=codes[1], strip_shears=True)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(2, -100)
    image.header["descrip"] = b"of a film"
    nibabel.save(image, path)
    return nibabel.load(path)


@pytest.mark.parametrize("shape", [(12, 7), (12, 7, 1), (12, 7, 1, 1), (12, 7, 5)])
@pytest.mark.parametrize("codes", [(2, 1), (1, 0), (0, 1), (0, 0), (4, 3)], ids=str)
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_the_mask_of_a_nifti_lies_exactly_on_its_source(tmp_path, shape, codes, kind):
    source = nifti(tmp_path / "a.nii", shape, qform=np.diag([0.5, 0.7, 2, 1.0]), codes=codes, kind=kind)
    dims = 3 if shape[-1] > 1 and len(shape) == 3 else 2
    read = read_picture(tmp_path / "a.nii", dims, 1)
    label_map = np.arange(read.array.size).reshape(read.spatial_shape) % 3
    mask = nibabel.load(write_label_map(tmp_path, label_map, read))
    np.testing.assert_array_equal(mask.affine, source.affine)
    for form in ("get_sform", "get_qform"):
        wanted, found = (getattr(image, form)(coded=True) for image in (source, mask))
        assert wanted[1] == found[1]
        if wanted[1]:
            np.testing.assert_allclose(found[0], wanted[0], atol=1e-6)
    assert mask.shape == source.shape
    assert mask.header.get_zooms() == source.header.get_zooms()
    assert mask.header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(np.asarray(mask.dataobj).reshape(label_map.shape), label_map)
    assert mask.get_data_dtype() == np.uint8


def test_a_volume_without_a_nifti_header_is_placed_by_its_own_affine(tmp_path):
    lps = np.diag([-1, -1, 1, 1]) @ AFFINE
    source = replace(volume((12, 7, 5), "nii.gz"), affine_lps=lps)
    mask = nibabel.load(write_label_map(tmp_path, np.ones((12, 7, 5), np.int16), source))
    np.testing.assert_allclose(mask.affine, AFFINE, atol=1e-6)


def test_the_source_header_is_left_as_it_was(tmp_path):
    nifti(tmp_path / "a.nii", (12, 7))
    read = read_picture(tmp_path / "a.nii", 2, 1)
    before = read.source.nifti_header.binaryblock
    write_label_map(tmp_path, LABELS, read)
    assert read.source.nifti_header.binaryblock == before
