"""What a path holds, as cases that a bundle can be run on: one study, one picture, or a folder of pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from clinibundle.bundle.description import Bundle
from clinibundle.checks import Check
from clinibundle.console import Talk
from clinibundle.dicom.archive import is_zip, unpacked
from clinibundle.dicom.header import is_dicomdir, looks_like_dicom
from clinibundle.dicom.header_cache import HeaderCache
from clinibundle.dicom.index import NOT_THERE, Index, Instance, index_study
from clinibundle.dicom.radiograph import read_radiograph
from clinibundle.dicom.read_volume import read_volume
from clinibundle.dicom.rules import DicomWishes
from clinibundle.dicom.select import Candidate, Choice, choose
from clinibundle.dicom.values import text
from clinibundle.errors import BundleError, UnreadableInput, UnsuitableInput
from clinibundle.files import short_hash
from clinibundle.pictures.read import case_name, is_picture, read_picture
from clinibundle.volume import Volume

# A CT that shows a body, or part of one in air.
_AIR_AT_MOST_HU = -200


@dataclass(frozen=True)
class Case:
    """Something to segment: its name, and how to read it when its turn comes."""

    name: str
    read: Callable[[], tuple[Volume, Choice | None]]


@dataclass(frozen=True)
class DicomOptions:
    """How a study is read.

    Attributes:
        series: the series UID to take, with `#2` behind it for the second volume of a series; None to have it chosen.
        every_study: each study is a case of its own; otherwise there has to be one choice.
        correct_tilt: volumes of a tilted gantry are straightened rather than refused.
    """

    series: str | None = None
    every_study: bool = False
    correct_tilt: bool = False


@contextmanager
def opened(path: Path, talk: Talk) -> Iterator[Path]:
    """The input itself; of a zip, a temporary folder with its files that is gone afterwards.

    Raises:
        UnreadableInput: if there is nothing at `path`, or the zip is damaged or unsafe.
    """
    if not path.exists():
        raise UnreadableInput(f"there is nothing at '{path}'; name a file or folder that exists")
    if not path.is_file() and not path.is_dir():
        raise UnreadableInput(f"'{path}' is neither a file nor a folder; name one")
    if path.is_dir() or not is_zip(path):
        yield path
        return
    talk.stage("unpacking the zip")
    with unpacked(path) as folder:
        yield folder


def whole_input(path: Path) -> Path:
    """What an input takes up: of a DICOMDIR its folder, which it lists; else the path itself."""
    return path.parent if path.is_file() and is_dicomdir(path) else path


def say_choice(choice: Choice | None, talk: Talk) -> None:
    """Which series was taken and why, and why not the others; where there was something to choose."""
    if choice is None or len(choice.candidates) == 1:
        return
    talk.stage(f"series {choice.chosen.series} of {len(choice.candidates)}: {choice.chosen.why}")
    for other in choice.candidates:
        if other is not choice.chosen:
            talk.stage(f"  not {other.series}: {other.why}")


def read_index(path: Path, talk: Talk, use_cache: bool = False) -> Index:
    """The headers of all files, with progress; from the cache where that is enough.

    Raises:
        UnreadableInput: if there is nothing at `path`.
    """
    place = whole_input(path)
    count = sum(len(files) for _, _, files in os.walk(place)) if place.is_dir() else 1
    with talk.progress("reading headers", count) as advance:
        return index_study(path, advance, HeaderCache() if use_cache else None)


def find_cases(path: Path, bundle: Bundle, options: DicomOptions, talk: Talk) -> list[Case]:
    """The cases at a path.

    Args:
        path: a DICOM file or folder, a picture, or a folder of pictures.
        bundle: that will be run.
        options: for DICOM.
        talk: progress goes there.

    Raises:
        UnreadableInput: if there is nothing that can be read.
        UnsuitableInput: if it is DICOM and the bundle takes none.
    """
    if path.is_file() and is_picture(path) and not looks_like_dicom(path):
        return [_picture_case(path, bundle)]
    if path.is_dir():
        pictures = sorted(p for p in path.iterdir() if p.is_file() and is_picture(p) and not p.name.startswith("."))
        if pictures and not any(looks_like_dicom(p) for p in path.rglob("*") if p.is_file()):
            return [_picture_case(picture, bundle) for picture in pictures]
    elif not looks_like_dicom(path):
        raise UnreadableInput(f"'{path.name}' is neither DICOM nor a picture we read (PNG, JPEG, TIFF, BMP, NIfTI)")
    index = read_index(path, talk)
    if bundle.dicom is None:
        raise UnsuitableInput(f"the bundle '{bundle.name}' takes pictures, not DICOM; convert the study first")
    if not options.every_study or not index.instances:
        return [_dicom_case("study", index, bundle.dicom, options)]
    studies: dict[str, list[Instance]] = {}
    for instance in index.instances:
        studies.setdefault(text(instance.header, "StudyInstanceUID") or "unknown", []).append(instance)
    return [
        _dicom_case(short_hash(uid), replace(index, instances=tuple(members), skipped=()), bundle.dicom, options)
        for uid, members in sorted(studies.items())
    ]


def _picture_case(path: Path, bundle: Bundle) -> Case:
    name = case_name(path)
    # Names that older systems wrote in another encoding cannot be written into a report or table.
    shown = name.encode("utf-8", "replace").decode()

    def read() -> tuple[Volume, Choice | None]:
        if shown != name:
            raise UnreadableInput(f"the file name '{shown}' has letters in an unknown encoding; rename the file")
        volume = read_picture(path, bundle.spatial_dims, bundle.channels)
        wants_hounsfield = bundle.dicom is not None and bundle.dicom.units == "hounsfield"
        return (taken_as_hounsfield(volume) if wants_hounsfield else volume), None

    return Case(shown, read)


def taken_as_hounsfield(volume: Volume) -> Volume:
    """A volume of a file that does not say its units, as a bundle that wants Hounsfield units takes it.

    Raises:
        UnsuitableInput: if no value is below 0, as in CT stored with an offset.
    """
    low, high = round(float(volume.array.min())), round(float(volume.array.max()))
    if low >= 0:
        raise UnsuitableInput(
            f"the values of '{volume.source.case}' run from {low} to {high}; Hounsfield units are expected, in which "
            "air lies at -1000: subtract the offset that they were stored with"
        )
    detail = "the file does not say its units; Hounsfield units are assumed"
    status: Literal["passed", "warning"] = "passed" if low <= _AIR_AT_MOST_HU else "warning"
    if status == "warning":
        detail += f", though no air is seen (lowest value {low})"
    check = Check("hounsfield_units", status, [low, high], None, detail)
    return replace(volume, meaning="hounsfield").with_checks(check)


def _dicom_case(name: str, index: Index, wishes: DicomWishes, options: DicomOptions) -> Case:
    def read() -> tuple[Volume, Choice | None]:
        choice = choose(index, wishes, options.series, options.correct_tilt)
        volume = _read_chosen(choice.chosen, wishes)
        checks = choice.chosen.checks()
        # What a DICOMDIR lists and is missing has a check of its own.
        left_out = sum(skipped.reason != NOT_THERE for skipped in index.skipped)
        if left_out:
            detail = f"{left_out} files of the input were left out: no DICOM images, damaged, or second copies"
            checks.append(Check("left_out", "warning", left_out, 0, detail))
        checks += missing_checks(index, choice.chosen)
        return volume.with_checks(*checks), choice

    return Case(name, read)


def missing_checks(index: Index, chosen: Candidate) -> list[Check]:
    """A volume with slices missing at its ends looks whole; only a DICOMDIR knows better."""
    uid = chosen.key.partition("#")[0]
    missing = [file for file in index.missing if file.series_instance_uid in ("", uid)]
    if not missing:
        return []
    detail = f"the DICOMDIR lists {len(missing)} more images of this series, which are not there: it is incomplete"
    return [Check("missing_files", "warning", len(missing), 0, detail)]


def _read_chosen(chosen: Candidate, wishes: DicomWishes) -> Volume:
    if chosen.instance is not None:
        return read_radiograph(chosen.instance)
    if chosen.placed is None:
        raise BundleError("a volume without geometry was chosen; please report this")
    files = {one.instance.path for one in chosen.placed.slices}
    if len(files) > 1 and len(files) < len(chosen.placed.slices):
        raise UnsuitableInput(
            f"series {chosen.series}: its frames lie in {len(files)} multi-frame files, and no SEG can refer to all of "
            "them; expected one file, export the series as single-frame files or as one"
        )
    volume = read_volume(chosen.placed, fill_padding=True)
    if wishes.units == "hounsfield" and volume.meaning != "hounsfield":
        units = next(check for check in volume.checks if check.name == "units")
        raise UnsuitableInput(
            f"series {chosen.series}: {units.detail or 'its values are not Hounsfield units'}; "
            "this bundle needs Hounsfield units, choose a CT series with a rescale"
        )
    return volume
