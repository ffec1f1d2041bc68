"""All folders of the shared collection of awkward DICOM, as volumes: what is read, and why the rest is refused.

Beside ours the table says what ITK (with GDCM) and dcm2niix make of a folder: nothing where they agree, else how they
err. What is claimed of them is tested like what is claimed of us.
"""

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pytest

from clinibundle.dicom.archive import is_zip, unpacked
from clinibundle.dicom.gate import place
from clinibundle.dicom.index import index_study
from clinibundle.dicom.read_volume import read_volume
from clinibundle.dicom.stacks import split_study
from clinibundle.errors import ClinibundleError, GeometryError, UnreadableInput
from clinibundle.geometry import turn_lps_ras

COLLECTION = Path(__file__).resolve().parents[3] / "shared" / "data" / "dicom"
pytestmark = pytest.mark.skipif(not COLLECTION.is_dir(), reason="the shared collection is not beside the repository")
AGREES = "agrees"
# Of dcm2niix, as Debian 12 has it.
VERSION = "v1.0.20220720"


@dataclass(frozen=True)
class Read:
    """A stack that is read: size and spacing (column, row, slice), values, tilt in degrees, and the referees' answer.

    `itk` and `niix` are AGREES, or words on how they err.
    """

    size: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    low: float
    high: float
    mean: float
    unit: str = "hounsfield"
    tilt: float = 0.0
    itk: str = AGREES
    niix: str = AGREES


@dataclass(frozen=True)
class Refused:
    """A stack of so many slices that is refused."""

    slices: int
    error: type[ClinibundleError]
    words: str


NO_PLACE = "without ImageOrientationPatient"
PLANES = "makes one volume of several planes"
SIZES = "fails on pictures of two sizes in a series"
FILM = [Refused(1, GeometryError, NO_PLACE)]
PHANTOM = {"size": (64, 64, 10), "spacing_mm": (3.609375, 3.609375, 5), "low": -1024, "high": 775, "mean": -821.587}
SCOUT = {"low": -1024, "high": 533, "mean": -951.415, "size": (512, 256, 1), "spacing_mm": (0.976562, 0.976562, 0.625)}
TINY = (16, 16, 1)


def tiny(spacing, thickness, low, high, mean, unit="grey", itk=AGREES, niix=AGREES):
    """A slice of the disc whose pictures were made small; each is alone in its plane."""
    return Read(TINY, (*spacing, thickness), low, high, mean, unit, itk=itk, niix=niix)


STUDY_DISC = [
    *FILM * 3,
    Refused(4, GeometryError, r"varies from 1.25 to 202.5 mm .* between instance 18 and instance 180; at least 161"),
    tiny((0.596847, 0.545455), 650.181824, 218, 292, 266.488, "hounsfield", PLANES, PLANES),
    tiny((0.596847, 0.545455), 650.181824, 65, 243, 120.648, "hounsfield", PLANES, PLANES),
    Read((16, 16, 5), (0.488281, 0.488281, 2.5), -888, 85, -138.531),
    tiny((1.367188, 1.367188), 10, 224, 840, 549.727),
    tiny((1.367188, 1.367188), 10, 442, 826, 715.785),
    tiny((1.367188, 1.367188), 10, 280, 800, 609.934),
    tiny((1.367188, 1.367188), 10, 79, 358, 233.715),
    tiny((1.171875, 1.171875), 10, 405, 742, 670.695, itk=PLANES),
    tiny((1.171875, 1.171875), 10, 403, 846, 646.672, itk=PLANES),
    tiny((1.171875, 1.171875), 10, 509, 755, 693.910, itk=PLANES),
    tiny((1.171875, 1.171875), 10, 429, 729, 610.859, itk=PLANES),
    tiny((1.171875, 1.171875), 10, 414, 685, 583.098, itk=PLANES),
    tiny((1.171875, 1.171875), 10, 427, 692, 631.996, itk=PLANES),
    tiny((0.390625, 0.390625), 1.2, 55, 339, 152.059, itk=PLANES),
    tiny((0.390625, 0.390625), 1.2, 47, 333, 81.160, itk=PLANES),
    tiny((0.390625, 0.390625), 1.2, 49, 104, 63.203, itk=PLANES),
    tiny((0.390625, 0.390625), 1.2, 48, 80, 61.383, itk=PLANES),
    tiny((0.390625, 0.390625), 1.2, 19, 81, 59.398, itk=PLANES),
    tiny((0.390625, 0.390625), 1.2, 0, 90, 29.852, itk=PLANES),
    tiny((0.390625, 0.390625), 1.2, 0, 87, 28.215, itk=PLANES),
]
# Series by series in the order of the files' names, the volumes of a series in that of their instance numbers.
TABLE: dict[str, Sequence[Read | Refused]] = {
    "cd_dicomdir_complete": STUDY_DISC,
    "cd_phantom_tilt": [
        Read(**SCOUT),
        Read(
            (512, 512, 3), (0.40625, 0.40625, 2.397054), -1024, 769, -771.492, tilt=16.5, itk="upright", niix="upright"
        ),
        Read(**SCOUT, itk=SIZES),
        Refused(1, GeometryError, NO_PLACE),
    ],
    "codec_ct_chest": [
        Refused(5, GeometryError, "'CT1_J2K[IR]' and 'CT1_J2K[IR]' show different pictures at one position"),
        Read((512, 512, 1), (0.661468, 0.661468, 5), -3024, 1254, -871.304, itk="stacked with a lossy copy"),
    ],
    "codec_mr_small": [
        Read((64, 64, 1), (0.3125, 0.3125, 0.8), 127, 2145, 518.881, "grey", itk="stacks the eight copies")
    ],
    "codec_other": FILM * 7,
    "cr_chest_mono1_j2k": FILM,
    "cr_chest_mono1_nopreamble": FILM,
    "cr_chest_mono2_raw": FILM,
    "cr_not_chest": FILM,
    "ct_axial3_with_seg": [Read((512, 512, 3), (0.810547, 0.810547, 1), -3024, 1381, -954.884)],
    "ct_chest_study_two_dates": [
        Read((512, 512, 1), (0.8125, 0.8125, 5), -3024, 1302, -1001.334),
        Read((512, 512, 1), (0.8125, 0.8125, 3), -1024, 2284, -459.509, "grey"),
        Read((512, 512, 1), (0.803809, 0.803809, 3), -1024, 1538, -532.618, "grey"),
        Read((512, 512, 1), (0.703125, 0.703125, 5), -3024, 1175, -926.637),
    ],
    "ct_head_tilt_uneven": [
        Refused(
            4, GeometryError, r"from 1.081 to 6.999 mm .* between instance 15 and instance 16; its slices are uneven"
        )
    ],
    "dx_thorax_dog": FILM,
    "made_ct_duplicate_conflict": [
        Refused(11, GeometryError, "'04.dcm' and '05.dcm' show different pictures at one position")
    ],
    "made_ct_duplicate_equal": [Read(**PHANTOM, itk="11 slices 4.5 mm apart", niix="11 slices, the copy among them")],
    "made_ct_missing_slice": [
        Refused(9, GeometryError, "from 5 to 10 mm .* between instance 13 and instance 15; at least 1 slice is missing")
    ],
    "made_ct_mixed_size": [
        Refused(9, GeometryError, "between instance 14 and instance 16; at least 1 slice is missing"),
        Read((64, 32, 1), (3.609375, 3.609375, 5), -1024, 753, -876.443, itk=SIZES),
    ],
    "made_ct_no_positions": [Refused(10, GeometryError, f"01.dcm, 02.dcm, 03.dcm and 7 more are {NO_PLACE}")],
    "made_ct_regular": [Read(**PHANTOM)],
    "made_ct_rescale_varies": [Read(**PHANTOM)],
    "made_ct_reversed_numbers": [Read(**PHANTOM)],
    "made_ct_rounding": [
        Read(**{**PHANTOM, "spacing_mm": (3.609375, 3.609375, 5.00089)}, niix="the first gap counts as every gap")
    ],
    "made_ct_same_file_twice": [Read(**PHANTOM, itk="11 slices 1 mm apart")],
    "made_ct_scout_in_series": [
        Read(
            (64, 32, 1),
            (7.8125, 7.8125, 0.625),
            -1024,
            352,
            -956.767,
            itk=SIZES,
        ),
        Read(**PHANTOM, itk=SIZES),
    ],
    "made_ct_signed_padding": [Read(**{**PHANTOM, "low": -2000, "mean": -1079.880})],
    "made_ct_tilt": [
        Read((64, 64, 10), (3.25, 3.25, 2.397054), -1024, 776, -690.79, tilt=16.5, itk="upright", niix="2.3 mm for 2.5")
    ],
    "made_ct_two_timepoints": [
        Read(
            (64, 64, 6),
            (3.609375, 3.609375, 5),
            -1024,
            775,
            -796.846,
            itk="12 slices 2.27 mm apart",
            niix="both in one file",
        ),
        Read(
            (64, 64, 6),
            (3.609375, 3.609375, 5),
            -984,
            815,
            -756.846,
            itk="12 slices 2.27 mm apart",
            niix="both in one file",
        ),
    ],
    "made_ct_uneven": [
        Refused(
            6, GeometryError, "from 5 to 15 mm .* between instance 15 and instance 18; at least 4 slices are missing"
        )
    ],
    "made_damaged": [
        Refused(1, UnreadableInput, "'ct_raw_cut_60pct.dcm' is truncated: 17223 bytes of pixels, expected 32768"),
        Refused(2, UnreadableInput, "'jpls_cut_70pct.dcm' holds no pixels: it is truncated"),
        Refused(1, UnreadableInput, r"the pixels of 'rle_bad_offset.dcm' cannot be decoded \(RLE Lossless\)"),
    ],
    "made_htj2k_ct": [
        Read((512, 512, 1), (0.661468, 0.661468, 5), -3024, 1254, -871.304, niix="the 2022 version has no HTJ2K")
    ],
    "made_mr_two_echoes": [
        Read((64, 64, 4), (4, 4, 9), 0, 875, 148.443, "grey", itk="8 slices 3.857 mm apart"),
        Read((64, 64, 4), (4, 4, 9), 0, 525, 88.678, "grey", itk="8 slices 3.857 mm apart"),
    ],
    "mf_enhanced": [
        Read((512, 512, 2), (0.388672, 0.388672, 10), -1024, 172, -643.962),
        Refused(10, GeometryError, NO_PLACE),
    ],
    "mf_legacy_seg_24x38": [
        Read((24, 38, 3), (0.7, 0.7, 2.5), 0, 1, 0.115, "grey"),
        Read((24, 38, 3), (0.7, 0.7, 2.5), 0, 1, 0.115, "grey"),
    ],
    "mr_sagittal_gap": [
        Refused(4, GeometryError, "from 9 to 18 mm .* between instance 99 and instance 81; at least 1 slice is missing")
    ],
    "odd_and_damaged": [
        Read(
            (512, 512, 1),
            (0.478516, 0.478516, 5),
            -3995,
            1812,
            -1032.323,
        ),
        Read((128, 128, 1), (0.661468, 0.661468, 5), -896, 1167, -119.074),
        Read((512, 512, 1), (0.431, 0.431, 5), -2000, 1896, -658.437, niix="0 to 8191: the sign is lost"),
        Refused(1, UnreadableInput, "'MR_truncated.dcm' is truncated: 8130 bytes of pixels, expected 8192"),
        Read((512, 512, 1), (0.287109, 0.287109, 1), -1011, 1243, -76.626),
        Refused(10, GeometryError, NO_PLACE),
        Read((512, 512, 1), (0.859375, 0.859375, 1), -1024, 1186, -670.957),
    ],
    "rtstruct_phantom": [Read((512, 512, 2), (0.488281, 0.488281, 5), -3024, 125, -835.511)],
    "seg_examples": [],
    "sr_examples": [],
    "wrong_modality": [
        Read((512, 400, 1), (1, 1, 1), -196, 406, 70.962),
        Refused(1, GeometryError, NO_PLACE),
        Refused(1, GeometryError, NO_PLACE),
        Refused(30, GeometryError, NO_PLACE),
    ],
    "zip_mr_three_planes": [
        Read((256, 256, 5), (1.757812, 1.757812, 25), 0, 1576.314, 186.261, "grey", itk=PLANES, niix="own scaling"),
        Read((256, 256, 3), (1.757812, 1.757812, 25), 0, 2819.996, 152.75, "grey", itk=PLANES, niix="own scaling"),
        Read((256, 256, 3), (1.757812, 1.757812, 25), 0, 2100.660, 149.95, "grey", itk=PLANES, niix="own scaling"),
    ],
}


def opened(folder):
    """The folder, or what its zip holds."""
    zips = [path for path in (COLLECTION / folder).iterdir() if path.is_file() and is_zip(path)]
    return unpacked(zips[0]) if zips else nullcontext(COLLECTION / folder)


def stacks_in(folder):
    stacks, unusable = split_study(index_study(folder).instances)
    assert unusable == []
    return stacks


def test_every_folder_is_in_the_table():
    assert {path.name for path in COLLECTION.iterdir() if path.is_dir()} == set(TABLE)


@pytest.mark.parametrize("folder", TABLE)
def test_a_folder_is_read_or_refused_as_the_table_says(folder):
    with opened(folder) as path:
        stacks = stacks_in(path)
        assert len(stacks) == len(TABLE[folder])
        for stack, expected in zip(stacks, TABLE[folder], strict=True):
            if isinstance(expected, Refused):
                assert len(stack.slices) == expected.slices
                with pytest.raises(expected.error, match=expected.words):
                    read_volume(place(stack.slices, "the series", tilt_allowed=True))
                continue
            if expected.tilt:
                with pytest.raises(GeometryError, match="the gantry was tilted"):
                    place(stack.slices, "the series")
            placed = place(stack.slices, "the series", tilt_allowed=bool(expected.tilt))
            assert placed.tilt_degrees == pytest.approx(expected.tilt, abs=0.02)
            volume = read_volume(placed)
            assert volume.array.shape == expected.size
            assert volume.spacing_mm == pytest.approx(expected.spacing_mm, abs=2e-5)
            assert (volume.array.min(), volume.array.max()) == pytest.approx((expected.low, expected.high), abs=1e-3)
            assert volume.array.mean(dtype=float) == pytest.approx(expected.mean, abs=6e-4)
            assert volume.meaning == expected.unit


# The referees.

READ = [folder for folder, row in TABLE.items() if any(isinstance(expected, Read) for expected in row)]


def volumes_of(folder, path):
    """The volumes of a folder with their rows."""
    for stack, expected in zip(stacks_in(path), TABLE[folder], strict=True):
        if isinstance(expected, Read):
            yield read_volume(place(stack.slices, "the series", tilt_allowed=True)), expected


def is_same_picture(volume, values, affine_lps):
    """Whether every voxel of another reader's picture (x, y, z) lies on a voxel of ours and has its value."""
    if sorted(values.shape) != sorted(volume.array.shape):
        return False
    there = np.indices(values.shape).reshape(3, -1)
    places = (np.linalg.inv(volume.affine_lps) @ affine_lps @ np.vstack([there, np.ones(there.shape[1])]))[:3]
    index = np.rint(places).astype(int)
    if np.abs(places - index).max() > 2e-3 or (index < 0).any() or (index.max(axis=1) >= volume.array.shape).any():
        return False
    return bool(np.allclose(values.reshape(-1), volume.array[tuple(index)], rtol=0, atol=0.01))


def series_of_itk(folder):
    """Its series as lists of files."""
    import itk

    names = itk.GDCMSeriesFileNames.New(UseSeriesDetails=False, Directory=str(folder))
    return [list(names.GetFileNames(uid)) for uid in names.GetSeriesUIDs()]


def of_itk(paths):
    """What ITK's reader of series makes of files in its own order: values (x, y, z) and affine."""
    import itk

    seen = itk.imread(paths[0] if len(paths) == 1 else paths, itk.F)
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(seen.GetDirection()) @ np.diag(list(seen.GetSpacing()))
    affine[:3, 3] = list(seen.GetOrigin())
    return itk.array_from_image(seen).T, affine


def itk_agrees(volume):
    """Whether the series that a volume lies in is that volume for ITK."""
    mine = {str(file) for file in volume.source.paths}
    (series,) = [names for names in series_of_itk(volume.source.paths[0].parent) if mine <= set(names)]
    try:
        values, affine = of_itk(series)
    except RuntimeError:
        return False
    if values.shape[2] == 1:
        # Of a single slice it mostly takes 1 mm for the thickness.
        affine[:3, 2] *= volume.spacing_mm[2] / np.linalg.norm(affine[:3, 2])
    return is_same_picture(volume, values, affine)


@pytest.mark.parametrize("folder", READ)
def test_itk_agrees_where_the_table_says_so_and_nowhere_else(folder):
    with opened(folder) as path:
        found = [(itk_agrees(volume), expected.itk) for volume, expected in volumes_of(folder, path)]
    assert [agrees for agrees, _ in found] == [said == AGREES for _, said in found]


@pytest.mark.parametrize(
    ("folder", "slices", "between"),
    [
        ("made_ct_missing_slice", 9, 5.625),
        ("made_ct_uneven", 6, 9),
        ("made_ct_duplicate_equal", 11, 4.5),
        ("made_ct_duplicate_conflict", 11, 4.5),
        ("made_ct_same_file_twice", 11, 1),
        ("made_ct_two_timepoints", 12, 2.2727),
        ("made_mr_two_echoes", 8, 3.857),
        ("mr_sagittal_gap", 4, 12),
        ("ct_head_tilt_uneven", 4, 4.24667),
        ("made_ct_tilt", 10, 2.5),
        ("made_ct_no_positions", 10, 1),
        ("zip_mr_three_planes", 11, 27.244),
    ],
)
def test_itk_makes_one_even_volume_of_what_is_none(folder, slices, between):
    with opened(folder) as path:
        (series,) = series_of_itk(path)
        values, affine = of_itk(series)
    assert values.shape[2] == slices
    assert np.linalg.norm(affine[:3, 2]) == pytest.approx(between, abs=1e-3)
    x, y, step = affine[:3, :3].T
    assert max(abs(x @ step), abs(y @ step)) < 1e-3


@cache
def version_of_dcm2niix():
    if shutil.which("dcm2niix") is None:
        return ""
    return subprocess.run(["dcm2niix", "--version"], capture_output=True, text=True, check=False).stdout


def of_dcm2niix(folder, out):
    """All grey pictures that dcm2niix writes."""
    if VERSION not in version_of_dcm2niix():
        pytest.skip(f"dcm2niix {VERSION} is not installed; others err elsewhere")
    command = ["dcm2niix", "-b", "n", "-z", "n", "-f", "%s_%p", "-o", str(out), str(folder)]
    subprocess.run(command, capture_output=True, check=False)
    pictures = [nibabel.load(path) for path in sorted(out.glob("*.nii"))]
    return [picture for picture in pictures if picture.get_data_dtype().kind != "V"]


@pytest.mark.parametrize("folder", READ)
def test_dcm2niix_agrees_where_the_table_says_so_and_nowhere_else(folder, tmp_path):
    with opened(folder) as path:
        seen = [(picture.get_fdata(), turn_lps_ras(picture.affine)) for picture in of_dcm2niix(path, tmp_path)]
        found = [
            (any(is_same_picture(volume, *picture) for picture in seen), expected.niix)
            for volume, expected in volumes_of(folder, path)
        ]
    assert [agrees for agrees, _ in found] == [said == AGREES for _, said in found]


@pytest.mark.parametrize(
    ("folder", "slices", "between"),
    [
        ("made_ct_missing_slice", 9, 5),
        ("made_ct_uneven", 6, 5),
        ("made_ct_duplicate_equal", 11, 5),
        ("made_ct_duplicate_conflict", 11, 5),
        ("mr_sagittal_gap", 4, 9),
        ("made_ct_tilt", 10, 2.39705),
        ("made_ct_no_positions", 10, 5),
        ("made_ct_rounding", 10, 5.008),
    ],
)
def test_dcm2niix_writes_an_even_volume_of_what_is_none(folder, slices, between, tmp_path):
    found = of_dcm2niix(COLLECTION / folder, tmp_path)
    # Beside it lies another, interpolated, which is named so.
    (only,) = [p for p in found if "_Eq" not in p.get_filename() and "_Tilt" not in p.get_filename()]
    assert only.shape[2] == slices
    assert only.header.get_zooms()[2] == pytest.approx(between, abs=1e-3)
