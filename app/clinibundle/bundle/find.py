"""Where bundles and overlays are looked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import clinibundle
from clinibundle.errors import BundleError, UsageError, did_you_mean

_PACKAGE = Path(clinibundle.__file__).resolve().parent


def bundle_folders() -> list[Path]:
    """Folders that hold bundles: the current project's, then those that come with clinibundle; existing ones only."""
    # An installed clinibundle carries them inside the package, a checkout has them at its top level.
    places = [Path("bundles"), _PACKAGE / "packaged" / "bundles", _PACKAGE.parent.parent / "bundles"]
    return [place for place in places if place.is_dir()]


def overlay_folders(bundle: Path) -> list[Path]:
    """Folders in which an overlay's name is looked up, the bundle's own first."""
    places = [
        bundle / "configs",
        Path("configs"),
        _PACKAGE / "packaged" / "configs",
        _PACKAGE.parent.parent / "configs",
    ]
    return [place for place in places if place.is_dir()]


def known_bundles() -> dict[str, Path]:
    """All bundles at hand by name; where two have one name, the one found first."""
    found: dict[str, Path] = {}
    for folder in bundle_folders():
        for metadata in sorted(folder.glob("*/configs/metadata.json")):
            found.setdefault(metadata.parent.parent.name, metadata.parent.parent)
    return found


def find_bundle(name: str) -> Path:
    """The folder of a bundle that was named by path or by name.

    Raises:
        BundleError: if a path holds no bundle.
        UsageError: if no bundle has that name.
    """
    folder = Path(name)
    if (folder / "configs" / "metadata.json").is_file():
        return folder.resolve()
    if folder.is_dir():
        raise BundleError(f"'{name}' is no bundle: it has no configs/metadata.json; name the folder above configs/")
    if folder.suffix == ".zip" and not folder.exists():
        raise UsageError(f"there is no file '{folder.name}'; name a packed bundle, its folder, or a bundle at hand")
    if folder.suffix == ".zip":
        raise BundleError(f"'{name}' is packed: unpack it and name the folder, if you trust whoever made it")
    known = known_bundles()
    if name not in known:
        at_hand = ", ".join(sorted(known)) or "none"
        raise UsageError(f"no bundle '{name}'{did_you_mean(name, known)}; at hand are: {at_hand}")
    return known[name].resolve()


def find_overlay(name: str, bundle: Path) -> Path:
    """The file of an overlay that was named by path or, as `hardware/cpu`, by name.

    Raises:
        UsageError: if there is no such overlay.
    """
    if Path(name).is_file():
        return Path(name)
    for folder in overlay_folders(bundle):
        for suffix in ("", ".yaml", ".yml", ".json"):
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    known = sorted(set(_overlay_names(bundle)))
    raise UsageError(f"no overlay '{name}'{did_you_mean(name, known)}; at hand are: {', '.join(known)}")


def _overlay_names(bundle: Path) -> Iterator[str]:
    for folder in overlay_folders(bundle)[1:]:
        for file in sorted(folder.rglob("*.yaml")):
            yield str(file.relative_to(folder).with_suffix(""))
