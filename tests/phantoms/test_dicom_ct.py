import shutil
import subprocess

import itk
import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from clinibundle.phantoms.chest_ct import make_chest_ct
from clinibundle.phantoms.ct_tumours import Tumour
from clinibundle.phantoms.dicom_ct import write_ct_localizer, write_ct_series

GRID = {"shape": (14, 48, 40), "spacing_mm": (9.0, 4.0, 5.0)}
TUMOUR = Tumour((18.0, -12.0, -31.0), (16, 14, 15), 20, hounsfield=3000.0)
"""Brighter than any bone, so that it is found without the label."""
TURN = np.array([[0.8, -0.36, 0.48], [0.6, 0.48, -0.64], [0.0, 0.8, 0.6]])
DIRECTIONS = {"axial": {}, "tilted": {"tilt_degrees": 18.5}, "oblique": {"rotation": TURN}}


@pytest.fixture(scope="module")
def ct():
    return make_chest_ct(5, tumours=[TUMOUR], **GRID)


@pytest.fixture(scope="module")
def series(ct, tmp_path_factory):
    """The slices of a regular series, in the order that the writer tells."""
    return read(write_ct_series(tmp_path_factory.mktemp("ct"), ct.hounsfield, ct.affine_lps, seed=5))


def read(paths):
    return [pydicom.dcmread(path) for path in paths]


def hounsfield(slices):
    return np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])


def heights(slices):
    return [float(s.ImagePositionPatient[2]) for s in slices]


def test_pydicom_reads_back_the_voxels(ct, series):
    np.testing.assert_array_equal(hounsfield(series), ct.hounsfield)


def test_the_header_says_what_a_scanner_says(series):
    first = series[0]
    assert first.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert first.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (first.Modality, first.PatientPosition, first.RescaleType) == ("CT", "HFS", "HU")
    assert first.ImageType == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert (first.BitsStored, first.PixelRepresentation, first.RescaleIntercept) == (12, 0, -1024)
    assert first.PixelSpacing == [4, 5]
    assert (first.SliceThickness, first.GantryDetectorTilt) == (9, 0)
    assert first.ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
    assert (first.PatientName, first.PatientID) == ("Phantom^Chest", "PHANTOM-5")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "AcquisitionNumber"):
        assert len({str(s[keyword].value) for s in series}) == 1
    assert len({s.SOPInstanceUID for s in series}) == len(series)


def test_slices_rise_evenly_and_their_file_names_say_nothing_of_it(ct, series):
    assert np.diff(heights(series)) == pytest.approx([9] * 13)
    assert [s.InstanceNumber for s in series] == list(range(1, 15))
    by_name = sorted(series, key=lambda s: s.filename)
    assert heights(by_name) != sorted(heights(by_name))
    assert heights(by_name) != sorted(heights(by_name), reverse=True)


def test_itk_reads_the_same_voxels_at_the_same_place(ct, series, tmp_path):
    for s in series:
        shutil.copy(s.filename, tmp_path)
    names = itk.GDCMSeriesFileNames.New(Directory=str(tmp_path))
    (uid,) = names.GetSeriesUIDs()
    image = itk.imread(list(names.GetFileNames(uid)), itk.F)
    np.testing.assert_array_equal(itk.array_from_image(image), ct.hounsfield)
    for index in ([0, 0, 0], [39, 0, 0], [0, 47, 0], [7, 11, 13]):
        place = image.TransformIndexToPhysicalPoint(index)
        assert list(place) == pytest.approx((ct.affine_lps @ [*index, 1])[:3], abs=1e-3)


@pytest.mark.skipif(shutil.which("dcm2niix") is None, reason="dcm2niix is not installed")
def test_dcm2niix_gives_the_same_voxels_at_the_same_place(ct, series, tmp_path):
    for s in series:
        shutil.copy(s.filename, tmp_path)
    command = ["dcm2niix", "-b", "n", "-z", "n", "-f", "made", "-o", str(tmp_path), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    image = nib.load(tmp_path / "made.nii")
    values = np.asarray(image.dataobj)
    for x, y, z in np.random.default_rng(0).integers(0, (40, 48, 14), (200, 3)):
        left, back, up = (ct.affine_lps @ [x, y, z, 1])[:3]
        index = np.linalg.solve(image.affine, [-left, -back, up, 1])[:3]
        assert np.abs(index - np.rint(index)).max() < 1e-3
        assert values[tuple(np.rint(index).astype(int))] == ct.hounsfield[z, y, x]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_tumour_lies_at_its_place_in_the_patient_by_plain_arithmetic(direction, tmp_path):
    made = make_chest_ct(5, tumours=[TUMOUR], **GRID, **DIRECTIONS[direction])
    places, weights = [], []
    for s in read(write_ct_series(tmp_path, made.hounsfield, made.affine_lps, seed=5)):
        rows, columns = np.nonzero(s.pixel_array > 1024 + 1500)
        axes = np.array(s.ImageOrientationPatient, float).reshape(2, 3)
        row_mm, column_mm = map(float, s.PixelSpacing)
        in_plane = columns[:, None] * column_mm * axes[0] + rows[:, None] * row_mm * axes[1]
        places.append(np.array(s.ImagePositionPatient, float) + in_plane)
        weights.append(s.pixel_array[rows, columns])
    found = np.average(np.concatenate(places), axis=0, weights=np.concatenate(weights))
    # Far less than a voxel of 4 x 5 x 9 mm.
    assert np.abs(found - TUMOUR.centre_lps_mm).max() < 1


def test_a_tilted_gantry_leans_the_slices_while_the_table_moves_along_z_only(tmp_path):
    made = make_chest_ct(5, tumours=[], **GRID, tilt_degrees=18.5)
    slices = read(write_ct_series(tmp_path, made.hounsfield, made.affine_lps, seed=5))
    positions = np.array([s.ImagePositionPatient for s in slices], float)
    np.testing.assert_allclose(np.diff(positions, axis=0), np.tile([0, 0, 9.0], (13, 1)), atol=1e-5)
    cosine, sine = np.cos(np.radians(18.5)), np.sin(np.radians(18.5))
    for s in slices:
        assert list(s.ImageOrientationPatient) == pytest.approx([1, 0, 0, 0, cosine, sine], abs=1e-6)
        assert s.GantryDetectorTilt == pytest.approx(18.5)
        assert s.SliceThickness == pytest.approx(9 * cosine)


def test_oblique_slices_have_the_axes_of_the_rotation(tmp_path):
    made = make_chest_ct(5, tumours=[], **GRID, rotation=TURN)
    slices = read(write_ct_series(tmp_path, made.hounsfield, made.affine_lps, seed=5))
    assert list(slices[0].ImageOrientationPatient) == pytest.approx([*TURN[:, 0], *TURN[:, 1]], abs=1e-6)
    way = np.subtract(slices[-1].ImagePositionPatient, slices[0].ImagePositionPatient)
    np.testing.assert_allclose(way.astype(float), 13 * 9 * TURN[:, 2], atol=1e-4)
    assert slices[0].GantryDetectorTilt == pytest.approx(0, abs=1e-6)


def test_missing_slices_leave_gaps_in_positions_and_numbers(ct, series, tmp_path):
    left = read(write_ct_series(tmp_path, ct.hounsfield, ct.affine_lps, seed=5, missing_slices=(3, 7, 8)))
    kept = [s for i, s in enumerate(series) if i not in (3, 7, 8)]
    assert [s.SOPInstanceUID for s in left] == [s.SOPInstanceUID for s in kept]
    assert [s.InstanceNumber for s in left] == [s.InstanceNumber for s in kept]
    assert heights(left) == heights(kept)
    assert len(list(tmp_path.iterdir())) == 11


def test_duplicates_are_other_instances_with_the_same_place_and_picture(ct, series, tmp_path):
    twice = read(write_ct_series(tmp_path, ct.hounsfield, ct.affine_lps, seed=5, duplicate_slices=[2]))
    assert len(list(tmp_path.iterdir())) == len(twice) == 15
    one, other = twice[2:4]
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID == other.SeriesInstanceUID
    assert one.ImagePositionPatient == other.ImagePositionPatient
    assert one.PixelData == other.PixelData
    assert {s.SOPInstanceUID for s in twice} - {other.SOPInstanceUID} == {s.SOPInstanceUID for s in series}


def test_reversed_numbers_fall_where_positions_rise(ct, tmp_path):
    slices = read(write_ct_series(tmp_path, ct.hounsfield, ct.affine_lps, seed=5, reversed_numbers=True))
    assert heights(slices) == sorted(heights(slices))
    assert [s.InstanceNumber for s in slices] == list(range(14, 0, -1))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_other_transfer_syntaxes_hold_the_same_voxels(ct, series, tmp_path, syntax):
    if syntax == JPEG2000Lossless:
        pytest.importorskip("openjpeg")
    slices = read(write_ct_series(tmp_path, ct.hounsfield, ct.affine_lps, seed=5, transfer_syntax=syntax))
    assert {s.file_meta.TransferSyntaxUID for s in slices} == {syntax}
    assert [s.SOPInstanceUID for s in slices] == [s.SOPInstanceUID for s in series]
    np.testing.assert_array_equal(hounsfield(slices), ct.hounsfield)


def test_the_localizer_is_a_series_of_its_own_in_the_same_study_and_looks_like_a_film(tmp_path, series):
    made = make_chest_ct(5, (40, 60, 60), (7.0, 6.0, 6.0), tumours=[], noise_hu=10)
    scout = pydicom.dcmread(write_ct_localizer(tmp_path, made.hounsfield, made.affine_lps, seed=5))
    assert "LOCALIZER" in scout.ImageType
    assert scout.StudyInstanceUID == series[0].StudyInstanceUID
    assert scout.FrameOfReferenceUID == series[0].FrameOfReferenceUID
    assert scout.SeriesInstanceUID != series[0].SeriesInstanceUID
    assert scout.ImageOrientationPatient == [1, 0, 0, 0, 0, -1]
    assert scout.PixelSpacing == [7, 6]
    head, left = float(scout.ImagePositionPatient[2]), float(scout.ImagePositionPatient[0])
    row = round((head - 20) / 7)
    grey = {x: scout.pixel_array[row, round((x - left) / 6)] for x in (-75, 0, 75)}
    assert max(grey[-75], grey[75]) + 100 < grey[0]
    for row in (0, 10, 33):
        _, _, index, _ = np.linalg.solve(made.affine_lps, [0, 0, head - 7 * row, 1])
        slice_mean = made.hounsfield[round(index)].mean()
        assert hounsfield([scout])[0][row].mean() == pytest.approx(slice_mean, abs=0.5)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_patient(ct, tmp_path):
    folders = [tmp_path / name for name in ("first", "second", "other")]
    for folder, seed in zip(folders, (5, 5, 6), strict=True):
        write_ct_series(folder, ct.hounsfield, ct.affine_lps, seed)
    first, second, other = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert first == second
    assert not first.keys() & other.keys()
    one, another = (pydicom.dcmread(next(folder.iterdir())) for folder in (folders[0], folders[2]))
    assert one.PatientID != another.PatientID
    assert one.StudyInstanceUID != another.StudyInstanceUID


def test_two_volumes_of_one_seed_are_two_series_of_one_study(ct, series, tmp_path):
    thick = make_chest_ct(5, (7, 48, 40), (18.0, 4.0, 5.0))
    (one, *_) = read(write_ct_series(tmp_path, thick.hounsfield, thick.affine_lps, seed=5))
    assert one.StudyInstanceUID == series[0].StudyInstanceUID
    assert one.FrameOfReferenceUID == series[0].FrameOfReferenceUID
    assert one.SeriesInstanceUID != series[0].SeriesInstanceUID


def test_density_beyond_12_bits_is_cut_off(tmp_path):
    extreme = np.array([[[-3000, -1024], [3071, 5000]]], np.int16)
    (only,) = read(write_ct_series(tmp_path, extreme, np.eye(4), seed=1))
    np.testing.assert_array_equal(hounsfield([only])[0], [[-1024, -1024], [3071, 3071]])


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
@pytest.mark.parametrize("made_as", [*DIRECTIONS, "localizer", "compressed"])
def test_dciodvfy_finds_nothing_wrong(ct, tmp_path, made_as):
    if made_as == "localizer":
        path = write_ct_localizer(tmp_path, ct.hounsfield, ct.affine_lps, seed=5)
    elif made_as == "compressed":
        path = write_ct_series(tmp_path, ct.hounsfield, ct.affine_lps, seed=5, transfer_syntax=RLELossless)[3]
    else:
        made = make_chest_ct(5, (3, 16, 16), (30.0, 20.0, 20.0), tumours=[], **DIRECTIONS[made_as])
        path = write_ct_series(tmp_path, made.hounsfield, made.affine_lps, seed=5)[1]
    verdict = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    said = verdict.stdout + verdict.stderr
    assert "CTImage" in said
    assert "Error" not in said, said
    # Its edition of 2022 does not know the defined term US (PS3.3 C.11.1.1.2) of the localizer.
    assert [line for line in said.splitlines() if "Warning" in line and "<Rescale Type>" not in line] == []
