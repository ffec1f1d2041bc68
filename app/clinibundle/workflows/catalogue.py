"""List and show: what bundles are at hand, and what their model cards say."""

from __future__ import annotations

from typing import Any

from clinibundle.bundle.description import Bundle
from clinibundle.bundle.find import find_bundle, known_bundles
from clinibundle.errors import BundleError


def describe_bundles() -> list[dict[str, Any]]:
    """A row per bundle, by name: version, task, modality, main metric, terms of the weights, where it comes from."""
    return [_row(Bundle(root)) for _, root in sorted(known_bundles().items())]


def model_card(name: str) -> str:
    """The bundle's docs/README.md.

    Raises:
        BundleError: if it has none.
    """
    card = find_bundle(name) / "docs" / "README.md"
    if not card.is_file():
        raise BundleError(f"the bundle '{name}' has no model card (docs/README.md)")
    return card.read_text(encoding="utf-8")


def _row(bundle: Bundle) -> dict[str, Any]:
    metadata = bundle.metadata
    inputs = next(iter(metadata.network_data_format["inputs"].values()))
    figure = metadata.eval_metrics.get(metadata.main_metric)
    licence = metadata.weights_licence
    has_weights = (bundle.root / "models" / "model.pt").is_file()
    return {
        "name": bundle.name,
        "version": metadata.version,
        "task": metadata.task,
        "modality": str(inputs.get("modality", "unknown")),
        "metric": metadata.main_metric if figure is None else f"{metadata.main_metric} {figure}",
        "weights": "none" if not has_weights else licence.name if licence else "terms not stated",
        "from": str(bundle.root.parent),
    }
