"""What is needed to reproduce or refute a result, and its form as a table."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nwbrecon._version import __version__
from nwbrecon.alignment import AlignedSession
from nwbrecon.errors import ResultsError
from nwbrecon.session import Session
from nwbrecon.storage import jsonable

__all__ = ["from_rows", "gather", "results_name", "to_rows"]

_PACKAGES = ("torch", "numpy", "scipy", "pynwb", "hdmf", "h5py", "dandi")
_STEP = re.compile(r"\.?([A-Za-z_][\w-]*)|\[(\d+)\]|\[(\"(?:[^\"\\]|\\.)*\")\]")
_PLAIN_KEY = re.compile(r"[A-Za-z_][\w-]*")


def results_name(source: Session | AlignedSession) -> str:
    """Name a results file the way DANDI organises files.

    Examples
    --------
    >>> session = Session({"session_id": "4_7"}, {"subject_id": "17797"}, {}, None, {})
    >>> results_name(session)
    'sub-17797_ses-4-7_desc-reconstruction_image.nwb'
    """

    def label(value: Any) -> str:
        return re.sub(r"[^A-Za-z0-9]+", "-", str(value or "")).strip("-")

    subject, session = label(source.subject.get("subject_id")), label(source.identity.get("session_id"))
    parts = [f"sub-{subject or 'unknown'}", *([f"ses-{session}"] if session else []), "desc-reconstruction", "image"]
    return "_".join(parts) + ".nwb"


def gather(source: Session | AlignedSession | None, aligned: AlignedSession | None) -> dict[str, Any]:
    """Collect what can be known without the caller: source, what went in, split, software, hardware."""
    content: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software(),
        "hardware": _hardware(),
    }
    if source is not None:
        content |= {"source": dict(source.identity), "subject": dict(source.subject)}
    if aligned is not None:
        trials = aligned.trials
        content["alignment"] = {
            "frame_rate": aligned.frame_rate,
            "frame_size": list(aligned.frame_size),
            "n_rois": aligned.n_rois,
            "behavior": list(aligned.behavior_names),
            "groups": [
                {
                    "name": group.name,
                    "n_rois": group.n_rois,
                    "signal": str(group.kind),
                    "sampling_rate": 1 / group.interval,
                    "origin": group.origin,
                }
                for group in aligned.groups
            ],
            "info": dict(aligned.info),
            "seconds": (trials.groupby("split")["n_frames"].sum() / aligned.frame_rate).to_dict(),
        }
        content["split"] = {
            str(split or "unused"): sorted(set(rows["clip"].astype(str))) for split, rows in trials.groupby("split")
        }
    return content


def software() -> dict[str, str]:
    """Versions of nwbrecon, Python and the packages that shape a result."""
    versions = {"nwbrecon": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _hardware() -> dict[str, Any]:
    content: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }
    # whoever reconstructed has loaded torch; whoever only writes arrays need not
    torch = sys.modules.get("torch")
    if torch is not None:
        content["threads"] = torch.get_num_threads()
        content["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return content


def to_rows(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Spread nested content into rows of a JSONPath (RFC 9535, without its leading ``$.``) and a JSON value.

    Lists of plain values stay whole, so that a list of clips is one row.

    Examples
    --------
    >>> to_rows({"settings": {"seed": 0, "a.b": ["x"]}, "planes": [{"rois": 3}]})
    [('settings.seed', '0'), ('settings["a.b"]', '["x"]'), ('planes[0].rois', '3')]
    """
    return list(_leaves("", content))


def from_rows(rows: Mapping[str, str]) -> dict[str, Any]:
    """Put together what `to_rows` spread.

    Examples
    --------
    >>> from_rows({'settings["a.b"]': '["x"]', "planes[0].rois": "3"})
    {'settings': {'a.b': ['x']}, 'planes': [{'rois': 3}]}
    """
    content: dict[str, Any] = {}
    for path, text in rows.items():
        steps = _steps(path)
        inner: Any = content
        for step, following in zip(steps, [*steps[1:], None], strict=True):
            try:
                value = json.loads(text) if following is None else [] if isinstance(following, int) else {}
            except ValueError as error:
                raise ResultsError(f"The provenance value of {path} is not JSON ({error}).") from error
            if isinstance(inner, list):
                if step == len(inner):
                    inner.append(value)
            else:
                inner.setdefault(step, value)
            inner = inner[step]
    return content


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            key = str(key)
            step = key if _PLAIN_KEY.fullmatch(key) else f"[{json.dumps(key, ensure_ascii=False)}]"
            yield from _leaves(f"{path}.{step}" if path and not step.startswith("[") else path + step, inner)
    elif isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        for index, inner in enumerate(value):
            yield from _leaves(f"{path}[{index}]", inner)
    else:
        yield path, json.dumps(value, default=jsonable, ensure_ascii=False)


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise ResultsError(f"The provenance holds {path!r}, which is no JSONPath.")
        name, index, quoted = match.groups()
        steps.append(name if name is not None else int(index) if index is not None else json.loads(quoted))
        position = match.end()
    return steps
