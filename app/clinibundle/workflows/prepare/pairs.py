"""A folder with pictures and a folder with their labels, named alike, into a data folder.

`images/` stands beside `labels/` or `masks/`, in the named folder or one below it; `a.png` belongs to `a.png`,
`a.tif` or `a_mask.png`. Files are taken over as they are, whatever their labels mean, but for labels that were saved
as colour pictures without having colours. Every picture counts as a patient of its own: where that is not so, the
groups of `datalist.json` must be mended by hand, and folds given by them.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from clinibundle.errors import UnreadableInput, UnsuitableInput
from clinibundle.pictures.read import PICTURE_SUFFIXES, case_name, is_picture
from clinibundle.workflows.folds import NUMBER_OF_FOLDS, fold_by_hash
from clinibundle.workflows.prepare.grey import write_png
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

_LABEL_FOLDERS = ("labels", "masks")


def image_label_pairs(source: Path) -> Plan:
    """Finds the two folders and pairs their files by name.

    Raises:
        NotThisLayout: if they are not there, or have no name in common.
        UnsuitableInput: if there are several such folders, or the source has a list of its own.
    """
    root = shallowest_folder(source, 1, lambda folder: bool(_pairs_of(folder)))
    if root is None:
        raise NotThisLayout("images/ beside labels/ or masks/ with the same names")
    if (root / "datalist.json").exists():
        raise UnsuitableInput(f"'{root}' is a data folder with a list of its own already; use it as --dataset-dir")
    pairs = _pairs_of(root)
    return Plan(
        found=f"pictures and labels of the same names in '{root.relative_to(source).as_posix()}'",
        cases=[SourceCase(name, image, (label,)) for name, (image, label) in pairs.items()],
        left_out=_without_counterpart(source, root, pairs),
        write=_write,
        folds=_folds,
        header={
            "description": "Pictures and labels paired by name; each picture is a group.",
            "n_folds": NUMBER_OF_FOLDS,
        },
    )


def _pairs_of(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Name, picture and label where a name is that of one picture and one label; a name of several is nobody's."""
    images, labels = _by_name(folder / "images"), _labels_by_name(folder)
    return {
        name: (images[name][0], labels[name][0])
        for name in images
        if len(images[name]) == 1 and len(labels.get(name, ())) == 1
    }


def _without_counterpart(source: Path, root: Path, pairs: Mapping[str, object]) -> list[Remark]:
    images, labels = _by_name(root / "images"), _labels_by_name(root)
    remarks = []
    for files, others, missing in ((images, labels, "label"), (labels, images, "picture")):
        for name in files.keys() - pairs.keys():
            reason = "several files share its name" if name in others else f"no {missing} has its name"
            remarks += [Remark(path.relative_to(source).as_posix(), reason) for path in files[name]]
    for path in (*files_in(root / "images", ("",)), *files_in(_label_folder(root), ("",))):
        if not is_picture(path):
            remarks.append(Remark(path.relative_to(source).as_posix(), "its ending is not that of a picture"))
    return sorted(remarks, key=lambda remark: remark.file)


def _labels_by_name(folder: Path) -> dict[str, list[Path]]:
    return _by_name(_label_folder(folder), suffix="_mask")


def _label_folder(folder: Path) -> Path:
    return next((folder / name for name in _LABEL_FOLDERS if (folder / name).is_dir()), folder / _LABEL_FOLDERS[0])


def _by_name(folder: Path, suffix: str = "") -> dict[str, list[Path]]:
    files = defaultdict(list)
    for path in files_in(folder, PICTURE_SUFFIXES):
        files[case_name(path).removesuffix(suffix)].append(path)
    return files


def _folds(cases: Sequence[SourceCase]) -> dict[str, int]:
    return {case.name: fold_by_hash(case.name) for case in cases}


def _write(case: SourceCase, folder: Path) -> Written:
    (mask,) = case.masks
    try:
        image, label = read_stored(case.image), read_stored(mask)
    except UnreadableInput as error:
        raise LeaveOut(str(error)) from error
    if image.spatial_shape != label.spatial_shape:
        sizes = (" × ".join(map(str, stored.spatial_shape)) for stored in (image, label))
        raise LeaveOut("the picture has {} pixels, its label {}".format(*sizes))
    image_name = f"images/{case.name}{_ending(case.image)}"
    shutil.copyfile(case.image, folder / image_name)
    if label.channels == 1:
        label_name = f"labels/{case.name}{_ending(mask)}"
        shutil.copyfile(mask, folder / label_name)
        return Written(image_name, label_name)
    values = label.array[..., :3] if label.channels >= 3 else label.array[..., :1]
    if label.array.ndim != 3 or (values != values[..., :1]).any():
        raise LeaveOut("its label is a colour picture; expected one number per pixel")
    label_name = f"labels/{case.name}.png"
    write_png(values[..., 0], folder / label_name)
    return Written(image_name, label_name, ("label was a colour picture without colours, saved as a grey one",))


def _ending(path: Path) -> str:
    return path.name[len(case_name(path)) :].lower()
