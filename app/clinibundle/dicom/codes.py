"""Coded concepts and who made an object: what a bundle's table and version say, in the form DICOM objects want."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, model_validator


class Code(BaseModel):
    """A coded concept: value, scheme, and meaning in words (PS3.16)."""

    model_config = ConfigDict(extra="forbid")

    value: str
    scheme: str
    meaning: str

    def as_concept(self) -> Any:
        """The same for highdicom (a `CodedConcept`), which is imported only now: it takes a second."""
        from highdicom.sr.coding import CodedConcept

        return CodedConcept(self.value, self.scheme, self.meaning)


class Segment(BaseModel):
    """What a label of the label map means: a row of a bundle's table in `configs/dicom.yaml`."""

    model_config = ConfigDict(extra="forbid")

    label: int
    name: str
    category: Code
    type: Code


class Algorithm(BaseModel):
    """Who made the segmentation."""

    model_config = ConfigDict(extra="forbid")

    name: str
    version: str
    weights_sha256: str
    software_version: str


class Measurement(BaseModel):
    """How a key of measurements.json is reported: a row of a bundle's table.

    Attributes:
        key: in the findings of measurements.json.
        concept: what was measured, such as (42798000, SCT, "Area"); PS3.16 CID 7469 has the usual ones.
        unit: of what is reported, from UCUM.
        derivation: how one number was made of many, such as (373098007, SCT, "Mean").
        factor: from the unit of the key to `unit`, such as 100 from a fraction to per cent.
    """

    model_config = ConfigDict(extra="forbid")

    key: str
    concept: Code
    unit: Code
    derivation: Code | None = None
    factor: FiniteFloat = 1.0


class FindingCodes(BaseModel):
    """What and where a finding is: a row of a bundle's table.

    Attributes:
        name: of the finding; a row `nodule` also fits `nodule 1`, `nodule 2` and so on.
        type: what was found.
        site: where in the body (PS3.16 CID 4031).
        laterality: of the site (PS3.16 CID 244).
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    type: Code
    site: Code | None = None
    laterality: Code | None = None

    @model_validator(mode="after")
    def _has_a_site_for_its_side(self) -> FindingCodes:
        if self.laterality is not None and self.site is None:
            raise ValueError(
                f"the finding '{self.name}' has a laterality and no site; give the site that it is a side of"
            )
        return self

    def fits(self, name: str) -> bool:
        """Whether a finding of this name is meant."""
        numbered = name.removeprefix(f"{self.name} ")
        return name == self.name or (numbered != name and numbered.isdigit())


class MeasurementTable(BaseModel):
    """What a bundle reports of its findings, in codes.

    Attributes:
        measurements: in the order in which they are reported.
        findings: codes by name; a finding without a row is called what its segment is called.
        procedure: what the images were made by (PS3.16 CID 100); "Imaging procedure" if not given.
    """

    model_config = ConfigDict(extra="forbid")

    measurements: list[Measurement]
    findings: list[FindingCodes] = []
    procedure: Code = Code(value="363679005", scheme="SCT", meaning="Imaging procedure")

    def codes_of(self, name: str) -> FindingCodes | None:
        """The first row that fits a finding of this name."""
        return next((row for row in self.findings if row.fits(name)), None)
