"""What the cases of an evaluation are called, and what the data folder knows of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clinibundle.errors import DataFolderError
from clinibundle.pictures.read import case_name
from clinibundle.workflows.check.listing import LIST_NAME, find_cases


def case_names(rows: Sequence[Mapping[str, Any]], dataset_dir: Path) -> list[str]:
    """The name of each row's picture without its ending; where several share it, their place in the data folder."""
    paths, root = [Path(row["image"]) for row in rows], dataset_dir.resolve()
    sharing = Counter(case_name(path) for path in paths)
    return [
        path.relative_to(root).as_posix()
        if sharing[case_name(path)] > 1 and path.is_relative_to(root)
        else case_name(path)
        for path in paths
    ]


def facts_by_picture(dataset_dir: Path) -> dict[str, dict[str, Any]]:
    """Rows of datalist.json, or group and fold that a folder without one gives, by the resolved path of the picture.

    Raises:
        DataFolderError: if there is a list that cannot be read.
    """
    listing = dataset_dir / LIST_NAME
    if not listing.is_file():
        cases, _ = find_cases(dataset_dir.resolve())
        return {str(case.image.resolve()): {"group": case.group, "fold": case.fold} for case in cases if case.image}
    try:
        sections = json.loads(listing.read_text(encoding="utf-8"))
        rows = [row for name in ("testing", "training") for row in sections.get(name, [])]
        return {str((dataset_dir / row["image"]).resolve()): row for row in reversed(rows) if "image" in row}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataFolderError(
            "datalist.json is no list of cases that can be read; clinibundle check says what is wrong with it"
        ) from error
