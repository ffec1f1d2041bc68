"""What a bundle says of itself in data files: metadata.json and configs/{dicom,measure,report,data}.yaml."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from clinibundle.bundle.configs import component_of, config_file
from clinibundle.bundle.memory import MemoryNeed
from clinibundle.dicom.codes import MeasurementTable, Segment
from clinibundle.dicom.rules import DicomWishes
from clinibundle.errors import BundleError, did_you_mean
from clinibundle.measure.quality import LearntRange, Organ
from clinibundle.measure.regions import Finding, Lesions, Limit
from clinibundle.metrics.lesions import HitRule

Model = TypeVar("Model", bound=BaseModel)

LOWER_IS_BETTER = {
    "dice": False,
    "iou": False,
    "hd95": True,
    "accuracy": False,
    "sensitivity": False,
    "specificity": False,
    "ppv": False,
    "npv": False,
    "rand_error": True,
    "v_rand": False,
    "v_info": False,
    "warping_error": True,
    "warping_error_splits_mergers": True,
    "pixel_error": True,
}
"""Every metric that a bundle may name, and whether less of it is better; `metrics.binary` and, from `rand_error` on,
`metrics.membrane_scores` compute them."""
MEMBRANE_METRICS = tuple(LOWER_IS_BETTER)[list(LOWER_IS_BETTER).index("rand_error") :]


TILED = "OverlapTileInferer"
"""The inferer by which a bundle says that it can be asked tile by tile."""


def without_unit(metric: str) -> str:
    """The metric as a bundle names it: `hd95` of `hd95_mm` and `hd95_px`."""
    return metric.removesuffix("_px").removesuffix("_mm")


class WeightsLicence(BaseModel):
    """Terms that the weights carry over from their training data."""

    model_config = ConfigDict(extra="forbid")

    name: str
    commercial_use: bool
    reason: str = ""


class Metadata(BaseModel):
    """The part of MONAI's metadata.json, and of our additions to it, that the application uses."""

    model_config = ConfigDict(extra="ignore")

    version: str
    task: str
    description: str
    intended_use: str = ""
    weights_licence: WeightsLicence | None = None
    memory: MemoryNeed | None = None
    main_metric: str = "dice"
    eval_metrics: dict[str, Any] = {}
    network_data_format: dict[str, dict[str, dict[str, Any]]]


class DicomDescription(DicomWishes):
    """`configs/dicom.yaml`: which series is wanted, and what labels and measurements are called in DICOM.

    Attributes:
        segments: what each label means.
        measurements: what the structured report says, and in which codes; no report without it.
    """

    segments: list[Segment]
    measurements: MeasurementTable | None = None


class MeasureDescription(BaseModel):
    """`configs/measure.yaml`: what is measured, what is doubtful, how the bundle is evaluated.

    Attributes:
        hit: when a lesion counts as found. By default an IoU of 1/10, at which detectors of objects in volumes are
            usually compared (Baumgartner et al., nnDetection, MICCAI 2021, arXiv:2106.00817).
        surface_tolerance_mm: of the surface Dice of volumes with lesions.
        fixed_threshold: of the probability of interior, for metrics of membranes; chosen on training data.
    """

    model_config = ConfigDict(extra="forbid")

    findings: list[Finding]
    limits: list[Limit] = []
    learnt: list[LearntRange] = []
    organ: Organ | None = None
    metrics: list[str] = ["dice"]
    also_compare: dict[str, str] = {}
    hit: HitRule = HitRule("iou", 0.1)
    surface_tolerance_mm: float = Field(2.0, ge=0, allow_inf_nan=False)
    fixed_threshold: float = Field(0.5, ge=0, le=1)

    @property
    def has_membranes(self) -> bool:
        """Whether one of the metrics is of membranes and the cells between them."""
        return bool(set(self.metrics) & set(MEMBRANE_METRICS))

    @property
    def lesions(self) -> Lesions | None:
        """How an evaluation tells the foreground apart: as the first finding that has lesions; None without one."""
        return next((finding.lesions for finding in self.findings if finding.lesions is not None), None)

    @field_validator("metrics")
    @classmethod
    def _refuse_unknown(cls, metrics: list[str]) -> list[str]:
        for metric in metrics:
            if metric not in LOWER_IS_BETTER:
                meant = did_you_mean(metric, LOWER_IS_BETTER)
                known = ", ".join(LOWER_IS_BETTER)
                raise PydanticCustomError("metric", f"there is no metric '{metric}'{meant}; there are {known}")
        return metrics


class Column(BaseModel):
    """A column of the report's table of findings: key in measurements.json, heading, unit, Python number format."""

    model_config = ConfigDict(extra="forbid")

    key: str
    heading: str
    unit: str = ""
    format: str = ""


class ReportDescription(BaseModel):
    """`configs/report.yaml`: what the report shows; `window` are the values shown black and white."""

    model_config = ConfigDict(extra="forbid")

    title: str
    columns: list[Column]
    colours: list[tuple[int, int, int]]
    window: tuple[float, float] | None = None
    unknown_because: dict[str, str] = {}
    limits: list[str] = []


class DataDescription(BaseModel):
    """`configs/data.yaml`: which of the application's kinds fit this bundle's data.

    Attributes:
        layouts: of sources that `prepare` looks for.
        phantom: what `phantom` makes.
        label_values: sets of values that a label may hold.
        source_dimensions, source_channels: of pictures or volumes, where they are not those of the network's input, as
            of volumes that a network sees slice by slice.
        outline_names: patterns such as `GTV*` of the segments and ROIs that `prepare` takes from DICOM objects.
    """

    model_config = ConfigDict(extra="forbid")

    layouts: list[str] = []
    phantom: str | None = None
    label_values: list[list[int]] | None = None
    outline_names: list[str] = []
    source_dimensions: Literal[2, 3] | None = None
    source_channels: int | None = None


class Bundle:
    """A bundle's folder and what it says of itself; every file is read when it is first asked for.

    Args:
        root: the folder that holds configs/, docs/ and models/.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name = root.name

    @property
    def weights(self) -> Path:
        """models/model.pt, which an inference config without an id `weights` takes."""
        return self.root / "models" / "model.pt"

    @cached_property
    def metadata(self) -> Metadata:
        """metadata.json."""
        return _validated(Metadata, self.root / "configs" / "metadata.json")

    @cached_property
    def dicom(self) -> DicomDescription | None:
        """configs/dicom.yaml; None if the bundle takes no DICOM."""
        path = self.root / "configs" / "dicom.yaml"
        return _validated(DicomDescription, path) if path.is_file() else None

    @cached_property
    def measure(self) -> MeasureDescription:
        """configs/measure.yaml.

        Raises:
            BundleError: if it is not in order, or the main metric of metadata.json is none of those it names.
        """
        found = _validated(MeasureDescription, self.root / "configs" / "measure.yaml")
        main, named = self.metadata.main_metric, [*found.metrics, *found.also_compare]
        if main not in named:
            raise BundleError(
                f"{self.name}/configs/metadata.json: the main_metric '{main}'{did_you_mean(main, named)} is none of "
                f"those that measure.yaml names: {', '.join(named)}; name one of them"
            )
        return found

    @property
    def lower_is_better(self) -> bool:
        """Whether less of the main metric is better; the further comparisons of measure.yaml are Dice."""
        return LOWER_IS_BETTER.get(self.metadata.main_metric, False)

    @cached_property
    def report(self) -> ReportDescription:
        """configs/report.yaml."""
        return _validated(ReportDescription, self.root / "configs" / "report.yaml")

    @cached_property
    def data(self) -> DataDescription:
        """configs/data.yaml; empty if there is none."""
        path = self.root / "configs" / "data.yaml"
        return _validated(DataDescription, path) if path.is_file() else DataDescription()

    @cached_property
    def is_tiled(self) -> bool:
        """Whether its inference config asks for tiles without seams, so that sections of any size can be looked at.

        Raises:
            BundleError: if it has no such config.
        """
        config = yaml.safe_load(config_file(self.root, "inference").read_text(encoding="utf-8"))
        inferer = config.get("inferer") if isinstance(config, dict) else None
        return self.spatial_dims == 2 and isinstance(inferer, dict) and component_of(inferer) == TILED

    @property
    def spatial_dims(self) -> int:
        """Of what is put in: 2 for pictures, 3 for volumes."""
        return self.data.source_dimensions or len(self._input["spatial_shape"])

    @property
    def channels(self) -> int:
        """Of what is put in: 1 grey, 3 colour."""
        return self.data.source_channels or int(self._input["num_channels"])

    @property
    def _input(self) -> dict[str, Any]:
        return next(iter(self.metadata.network_data_format["inputs"].values()))


def _validated(model: type[Model], path: Path) -> Model:
    shown = f"{path.parent.parent.name}/configs/{path.name}"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise BundleError(f"the bundle lacks {shown}; every bundle needs one") from error
    try:
        return model.model_validate(json.loads(text) if path.suffix == ".json" else yaml.safe_load(text))
    except (ValueError, yaml.YAMLError) as error:
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise BundleError(f"{shown}: '{where}': {first['msg']} (found {str(first['input'])[:80]!r})") from error
        raise BundleError(f"{shown} cannot be read: {str(error).splitlines()[0]}") from error
