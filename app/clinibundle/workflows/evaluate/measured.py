"""One case measured: the bundle's own evaluation config run on it, and its two masks compared."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clinibundle.bundle.configs import read_config
from clinibundle.bundle.description import MEMBRANE_METRICS, Bundle, without_unit
from clinibundle.errors import BundleError, DataFolderError
from clinibundle.files import sha256_of
from clinibundle.geometry import spacing_of
from clinibundle.metrics.binary import Counts, Mask, binary_metrics, count_pixels
from clinibundle.pictures.read import NIFTI_SUFFIXES
from clinibundle.workflows.evaluate.lesions import ScanLesions, measure_scan
from clinibundle.workflows.evaluate.membranes import SectionScores, measure_section

if TYPE_CHECKING:
    import torch

_VOLUME_AXES = 3


@dataclass(frozen=True)
class Measured:
    """The numbers of one case; its masks are not kept.

    Attributes:
        facts: `case`, `group`, `fold`.
        metrics: by name, those that the bundle asks for, in the order of tables.
        counts: of its pixels.
        lesions: of a volume, if the bundle asks for them.
        section: of a section of electron microscopy, if the bundle asks for its scores.
        seconds: of reading, network and postprocessing.
    """

    facts: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    counts: Counts
    lesions: ScanLesions | None
    section: SectionScores | None
    seconds: float

    @property
    def group(self) -> str:
        """The patient, within whom cases resemble each other."""
        return str(self.facts["group"])

    @property
    def is_missed(self) -> bool:
        """Whether there was something to find and nothing was found."""
        return self.counts.has_truth and not self.counts.has_finding

    @property
    def row(self) -> dict[str, Any]:
        """Of the table of cases; numbers but counts to six digits after the point."""
        values = {**self.metrics, **(self.lesions.metrics if self.lesions else {})}
        rounded = {name: None if value is None else round(value, 6) for name, value in values.items()}
        return {**self.facts, **rounded, **self.counts._asdict(), "seconds": self.seconds}


@dataclass(frozen=True, eq=False)
class Masks:
    """What was compared in one case.

    Attributes:
        prediction: (x, y) or (x, y, z).
        truth: same shape.
        affine_ras: (4, 4), voxel index to millimetres; None of a flat picture.
    """

    prediction: Mask
    truth: Mask
    affine_ras: NDArray[np.float64] | None


class Evaluation:
    """The bundle's evaluation config made ready.

    Args:
        bundle: whose `configs/evaluate.yaml` it is.
        dataset_dir: the data folder.
        overlays: configs put on top, later ones win.
        settings: single ids put on top of those.
        device: `auto`, `cpu`, `cuda`, `cuda:N`.
        weights_by_fold: for figures out of fold, the weights that were learnt without this fold; empty: one file, as
            the config has it.

    Attributes:
        rows: of the config's data set.
        weights_sha256: of the one file, or of each fold's.

    Raises:
        BundleError: if the config or the weights cannot be used.
    """

    def __init__(
        self,
        bundle: Bundle,
        dataset_dir: Path,
        overlays: Sequence[Path],
        settings: Mapping[str, Any],
        device: str,
        weights_by_fold: Mapping[int, Path],
    ) -> None:
        from clinibundle.bundle.predict import pick_device

        self._measure, self._bundle_name = bundle.measure, bundle.name
        self.device = pick_device(device)
        # Only evaluation and training may need the bundle's own package; it bears the bundle's name.
        sys.path.insert(0, str(bundle.root))
        parser = read_config(bundle.root, "evaluate", overlays, {**settings, "dataset_dir": str(dataset_dir.resolve())})
        parser["device"] = f"$torch.device('{self.device}')"
        try:
            parser.parse()
            dataset = parser.get_parsed_content("dataset")
            self.rows: list[dict[str, Any]] = list(dataset.data)
            self._transform = dataset.transform
            self._inferer = parser.get_parsed_content("inferer")
            self._postprocessing = parser.get_parsed_content("postprocessing")
            self._network: torch.nn.Module = parser.get_parsed_content("network").eval()
            weights = Path(parser.get_parsed_content("weights"))
            self.fold: Any = parser.get_parsed_content("fold") if "fold" in parser else None
        except (ValueError, KeyError, RuntimeError, TypeError, ImportError) as error:
            raise BundleError(f"the evaluation of '{bundle.name}' cannot start: {reason_of(error)}") from error
        self._weights_by_fold, self._loaded = weights_by_fold, Path()
        for path in weights_by_fold.values() or [weights]:
            self._load(path)
        self.weights_sha256: str | dict[str, str] = (
            {str(fold): sha256_of(path) for fold, path in weights_by_fold.items()}
            if weights_by_fold
            else sha256_of(weights)
        )

    def knows(self, known: Mapping[str, Any]) -> bool:
        """Whether there are weights for a case, by its row of datalist.json."""
        return not self._weights_by_fold or known.get("fold") in self._weights_by_fold

    def _load(self, weights: Path) -> None:
        from clinibundle.bundle.predict import load_weights

        if weights == self._loaded:
            return
        if not weights.is_file():
            raise BundleError(f"there are no weights at '{weights}'; train the bundle, or name them with --weights")
        load_weights(self._network, weights, self._bundle_name)
        self._loaded = weights

    def measure(self, case: str, files: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[Measured, Masks]:
        """Runs one case and compares.

        Args:
            case: its name.
            files: its row of the config's data set.
            known: its row of datalist.json.

        Raises:
            ClinibundleError: if its masks cannot be compared; and whatever MONAI raises of a file that is damaged.
        """
        if self._weights_by_fold:
            self._load(self._weights_by_fold[known["fold"]])
        started = time.perf_counter()
        data = self._run(files)
        seconds = time.perf_counter() - started
        prediction, truth = (np.asarray(data[key])[0] > 0.5 for key in ("pred", "label"))
        found = binary_metrics(prediction, truth, _spacing_mm(data, str(files["image"]), known))
        metrics = {name: value for name, value in found.items() if without_unit(name) in self._measure.metrics}
        for name, key in self._measure.also_compare.items():
            metrics[name] = binary_metrics(np.asarray(data[key])[0] > 0.5, truth)["dice"]
        affine_ras = _affine_ras(data) if truth.ndim == _VOLUME_AXES else None
        lesions = None
        if affine_ras is not None and self._measure.lesions is not None:
            lesions = measure_scan(prediction, truth, _probability(data), affine_ras, self._measure)
        section = None
        if self._measure.has_membranes:
            section = measure_section(data, truth, self._measure.fixed_threshold)
            metrics |= {name: section.cells[name] for name in MEMBRANE_METRICS if name in self._measure.metrics}
        facts = {"case": case, "group": str(known.get("group", case)), "fold": known.get("fold")}
        counts = count_pixels(prediction, truth)
        return Measured(facts, metrics, counts, lesions, section, round(seconds, 4)), Masks(
            prediction, truth, affine_ras
        )

    def _run(self, files: Mapping[str, Any]) -> Mapping[str, Any]:
        """Reading, network, postprocessing."""
        import torch
        from monai.data import MetaTensor

        with torch.inference_mode():
            data = self._transform(dict(files))
            image = data["image"]
            logits = self._inferer(inputs=image.as_tensor()[None].to(self.device), network=self._network)
            pred = MetaTensor(logits[0].cpu(), meta=image.meta, applied_operations=image.applied_operations)
            result: Mapping[str, Any] = self._postprocessing({**data, "pred": pred})
        return result


def reason_of(error: BaseException) -> str:
    """What went wrong at the bottom of it, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _spacing_mm(data: Mapping[str, Any], image: str, known: Mapping[str, Any]) -> tuple[float, ...] | None:
    """Of neighbouring pixels along each axis of the masks; None if unknown.

    A volume and a NIfTI file say it themselves. datalist.json says it, as (row, column), of pictures whose format
    cannot; of volumes it may state it in another order.
    """
    axes = np.ndim(data["label"]) - 1
    if axes == _VOLUME_AXES or image.lower().endswith(NIFTI_SUFFIXES):
        return spacing_of(_affine_ras(data))[:axes]
    rows_and_columns_mm = known.get("spacing_mm")
    return None if not rows_and_columns_mm else tuple(float(value) for value in rows_and_columns_mm)[::-1]


def _affine_ras(data: Mapping[str, Any]) -> NDArray[np.float64]:
    """(4, 4) of the grid on which `pred` and `label` lie, as MONAI carries it along."""
    for key in ("label", "pred"):
        affine = getattr(data[key], "affine", None)
        if affine is not None:
            return np.asarray(affine, np.float64)
    raise DataFolderError(
        "neither 'label' nor 'pred' has an affine, so that nobody knows how large a voxel is; expected MetaTensors, "
        "mend the transforms of evaluate.yaml"
    )


def _probability(data: Mapping[str, Any]) -> NDArray[np.floating[Any]] | None:
    """Of the foreground, on the masks' grid; None if the bundle leaves none."""
    if "probability" not in data:
        return None
    probability, expected = np.asarray(data["probability"]), (1, *np.shape(data["pred"])[1:])
    if probability.shape != expected:
        raise BundleError(
            f"evaluate.yaml leaves a 'probability' of the shape {probability.shape}, expected that of the foreground "
            f"on the grid of 'pred', {expected}; mend its postprocessing"
        )
    return np.asarray(probability[0])
