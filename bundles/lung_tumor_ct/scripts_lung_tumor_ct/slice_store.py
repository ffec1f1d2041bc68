"""Scans as stacks of slices on disk, read slice by slice without decoding: written once, made anew when outdated.

MONAI's `PersistentDataset` keeps one whole volume a file, so that drawing one slice would read all of them.
"""

from __future__ import annotations

import hashlib
import json
import uuid
import zlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage, Orientation, Resize, Spacing
from numpy.typing import NDArray

from .datalist import PICTURE_OFFSET_HU, is_picture, scans_of, slice_number
from .zones import TUMOUR, find_zones

# Counted up when what is written changes, so that older stores are made anew.
_VERSION = 1
# Of pictures that do not state theirs, where nothing is resampled; it only tells what is near the lungs.
_USUAL_PIXEL_MM = 1.4
# Corners of image and label may lie this far apart: headers are rounded, grids are not.
_SAME_PLACE_MM = 0.1


class Recipe(NamedTuple):
    """How slices are resampled; see `store_slices`."""

    spacing_mm: float | None
    slice_size: tuple[int, ...] | None
    slice_distance_mm: float | None


def store_slices(
    rows: Sequence[dict[str, Any]],
    store_dir: str | Path,
    spacing_mm: float | None = None,
    slice_size: Sequence[int] | None = None,
    leave_out_lowest: int = 0,
    slice_distance_mm: float | None = None,
) -> list[dict[str, Any]]:
    """Puts every scan into the store, unless it is there already, and lists all slices.

    Slices lie as in LPS, axes (x, y). Within their plane they are resampled to `spacing_mm` (linearly, the label too,
    which is cut at one half; pictures whose spacing is not known stay as they are), or squeezed to `slice_size`
    (linearly, the label by the nearest pixel), or stay as they are.

    Args:
        rows: of `datalist.read_rows`.
        store_dir: the store's folder; a scan's files are named by a fingerprint of its sources and of this recipe.
        spacing_mm: pixel size that the network sees.
        slice_size: [columns, rows] that the network sees, whatever their size in millimetres.
        leave_out_lowest: so many slices of each volume, counted from the feet, are not listed.
        slice_distance_mm: of volumes, with `spacing_mm`; None keeps their own, and nothing is resampled between slices.

    Returns:
        Rows with `store` (path without ending), `slice` (its place in the store), `group`, `tumour` (whether there is
        some in the slice).

    Raises:
        ValueError: if image and label of a scan lie on different grids, its pictures differ in size, two rows are the
            same slice, or no slice is left.
    """
    folder = Path(store_dir)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(spacing_mm, None if slice_size is None else tuple(slice_size), slice_distance_mm)
    listed = []
    for scan in scans_of(rows):
        path = folder / _fingerprint(scan, recipe)
        facts = _facts(path)
        if facts is None:
            facts = _write(path, scan, recipe)
        skipped = 0 if is_picture(scan[0]["image"]) else leave_out_lowest
        for place in range(skipped, len(facts["indices"])):
            listed.append(
                {
                    "store": str(path),
                    "slice": place,
                    "group": str(scan[0].get("group", path.name)),
                    "tumour": bool(facts["tumour_px"][place]),
                }
            )
    if not listed:
        raise ValueError(f"no slice is left: no volume has more than the {leave_out_lowest} that are left out")
    return listed


def read_facts(store: str) -> dict[str, Any]:
    """Facts of a stored scan: `indices` (slice numbers, neighbours differ by one) and `slice_distance_mm`, if known."""
    content: dict[str, Any] = json.loads(Path(store + ".json").read_text(encoding="utf-8"))
    return content


def _fingerprint(scan: Sequence[dict[str, Any]], recipe: Recipe) -> str:
    sources = []
    for row in scan:
        stats = [Path(row[kind]).stat() for kind in ("image", "label")]
        files = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
        sources.append((row["image"], row["label"], files, row.get("spacing_mm"), row.get("original_slice_index")))
    return hashlib.sha256(json.dumps([_VERSION, recipe, sources]).encode()).hexdigest()[:24]


def _facts(path: Path) -> dict[str, Any] | None:
    """What is known of a stored scan; None if it is not there whole."""
    try:
        facts = read_facts(str(path))
        whole = all(_checksum(path, kind) == facts["crc32"][kind] for kind in ("image", "zones"))
    except (OSError, ValueError, KeyError):
        return None
    return facts if whole else None


def _checksum(path: Path, kind: str) -> int:
    return zlib.crc32(path.with_name(f"{path.name}_{kind}.npy").read_bytes())


def _write(path: Path, scan: Sequence[dict[str, Any]], recipe: Recipe) -> dict[str, Any]:
    image, label, pixel_mm, slice_distance_mm = _stack(scan, recipe)
    zones = np.stack([find_zones(*pair, pixel_mm) for pair in zip(image, label, strict=True)])
    for kind, values in (("image", image), ("zones", zones)):
        _save(path.with_name(f"{path.name}_{kind}.npy"), values)
    pictures = is_picture(scan[0]["image"])
    facts = {
        "indices": [slice_number(row) for row in scan] if pictures else list(range(len(image))),
        "slice_distance_mm": slice_distance_mm,
        "tumour_px": [int((zone == TUMOUR).sum()) for zone in zones],
        "crc32": {kind: _checksum(path, kind) for kind in ("image", "zones")},
    }
    # Last, so that a scan without it is not whole.
    _save(path.with_suffix(".json"), facts)
    return facts


def _save(path: Path, content: Any) -> None:
    """Written beside and renamed: several trainings may make the same store."""
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("xb") as stream:
            if isinstance(content, np.ndarray):
                np.save(stream, content)
            else:
                stream.write(json.dumps(content).encode())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _stack(
    scan: Sequence[dict[str, Any]], recipe: Recipe
) -> tuple[NDArray[np.int16], NDArray[np.bool_], tuple[float, float], float | None]:
    """Image and label as (slices, x, y) in LPS, their pixel size, and the distance of slices where it is known."""
    if is_picture(scan[0]["image"]):
        image, label = _pictures(scan, recipe.spacing_mm or _USUAL_PIXEL_MM)
        distance = None
    else:
        load = LoadImage(image_only=True, ensure_channel_first=True)
        image, label = (load(scan[0][key]).float() for key in ("image", "label"))
        _refuse_other_grid(scan[0]["image"], image, label)
        image, label = (Orientation("LPS", labels=None)(volume) for volume in (image, label))
        distance = float(torch.linalg.norm(image.affine[:3, 2]))
    label = (label > 0).float()
    if recipe.slice_size is not None:
        size = (*recipe.slice_size, image.shape[-1])
        image, label = Resize(size, mode="trilinear")(image), Resize(size, mode="nearest")(label)
    elif recipe.spacing_mm is not None:
        # -1 keeps the distance of slices.
        between = -1.0 if distance is None else recipe.slice_distance_mm or -1.0
        resample = Spacing((recipe.spacing_mm, recipe.spacing_mm, between), mode="bilinear", padding_mode="border")
        image, label = resample(image), resample(label)
        distance = None if distance is None else float(torch.linalg.norm(image.affine[:3, 2]))
    pixel_mm = tuple(float(torch.linalg.norm(image.affine[:3, axis])) for axis in (0, 1))
    hu = np.asarray(image[0].round().clamp(-32768, 32767), dtype=np.int16)
    stacks = [np.ascontiguousarray(np.moveaxis(values, 2, 0)) for values in (hu, np.asarray(label[0] > 0.5))]
    return stacks[0], stacks[1], (pixel_mm[0], pixel_mm[1]), distance


def _pictures(scan: Sequence[dict[str, Any]], unknown_spacing_mm: float) -> tuple[MetaTensor, MetaTensor]:
    """Pictures of a scan as (1, x, y, slices), with an affine that lays them out as they are seen: in LPS."""
    load = LoadImage(image_only=True, ensure_channel_first=True)
    loaded = []
    for row in scan:
        image, label = (load(row[key]).float() for key in ("image", "label"))
        _refuse_other_grid(row["image"], image, label)
        if loaded and image.shape != loaded[0][0].shape:
            raise ValueError(
                f"'{row['image']}' has {_size(image)} pixels and '{scan[0]['image']}' {_size(loaded[0][0])}: "
                "slices of one scan are of one size"
            )
        loaded.append((image.as_tensor(), label.as_tensor()))
    stacks = [torch.stack(slices, dim=-1) for slices in zip(*loaded, strict=True)]
    rows_mm, columns_mm = scan[0].get("spacing_mm") or [unknown_spacing_mm] * 2
    affine = torch.diag(torch.tensor([-columns_mm, -rows_mm, 1.0, 1.0], dtype=torch.float64))
    return MetaTensor(stacks[0] - PICTURE_OFFSET_HU, affine=affine), MetaTensor(stacks[1], affine=affine)


def _refuse_other_grid(path: str, image: MetaTensor, label: MetaTensor) -> None:
    """Refuses a label (1, x, y) or (1, x, y, z) of another size, or one that lies elsewhere by its affine."""
    if image.shape != label.shape:
        raise ValueError(
            f"'{path}' has {_size(image)} voxels and its label {_size(label)}: a label lies on the grid of its image"
        )
    # An affine is linear: no voxel moves farther than a corner does.
    corners = torch.tensor([[*corner, 1.0] for corner in product(*((0, n - 1) for n in (*image.shape[1:], 1)[:3]))])
    apart_mm = float(((image.affine - label.affine) @ corners.T.to(image.affine)).norm(dim=0).max())
    if not apart_mm <= _SAME_PLACE_MM:
        raise ValueError(
            f"'{path}' and its label lie up to {apart_mm:.3g} mm apart by their headers: a label lies on the grid of "
            "its image"
        )


def _size(image: torch.Tensor) -> str:
    size = " x ".join(map(str, image.shape[1:]))
    return size if len(image) == 1 else f"{size} (with {len(image)} channels)"
