"""Reading a CT, all checks included, beside dcm2niix, GDCM, a plain pydicom loop and MONAI's readers; writing SEG."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks.lanes import Effort, Lane, Measured, Ratio, Section, per_turn, take_turns
from clinibundle.console import Talk
from clinibundle.dicom.codes import Algorithm, Code, Segment
from clinibundle.dicom.header import read_header
from clinibundle.dicom.index import index_study
from clinibundle.dicom.seg import write_seg
from clinibundle.dicom.seg_check import SourceGrid
from clinibundle.volume import Volume
from clinibundle.workflows.convert import ConvertOptions, convert, read_series

OURS, OURS_FILE = "ours, files to volume", "ours, files to .nii"
DCM2NIIX, PYDICOM, GDCM = "dcm2niix, files to .nii", "plain pydicom loop, no checks", "GDCM (itk), files to volume"
MONAI_PYDICOM, MONAI_ITK = "MONAI PydicomReader", "MONAI ITKReader"
_QUIET = Talk(quiet=True)
_SIDE = 512


def make_series(folder: Path, slices: int) -> Path:
    """A CT of random tissue, 512 x 512, a millimetre between slices; a hundred elements in each header."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    plane = rng.integers(-1024, 1500, (_SIDE, _SIDE)).astype(np.int16)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for k in range(slices):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        ds = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
        ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Benchmark", "B1", "", "O"
        ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20000101", "120000", "", "1"
        ds.Modality, ds.Manufacturer, ds.SeriesNumber, ds.InstanceNumber = "CT", "made up", 2, k + 1
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.ImagePositionPatient, ds.ImageOrientationPatient = [-180, -180, -float(k)], [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing, ds.SliceThickness, ds.PatientPosition = [0.7, 0.7], 1, "HFS"
        ds.Rows = ds.Columns = _SIDE
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "HU"
        block = ds.private_block(0x0019, "BENCHMARK", create=True)
        for number in range(60):
            block.add_new(number, "LO", f"private value {number}")
        ds.PixelData = np.roll(plane, k, axis=1).tobytes()
        ds.save_as(folder / f"{generate_uid()[-12:]}.dcm")
    return folder


def measure_dicom(effort: Effort, work: Path) -> list[Section]:
    """Series to volume, and a mask to a SEG that is read back."""
    slices = 400 if effort.runs else 60
    study = make_series(work / "ct", slices)
    return [_reading(study, slices, effort, work), _seg(study, slices, effort, work)]


def _reading(study: Path, slices: int, effort: Effort, work: Path) -> Section:
    lanes: dict[str, Lane] = {
        OURS: _timed(lambda: _volume(study)),
        OURS_FILE: _timed(lambda: convert(study, work / "ct.nii", ConvertOptions(overwrite=True), _QUIET)),
        PYDICOM: _timed(lambda: _plain_loop(study)),
        GDCM: _timed(lambda: _gdcm(study)),
        MONAI_PYDICOM: _timed(lambda: _monai(study, "PydicomReader")),
        MONAI_ITK: _timed(lambda: _monai(study, "ITKReader")),
        "headers alone (studies)": _timed(lambda: index_study(study)),
    }
    if shutil.which("dcm2niix"):
        lanes[DCM2NIIX] = _timed(lambda: _dcm2niix(study, work / "dcm2niix"))
    samples = take_turns(lanes, effort.inference_turns)
    ratios = [
        Ratio(f"{name} / ours, files to volume", per_turn(samples, name, OURS), aim)
        for name, aim in ((PYDICOM, None), (GDCM, None), (MONAI_PYDICOM, 15), (MONAI_ITK, 15))
    ]
    if DCM2NIIX in samples:
        ratios.insert(0, Ratio("dcm2niix / ours, files to .nii", per_turn(samples, DCM2NIIX, OURS_FILE), 1))
    how = (
        f"{slices} uncompressed slices of 512 x 512 in the system's cache, in this process but for dcm2niix, which is "
        "a process of its own (Python's own start is not counted). Ours chooses the series and passes the gate; "
        "the others check less or nothing."
    )
    return Section(f"Reading a CT of {slices} slices", how, [Measured(n, v, "s") for n, v in samples.items()], ratios)


def _seg(study: Path, slices: int, effort: Effort, work: Path) -> Section:
    volume = _volume(study)
    x, y, z = np.ogrid[:_SIDE, :_SIDE, : volume.array.shape[2]]
    ball = ((x - 256) / 150) ** 2 + ((y - 256) / 150) ** 2 + ((z - slices / 2) / (slices / 2)) ** 2 <= 1
    label_map = np.ascontiguousarray(ball.T.astype(np.uint8))
    code = Code(value="85756007", scheme="SCT", meaning="Tissue")
    segments = [Segment(label=1, name="Ball", category=code, type=code)]
    algorithm = Algorithm(name="benchmark", version="1.0.0", weights_sha256="0" * 64, software_version="0")

    def write() -> None:
        grid = SourceGrid([read_header(path) for path in volume.source.paths], (), volume.affine_lps)
        write_seg(work / "seg.dcm", label_map, grid, segments, algorithm)

    samples = take_turns({"SEG": _timed(write)}, min(effort.inference_turns, 3))
    how = "A ball of one segment: source headers read, SEG written, read back and compared frame by frame."
    values = samples["SEG"]
    ratios = [Ratio("5 s for 300 frames / ours", [5 * slices / 300 / value for value in values], 1)]
    return Section(f"Writing a SEG on {slices} slices", how, [Measured("SEG", values, "s")], ratios)


def _timed(work: Callable[[], Any]) -> Lane:
    def lane(_turn: int) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return lane


def _volume(study: Path) -> Volume:
    return read_series(index_study(study), ConvertOptions(), _QUIET)


def _dcm2niix(study: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    command = ["dcm2niix", "-z", "n", "-b", "n", "-o", str(folder), str(study)]
    subprocess.run(command, capture_output=True, check=True)


def _plain_loop(study: Path) -> np.ndarray:
    slices = [pydicom.dcmread(path) for path in study.iterdir()]
    slices.sort(key=lambda ds: float(ds.ImagePositionPatient[2]))
    return np.stack([ds.pixel_array for ds in slices])


def _gdcm(study: Path) -> Any:
    import itk

    names = itk.GDCMSeriesFileNames.New()
    names.SetDirectory(str(study))
    uid = names.GetSeriesUIDs()[0]
    return itk.GetArrayFromImage(itk.imread(list(names.GetFileNames(uid)), itk.SS))


def _monai(study: Path, reader: str) -> Any:
    from monai.transforms import LoadImage

    return LoadImage(reader=reader, image_only=True)(str(study))
