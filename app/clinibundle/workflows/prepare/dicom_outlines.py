"""DICOM series with outlines drawn on them, SEG or RTSTRUCT, into a data folder of NIfTI pairs.

Objects are told apart and paired by their headers alone, wherever they lie below the source. A series passes the same
gate as one that is segmented. All outlines whose names fit are united to label 1.

Nothing of the patient goes along: cases are called by a hash of their series' UID, and the group of a patient's cases
by one of them. It is no hash of the PatientID: that is short enough to be found by trying all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clinibundle.checks import Check
from clinibundle.dicom.gate import place
from clinibundle.dicom.index import Index
from clinibundle.dicom.outlines import Grid
from clinibundle.dicom.read_volume import read_volume
from clinibundle.dicom.stacks import Stack, split_study
from clinibundle.dicom.values import text
from clinibundle.errors import ClinibundleError, GeometryError, UnsuitableInput
from clinibundle.files import short_hash
from clinibundle.pictures.nifti import write_nifti
from clinibundle.volume import Volume
from clinibundle.workflows.folds import NUMBER_OF_FOLDS
from clinibundle.workflows.prepare.outline_objects import OutlineObject, describe, is_outline_object, united_mask
from clinibundle.workflows.prepare.plan import (
    NotThisLayout,
    Origin,
    Plan,
    Remark,
    SourceCase,
    Written,
    folds_of_groups,
)
from clinibundle.workflows.read_input import read_index

_INT16 = np.iinfo(np.int16)
_DECIMALS = 6
_SHOWN_NAMES = 20
_HEADER = {
    "description": "DICOM series and the outlines drawn on them.",
    "label_values": {"0": "background", "1": "outlined"},
    "n_folds": NUMBER_OF_FOLDS,
}


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A volume and the objects with outlines on it."""

    stack: Stack
    objects: tuple[OutlineObject, ...]

    @property
    def shown(self) -> str:
        """The end of its series UID, as in `studies`."""
        return f"series …{self.stack.key[-8:]}"


def dicom_outlines(origin: Origin) -> Plan:
    """Finds the series and what is drawn on them.

    Raises:
        NotThisLayout: if there is neither SEG nor RTSTRUCT.
    """
    index = read_index(origin.folder, origin.talk)
    if not any(is_outline_object(instance) for instance in index.instances):
        raise NotThisLayout("DICOM series, and SEG or RTSTRUCT objects drawn on them")
    stacks, unusable = split_study(index.instances)
    drawn_on, refused = _paired(index, stacks)
    drawn = {
        short_hash(stack.key): _Drawn(stack, tuple(drawn_on[stack.key])) for stack in stacks if stack.key in drawn_on
    }
    left_out = [Remark(skipped.name, skipped.reason) for skipped in (*index.skipped, *unusable)]
    left_out += [
        Remark(_Drawn(stack, ()).shown, "nothing is drawn on it") for stack in stacks if stack.key not in drawn_on
    ]
    return Plan(
        found="DICOM series with outlines",
        cases=_cases(drawn),
        left_out=left_out,
        write=lambda case, folder: _write(case.name, drawn[case.name], origin.outline_names, index, folder),
        folds=folds_of_groups,
        header=_HEADER,
        refused=refused,
        side_by_side=False,
    )


def _paired(index: Index, stacks: Sequence[Stack]) -> tuple[dict[str, list[OutlineObject]], list[Remark]]:
    """Objects by the key of the volume they were drawn on, and those that are on none."""
    volumes_of: dict[str, set[str]] = defaultdict(set)
    for stack in stacks:
        volumes_of[stack.series_uid].add(stack.key)
        for one in stack.slices:
            volumes_of[text(one.instance.header, "SOPInstanceUID")].add(stack.key)
    drawn_on: dict[str, list[OutlineObject]] = defaultdict(list)
    refused: list[Remark] = []
    for instance in index.instances:
        if not is_outline_object(instance):
            continue
        try:
            found = describe(instance)
            drawn_on[_drawn_on(found, volumes_of)].append(found)
        except ClinibundleError as error:
            refused.append(Remark(instance.name, str(error)))
    return dict(drawn_on), refused


def _drawn_on(drawn: OutlineObject, volumes_of: Mapping[str, set[str]]) -> str:
    """The volume of which an object names most pictures; where it names none, the one of the series that it names."""
    named: Counter[str] = Counter()
    for uids in (drawn.images, drawn.series):
        if not named:
            named.update(key for uid in uids for key in volumes_of.get(uid, ()))
    best = named.most_common(2)
    if not best and not drawn.images | drawn.series:
        raise UnsuitableInput("it does not say which series it was drawn on; have it exported with its references")
    if not best:
        raise UnsuitableInput("the series that it was drawn on is not in the source; bring it along")
    if len(best) == 2 and best[0][1] == best[1][1]:
        raise UnsuitableInput(
            "it names as many pictures of one volume as of another; expected one volume, remove the one not meant"
        )
    return best[0][0]


def _cases(drawn: Mapping[str, _Drawn]) -> list[SourceCase]:
    patients: dict[str, str] = {}
    for name in sorted(drawn):
        patients.setdefault(_patient(drawn[name].stack), name)
    return [
        SourceCase(
            name,
            one.stack.slices[0].instance.path,
            tuple(found.instance.path for found in one.objects),
            group=patients[_patient(one.stack)],
            shown=one.shown,
        )
        for name, one in drawn.items()
    ]


def _patient(stack: Stack) -> str:
    """What tells patients apart, for this run alone; without a PatientID each study is one."""
    return text(stack.header, "PatientID") or "study " + text(stack.header, "StudyInstanceUID")


def _write(name: str, drawn: _Drawn, patterns: Sequence[str], index: Index, folder: Path) -> Written:
    chosen = _chosen(drawn, patterns, index)
    volume = _read(drawn)
    columns, rows, slices = volume.spatial_shape
    grid = Grid(np.asarray(volume.affine_lps), (slices, rows, columns), tuple(volume.source.sop_instance_uids))
    mask, checks = _outlined(chosen, grid)
    image, label = f"images/{name}.nii.gz", f"labels/{name}.nii.gz"
    write_nifti(folder / image, replace(volume, array=_stored(volume)))
    write_nifti(folder / label, replace(volume, array=mask.T.astype(np.uint8)))
    facts = {
        "modality": text(drawn.stack.header, "Modality"),
        "spacing_mm": [round(size, _DECIMALS) for size in volume.spacing_mm or ()],
    }
    notes = [check.detail for check in (*volume.checks, *checks) if check.status == "warning"]
    if not text(drawn.stack.header, "PatientID"):
        notes.append("its header has no PatientID: each study counts as a patient of its own")
    return Written(image, label, tuple(dict.fromkeys(notes)), facts)


def _chosen(drawn: _Drawn, patterns: Sequence[str], index: Index) -> dict[OutlineObject, list[int]]:
    """The outlines that are meant, by the objects that have some."""
    chosen = {found: numbers for found in drawn.objects if (numbers := found.matching(patterns))}
    if chosen:
        return chosen
    names = list(dict.fromkeys(index.shown(name) for found in drawn.objects for name in found.names.values()))
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN_NAMES]) or "none"
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    wanted = "one called " + " or ".join(f"'{pattern}'" for pattern in patterns) if patterns else "a single one"
    raise UnsuitableInput(f"its outlines are {shown}{more}, expected {wanted}; choose with --roi NAME")


def _read(drawn: _Drawn) -> Volume:
    placed = place(drawn.stack.slices, "the series", tilt_allowed=True)
    if placed.tilt_degrees:
        raise GeometryError(
            f"the gantry was tilted by {placed.tilt_degrees:.1f} degrees, expected slices straight behind each other; "
            "straighten series and outlines with `clinibundle convert --correct-tilt`, and prepare the NIfTI pair"
        )
    # Padding becomes air, as it does before the network sees a series.
    volume = read_volume(placed, fill_padding=True)
    if text(drawn.stack.header, "Modality").upper() == "CT" and volume.meaning != "hounsfield":
        raise UnsuitableInput(
            "its values are not known to be Hounsfield units, which a CT is expected to have; choose another series"
        )
    return volume


def _outlined(chosen: Mapping[OutlineObject, Sequence[int]], grid: Grid) -> tuple[NDArray[np.bool_], list[Check]]:
    """The voxels (slices, rows, columns) within the chosen outlines, and what was looked at.

    Raises:
        UnsuitableInput: if contours were lost, nothing is enclosed, or two objects say different things.
    """
    masks: list[NDArray[np.bool_]] = []
    checks: list[Check] = []
    for drawn, numbers in chosen.items():
        mask, looked = united_mask(drawn, numbers, grid)
        for check in looked:
            if check.name == "contour_slices" and check.status == "warning":
                raise UnsuitableInput(f"{check.detail}: the outline would have holes; export both together once more")
        masks.append(mask)
        checks += looked
    if any((mask != masks[0]).any() for mask in masks[1:]):
        names = ", ".join(f"'{drawn.instance.name}'" for drawn in chosen)
        raise UnsuitableInput(
            f"{len(masks)} objects outline it differently ({names}), expected one truth; remove those not meant, or "
            "choose with --roi NAME"
        )
    if not masks[0].any():
        raise UnsuitableInput("its outline encloses no voxel, expected at least one; draw it again or remove it")
    return masks[0], checks


def _stored(volume: Volume) -> NDArray[np.int16 | np.float32]:
    """Hounsfield units in whole numbers; what has no unit is not rounded."""
    values = volume.array
    if volume.meaning != "hounsfield" or values.dtype == np.int16:
        return np.asarray(values)
    rounded = np.rint(values)
    fits = _INT16.min <= rounded.min() and rounded.max() <= _INT16.max
    return rounded.astype(np.int16) if fits else np.asarray(values)
