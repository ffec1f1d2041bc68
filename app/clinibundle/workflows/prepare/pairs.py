"""Pictures or volumes and their labels, named alike, into a data folder.

`images/` stands beside `labels/` or `masks/`, and `a.png` belongs to `a.png`, `a.tif` or `a_mask.png`; or one folder
holds both, and `a.nii.gz` belongs to `a_seg.nii.gz`. Either lies in the named folder or one below it. Files are taken
over as they are, whatever their labels mean, but for labels that were saved as colour pictures without having colours.
Of volumes (NIfTI) all are looked at before one is taken. Every picture counts as a patient of its own: where that is
not so, the groups of `datalist.json` must be mended by hand, and folds given by them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from clinibundle.errors import UnreadableInput, UnsuitableInput
from clinibundle.pictures.read import NIFTI_SUFFIXES, PICTURE_SUFFIXES, case_name, is_picture
from clinibundle.workflows.folds import NUMBER_OF_FOLDS, fold_by_hash
from clinibundle.workflows.prepare.grey import write_png
from clinibundle.workflows.prepare.plan import (
    LeaveOut,
    NotThisLayout,
    Origin,
    Plan,
    Remark,
    SourceCase,
    Written,
    files_in,
    shallowest_folder,
)
from clinibundle.workflows.prepare.volumes import problems_of_volumes, spacing_mm
from clinibundle.workflows.stored import read_stored

_LABEL_FOLDERS = ("labels", "masks")
_LABEL_ENDINGS = ("_mask", "_seg", "_label")
_ByName = dict[str, list[Path]]


@dataclass(frozen=True)
class _Named:
    """Pictures and labels by the name that they have in common, and files that are neither."""

    pictures: _ByName
    labels: _ByName
    others: Sequence[Path]

    @property
    def pairs(self) -> dict[str, tuple[Path, Path]]:
        """Where a name is that of one picture and one label; a name of several is nobody's."""
        return {
            name: (pictures[0], self.labels[name][0])
            for name, pictures in self.pictures.items()
            if len(pictures) == 1 and len(self.labels.get(name, ())) == 1
        }


def image_label_pairs(origin: Origin) -> Plan:
    """Finds pictures and labels, and pairs them by name.

    Raises:
        NotThisLayout: if they are not there, or have no name in common.
        UnsuitableInput: if there are several such folders, or the source has a list of its own.
    """
    source = origin.folder
    for find in (_in_two_folders, _in_one_folder):
        root = shallowest_folder(source, 1, lambda folder, find=find: bool(find(folder).pairs))  # type: ignore[misc]
        if root is not None:
            break
    else:
        raise NotThisLayout(
            "images/ beside labels/ or masks/ with the same names, or a.nii.gz beside a_seg, a_label or a_mask"
        )
    if (root / "datalist.json").exists():
        raise UnsuitableInput(f"'{root}' is a data folder with a list of its own already; use it as --dataset-dir")
    named = find(root)
    cases = [SourceCase(name, image, (label,)) for name, (image, label) in named.pairs.items()]
    volumes = [case for case in cases if _is_volume(case)]
    return Plan(
        found=f"pictures and labels of the same names in '{root.relative_to(source).as_posix()}'",
        cases=cases,
        left_out=_without_counterpart(source, named),
        write=lambda case, folder: (_write_volume if _is_volume(case) else _write)(origin, case, folder),
        folds=_folds,
        header={
            "description": "Pictures and labels paired by name; each picture is a group.",
            "n_folds": NUMBER_OF_FOLDS,
        },
        find_problems=lambda: problems_of_volumes(volumes, _folds(volumes), origin.label_values, source, origin.talk),
    )


def _in_two_folders(folder: Path) -> _Named:
    images = folder / "images"
    labels = next((folder / name for name in _LABEL_FOLDERS if (folder / name).is_dir()), folder / _LABEL_FOLDERS[0])
    others = [path for path in (*files_in(images, ("",)), *files_in(labels, ("",))) if not is_picture(path)]
    return _named(files_in(images, PICTURE_SUFFIXES), files_in(labels, PICTURE_SUFFIXES), others)


def _in_one_folder(folder: Path) -> _Named:
    files = files_in(folder, PICTURE_SUFFIXES)
    labels = [path for path in files if case_name(path).endswith(_LABEL_ENDINGS)]
    others = [path for path in files_in(folder, ("",)) if not is_picture(path)]
    return _named([path for path in files if path not in labels], labels, others)


def _named(pictures: Iterable[Path], labels: Iterable[Path], others: Sequence[Path]) -> _Named:
    named = _Named(defaultdict(list), defaultdict(list), others)
    for path in pictures:
        named.pictures[case_name(path)].append(path)
    for path in labels:
        name = case_name(path)
        ending = next((ending for ending in _LABEL_ENDINGS if name.endswith(ending)), "")
        named.labels[name if name in named.pictures else name.removesuffix(ending)].append(path)
    return named


def _without_counterpart(source: Path, named: _Named) -> list[Remark]:
    remarks = []
    pairs = named.pairs
    for files, others, missing in (
        (named.pictures, named.labels, "label"),
        (named.labels, named.pictures, "picture"),
    ):
        for name in files.keys() - pairs.keys():
            reason = "several files share its name" if name in others else f"no {missing} has its name"
            remarks += [Remark(path.relative_to(source).as_posix(), reason) for path in files[name]]
    for path in named.others:
        remarks.append(Remark(path.relative_to(source).as_posix(), "its ending is not that of a picture"))
    return sorted(remarks, key=lambda remark: remark.file)


def _folds(cases: Sequence[SourceCase]) -> dict[str, int]:
    return {case.name: fold_by_hash(case.name) for case in cases}


def _is_volume(case: SourceCase) -> bool:
    return all(path.name.lower().endswith(NIFTI_SUFFIXES) for path in (case.image, *case.masks))


def _write_volume(origin: Origin, case: SourceCase, folder: Path) -> Written:
    (mask,) = case.masks
    image, label = f"images/{case.name}{_ending(case.image)}", f"labels/{case.name}{_ending(mask)}"
    origin.take(case.image, folder / image)
    origin.take(mask, folder / label)
    return Written(image, label, facts={"spacing_mm": spacing_mm(folder / image)})


def _write(origin: Origin, case: SourceCase, folder: Path) -> Written:
    (mask,) = case.masks
    try:
        image, label = read_stored(case.image), read_stored(mask)
    except UnreadableInput as error:
        raise LeaveOut(str(error)) from error
    if image.spatial_shape != label.spatial_shape:
        sizes = (" × ".join(map(str, stored.spatial_shape)) for stored in (image, label))
        raise LeaveOut("the picture has {} pixels, its label {}".format(*sizes))
    image_name = f"images/{case.name}{_ending(case.image)}"
    origin.take(case.image, folder / image_name)
    if label.channels == 1:
        label_name = f"labels/{case.name}{_ending(mask)}"
        origin.take(mask, folder / label_name)
        return Written(image_name, label_name)
    values = label.array[..., :3] if label.channels >= 3 else label.array[..., :1]
    if label.array.ndim != 3 or (values != values[..., :1]).any():
        raise LeaveOut("its label is a colour picture; expected one number per pixel")
    label_name = f"labels/{case.name}.png"
    write_png(values[..., 0], folder / label_name)
    return Written(image_name, label_name, ("label was a colour picture without colours, saved as a grey one",))


def _ending(path: Path) -> str:
    return path.name[len(case_name(path)) :].lower()
