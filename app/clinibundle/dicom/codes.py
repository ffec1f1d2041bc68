"""Coded concepts and who made an object: what a bundle's table and version say, in the form DICOM objects want."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


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
