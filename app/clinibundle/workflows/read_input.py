"""What a path holds, as cases that a bundle can be run on: one study, one picture, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clinibundle.bundle.description import Bundle
from clinibundle.checks import Check
from clinibundle.dicom.header import looks_like_dicom
from clinibundle.dicom.index import Index, index_study
from clinibundle.dicom.radiograph import read_radiograph
from clinibundle.dicom.select import Choice, choose
from clinibundle.errors import UnreadableInput, UnsuitableInput
from clinibundle.files import short_hash
from clinibundle.pictures.read import case_name, is_picture, read_picture
from clinibundle.volume import Volume


@dataclass(frozen=True)
class Case:
    """Something to segment: its name, and how to read it when its turn comes."""

    name: str
    read: Callable[[], tuple[Volume, Choice | None]]


def find_cases(path: Path, bundle: Bundle, series_uid: str | None = None, every_study: bool = False) -> list[Case]:
    """The cases at a path.

    Args:
        path: a DICOM file or folder, a picture, or a folder of pictures.
        bundle: that will be run.
        series_uid: only this DICOM series.
        every_study: each study of a DICOM folder is a case of its own; otherwise there has to be one choice.

    Raises:
        UnreadableInput: if there is nothing that can be read.
        UnsuitableInput: if it is DICOM and the bundle takes none.
    """
    if not path.exists():
        raise UnreadableInput(f"there is nothing at '{path}'; name a file or folder that exists")
    if path.is_file() and is_picture(path) and not looks_like_dicom(path):
        return [_picture_case(path, bundle)]
    if path.is_dir():
        pictures = sorted(p for p in path.iterdir() if p.is_file() and is_picture(p) and not p.name.startswith("."))
        if pictures and not any(looks_like_dicom(p) for p in path.rglob("*") if p.is_file()):
            return [_picture_case(picture, bundle) for picture in pictures]
    elif not looks_like_dicom(path):
        raise UnreadableInput(f"'{path.name}' is neither DICOM nor a picture we read (PNG, JPEG, TIFF, BMP, NIfTI)")
    index = index_study(path)
    if bundle.dicom is None:
        raise UnsuitableInput(f"the bundle '{bundle.name}' takes pictures, not DICOM; convert the study first")
    if not every_study or not index.instances:
        return [_dicom_case("study", index, bundle, series_uid)]
    studies: dict[str, list[int]] = {}
    for number, instance in enumerate(index.instances):
        studies.setdefault(str(instance.header.get("StudyInstanceUID", "unknown")), []).append(number)
    return [
        _dicom_case(short_hash(uid), Index(tuple(index.instances[n] for n in numbers), ()), bundle, series_uid)
        for uid, numbers in sorted(studies.items())
    ]


def _picture_case(path: Path, bundle: Bundle) -> Case:
    name = case_name(path)
    # Names that older systems wrote in another encoding cannot be written into a report or table.
    shown = name.encode("utf-8", "replace").decode()

    def read() -> tuple[Volume, Choice | None]:
        if shown != name:
            raise UnreadableInput(f"the file name '{shown}' has letters in an unknown encoding; rename the file")
        return read_picture(path, bundle.spatial_dims, bundle.channels), None

    return Case(shown, read)


def _dicom_case(name: str, index: Index, bundle: Bundle, series_uid: str | None) -> Case:
    def read() -> tuple[Volume, Choice | None]:
        if bundle.dicom is None:
            raise UnsuitableInput(f"the bundle '{bundle.name}' takes pictures, not DICOM; convert the study first")
        choice = choose(index, bundle.dicom, series_uid)
        volume = read_radiograph(choice.chosen.instance)
        checks = choice.chosen.checks()
        if index.skipped:
            detail = (
                f"{len(index.skipped)} files of the input were left out: no DICOM images, damaged, or second copies"
            )
            checks.append(Check("left_out", "warning", len(index.skipped), 0, detail))
        return volume.with_checks(*checks), choice

    return Case(name, read)
