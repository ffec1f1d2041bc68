"""What is wrong with the picture and the label of one case: both are decoded to the end."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Collection, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.errors import UnreadableInput
from clinibundle.workflows.check.listing import Case
from clinibundle.workflows.check.problem import Problem
from clinibundle.workflows.stored import Stored, read_stored

# Corners of image and label may lie this far apart: headers are rounded, grids are not.
_AFFINE_TOLERANCE_MM = 0.1
_VALUES_SHOWN = 8


@dataclass(frozen=True)
class Looked:
    """What was seen of a case.

    Attributes:
        case: the case.
        problems: of its files.
        fingerprint: hash of the picture's decoded values; None if it cannot be read or shows nothing.
    """

    case: Case
    problems: list[Problem]
    fingerprint: str | None


def look_at(case: Case, label_values: Sequence[AbstractSet[int]] | None) -> Looked:
    """Reads a case's files and holds them against each other.

    Args:
        case: the case.
        label_values: sets of values that a label may have; all of its values must be in one of them. None allows
            all whole numbers.
    """
    problems: list[Problem] = []
    image = _read(case, "image", problems)
    label = _read(case, "label", problems)
    fingerprint = None
    if image is not None:
        found = list(_problems_of_image(case.name, image))
        problems.extend(found)
        fingerprint = None if any(problem.kind == "constant_image" for problem in found) else _fingerprint(image.array)
    if label is not None:
        problems.extend(_problems_of_label(case.name, label, label_values))
    if image is not None and label is not None:
        problems.extend(_problems_of_pair(case.name, image, label))
    return Looked(case, problems, fingerprint)


def _read(case: Case, which: str, problems: list[Problem]) -> Stored | None:
    path = case.image if which == "image" else case.label
    if path is None:
        return None
    try:
        return read_stored(path)
    except UnreadableInput as error:
        problems.append(Problem(case.name, "unreadable", f"{which} {error}"))
        return None


def _problems_of_image(case: str, image: Stored) -> Iterator[Problem]:
    if image.array.size == 0 or image.array.min() == image.array.max():
        yield Problem(case, "constant_image", "all its values are the same: it shows nothing", "warning")
    elif not np.isfinite(image.array).all():
        count = int((~np.isfinite(image.array)).sum())
        yield Problem(
            case, "not_finite", f"{count} of its values are not a number or infinite; one such value spoils a training"
        )


def _problems_of_label(case: str, label: Stored, allowed: Sequence[AbstractSet[int]] | None) -> Iterator[Problem]:
    if label.channels != 1:
        yield Problem(
            case,
            "label_channels",
            f"its label has {label.channels} values per pixel, expected one; save it as a grey picture",
        )
        return
    values = np.unique(label.array)
    if not _fits(values, allowed):
        expected = "whole numbers" if allowed is None else " or ".join(_shown(sorted(one)) for one in allowed)
        yield Problem(case, "label_values", f"its label has the values {_shown(values.tolist())}, expected {expected}")
    elif not values.any():
        yield Problem(
            case,
            "empty_label",
            "its label is all background; remove the case if something was to be outlined",
            "warning",
        )


def _fits(values: NDArray[Any], allowed: Sequence[AbstractSet[int]] | None) -> bool:
    if allowed is None:
        return bool(np.isfinite(values).all() and (np.rint(values) == values).all())
    return any(set(values.tolist()) <= one for one in allowed)


def _problems_of_pair(case: str, image: Stored, label: Stored) -> Iterator[Problem]:
    if image.spatial_shape != label.spatial_shape:
        image_size, label_size = (" × ".join(map(str, stored.spatial_shape)) for stored in (image, label))
        yield Problem(
            case,
            "size_mismatch",
            f"the image has {image_size} pixels, its label {label_size}; they must lie on one grid",
        )
    elif image.affine is not None and label.affine is not None:
        apart = _corners_apart_mm(image.affine, label.affine, image.spatial_shape)
        if not apart <= _AFFINE_TOLERANCE_MM:
            detail = (
                f"image and label lie up to {apart:.3g} mm apart by their headers (limit {_AFFINE_TOLERANCE_MM} mm)"
            )
            yield Problem(case, "affine_mismatch", f"{detail}; resample the label to the image's grid")


def _corners_apart_mm(first: NDArray[np.float64], second: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    size = (*shape, 1, 1)[:3]
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, length - 1) for length in size))])
    return float(np.linalg.norm((corners @ (first - second).T)[:, :3], axis=1).max())


def _fingerprint(array: NDArray[Any]) -> str:
    digest = hashlib.blake2b(f"{array.shape} {array.dtype.newbyteorder('<').str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).data)
    return digest.hexdigest()


def _shown(values: Collection[Any]) -> str:
    first = ", ".join(f"{value:.6g}" for value in itertools.islice(values, _VALUES_SHOWN))
    return f"{{{first}, … {len(values)} in all}}" if len(values) > _VALUES_SHOWN else f"{{{first}}}"
