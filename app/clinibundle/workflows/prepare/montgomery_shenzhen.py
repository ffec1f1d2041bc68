"""The Montgomery and Shenzhen chest radiographs with lung masks, as they are given out, into a data folder.

Sources:
    Pictures and Montgomery masks: U.S. National Library of Medicine, Lister Hill National Center for Biomedical
    Communications, "Montgomery County X-ray Set" and "Shenzhen Hospital X-ray Set". S. Jaeger et al., "Automatic
    tuberculosis screening using chest radiographs", IEEE TMI 33(2), 2014; S. Candemir et al., "Lung segmentation in
    chest radiographs using anatomical atlases with nonrigid registration", IEEE TMI 33(2), 2014; S. Jaeger et al.,
    "Two public chest X-ray datasets for computer-aided screening of pulmonary diseases", Quant Imaging Med Surg 4(6),
    2014. For research, with the request to cite these.
    Shenzhen masks: S. Stirenko et al., "Chest X-ray analysis of tuberculosis by deep learning with segmentation and
    augmentation", 2018; CC BY-NC-SA 4.0.
    Both together, 704 pictures with masks: the Kaggle set "Chest Xray Masks and Labels" (nikhilpandey360).
    Checksums of these archives are not known to us; nothing is compared with them.

Layouts, below the named folder or up to three folders deeper (`data/Lung Segmentation/`, say):
    Kaggle: `CXR_png/` or `images/` with `CHNCXR_0001_0.png` and `MCUCXR_0001_0.png`; `masks/` with
    `CHNCXR_0001_0_mask.png` and `MCUCXR_0001_0.png`. Pictures without a mask are part of it, and left out here.
    Montgomery's own: `MontgomerySet/CXR_png`, `MontgomerySet/ManualMask/leftMask` and `rightMask`, joined into one.

The last digit of a name is 1 for tuberculosis. The outlines leave out the lung behind the heart. The texts in
`ClinicalReadings/` are not read: age and sex are patients' data that segmentation has no use for.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from clinibundle.errors import UnreadableInput
from clinibundle.workflows.folds import NUMBER_OF_FOLDS, balanced_folds
from clinibundle.workflows.prepare.grey import fitted_mask, grey_of, mask_of, write_png
from clinibundle.workflows.prepare.plan import (
    LeaveOut,
    NotThisLayout,
    Plan,
    Remark,
    SourceCase,
    Written,
    files_in,
    shallowest_folder,
)
from clinibundle.workflows.stored import read_stored

_NAME = re.compile(r"(CHN|MCU)CXR_\d{4}_[01]")
_HOSPITALS = {"CHN": "shenzhen", "MCU": "montgomery"}
_PICTURE_FOLDERS = ("CXR_png", "images")
_DEPTH = 3
_EXPECTED = (
    "CXR_png/ or images/ beside masks/ with names such as CHNCXR_0001_0.png and CHNCXR_0001_0_mask.png, "
    "or MontgomerySet/ with CXR_png/ and ManualMask/leftMask and rightMask"
)
_HEADER = {
    "description": "Frontal chest radiographs with lung-field masks: Montgomery County (USA) and Shenzhen (China).",
    "modality": "DX (chest radiograph)",
    "licence": "Masks of the Shenzhen pictures: CC BY-NC-SA 4.0 (non-commercial). Pictures and Montgomery masks: "
    "released by the U.S. National Library of Medicine for research, citation asked for.",
    "label_values": {"0": "background", "255": "lung field (both lungs), without the part behind the heart"},
    "n_folds": NUMBER_OF_FOLDS,
}


def montgomery_shenzhen(source: Path) -> Plan:
    """Finds one of the two layouts.

    Raises:
        NotThisLayout: if there is none.
        UnsuitableInput: if there are several side by side.
    """
    if root := shallowest_folder(source, _DEPTH, lambda folder: _is_set(folder, (folder / "masks",))):
        mask_folders: tuple[Path, ...] = (root / "masks",)
    elif root := shallowest_folder(source, _DEPTH, lambda folder: _is_set(folder, _hand_masks(folder))):
        mask_folders = _hand_masks(root)
    else:
        raise NotThisLayout(_EXPECTED)
    pictures = _named(_picture_folder(root))
    masks = [_named(folder) for folder in mask_folders]
    cases = [
        SourceCase(name, path, tuple(found[name] for found in masks), _facts(name))
        for name, path in pictures.items()
        if all(name in found for found in masks)
    ]
    place = root.relative_to(source).as_posix()
    return Plan(
        found=f"Montgomery and Shenzhen radiographs in '{place}'",
        cases=cases,
        left_out=_without_counterpart(source, root, pictures, masks),
        write=_write,
        folds=_folds,
        header=_HEADER,
    )


def _hand_masks(folder: Path) -> tuple[Path, ...]:
    return (folder / "ManualMask" / "leftMask", folder / "ManualMask" / "rightMask")


def _is_set(folder: Path, mask_folders: Sequence[Path]) -> bool:
    return all(masks.is_dir() for masks in mask_folders) and bool(_named(_picture_folder(folder)))


def _picture_folder(root: Path) -> Path:
    return next((root / name for name in _PICTURE_FOLDERS if _named(root / name)), root / _PICTURE_FOLDERS[0])


def _named(folder: Path) -> dict[str, Path]:
    """The set's pictures or masks in a folder by the name of the case; other files are none of ours."""
    stems = {path.stem.removesuffix("_mask"): path for path in files_in(folder, (".png",))}
    return {stem: path for stem, path in stems.items() if _NAME.fullmatch(stem)}


def _without_counterpart(
    source: Path, root: Path, pictures: Mapping[str, Path], masks: Sequence[Mapping[str, Path]]
) -> list[Remark]:
    remarks = []
    for path in files_in(_picture_folder(root), (".png",)):
        if path not in pictures.values():
            remarks.append(
                Remark(_place(source, path), "its name is not of the form CHNCXR_0001_0.png or MCUCXR_0001_0.png")
            )
        elif missing := sum(path.stem not in found for found in masks):
            few = "no mask" if missing == len(masks) else "the mask of one lung only"
            remarks.append(Remark(_place(source, path), f"the set has {few} for this picture"))
    lonely = {path for found in masks for name, path in found.items() if name not in pictures}
    remarks += [Remark(_place(source, path), "the set has no picture for this mask") for path in sorted(lonely)]
    return remarks


def _place(source: Path, path: Path) -> str:
    return path.relative_to(source).as_posix()


def _facts(name: str) -> dict[str, object]:
    return {
        "source_hospital": _HOSPITALS[name[:3]],
        "tuberculosis": name.endswith("1"),
        "convention": "heart_excluded",
    }


def _folds(cases: Sequence[SourceCase]) -> dict[str, int]:
    return balanced_folds(
        {case.name: (case.facts["source_hospital"], str(case.facts["tuberculosis"])) for case in cases}
    )


def _write(case: SourceCase, folder: Path) -> Written:
    image, label = f"images/{case.name}.png", f"labels/{case.name}.png"
    try:
        stored = read_stored(case.image, palette_as_colours=True)
        masks = [read_stored(path, palette_as_colours=True) for path in case.masks]
    except UnreadableInput as error:
        raise LeaveOut(str(error)) from error
    grey, notes = grey_of(stored)
    joined = np.zeros_like(grey)
    for mask in masks:
        inside, mask_notes = mask_of(mask)
        fitted, size_notes = fitted_mask(inside, grey.shape)
        joined |= fitted
        notes += (*mask_notes, *size_notes)
    if grey is stored.array:
        shutil.copyfile(case.image, folder / image)
    else:
        write_png(grey, folder / image)
    write_png(joined, folder / label)
    return Written(image, label, notes)
