"""What is needed to reproduce or refute a result, and its form as a table."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from nwbrecon._version import __version__
from nwbrecon.alignment import AlignedSession
from nwbrecon.errors import ResultsError
from nwbrecon.session import Session
from nwbrecon.storage import jsonable

__all__ = [
    "from_rows",
    "gather",
    "portable_command",
    "portable_identity",
    "portable_text",
    "results_name",
    "session_name",
    "to_rows",
]

_PACKAGES = (
    *("torch", "numpy", "scipy", "pandas", "scikit-image", "pynwb", "hdmf", "h5py", "hdmf-zarr", "zarr", "dandi"),
    *("remfile", "pydantic", "safetensors", "av", "matplotlib", "pillow"),
)
_REMOTE = re.compile(r"(?:[a-z][a-z0-9+]+://|dandi:)", re.IGNORECASE)
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
    return f"{session_name(source)}_desc-reconstruction_image.nwb"


def session_name(source: Session | AlignedSession) -> str:
    """Name a session the way DANDI does: ``sub-SUBJECT_ses-SESSION``."""

    def label(value: Any) -> str:
        return re.sub(r"[^A-Za-z0-9]+", "-", str(value or "")).strip("-")

    subject, session = label(source.subject.get("subject_id")), label(source.identity.get("session_id"))
    return f"sub-{subject or 'unknown'}" + (f"_ses-{session}" if session else "")


def gather(source: Session | AlignedSession | None, aligned: AlignedSession | None) -> dict[str, Any]:
    """Collect what can be known without the caller: source, what went in, split, software, hardware."""
    content: dict[str, Any] = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software(),
        "hardware": _hardware(),
    }
    if source is not None:
        content |= {"source": portable_identity(source.identity), "subject": dict(source.subject)}
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


def portable_identity(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Give an identity that says nothing of the computer it was read on: of a local path, only the file's name.

    Examples
    --------
    >>> portable_identity({"location": "/home/me/data/mouse.nwb", "identifier": "a"})
    {'location': 'mouse.nwb', 'identifier': 'a'}
    >>> portable_identity({"location": "dandi:000402/sub-1/a.nwb"})
    {'location': 'dandi:000402/sub-1/a.nwb'}
    """
    portable = dict(identity)
    location = portable.get("location")
    if location is not None and not _REMOTE.match(str(location)):
        portable["location"] = _basename(str(location))
    if isinstance(portable.get("files"), list):
        portable["files"] = [portable_identity(file) for file in portable["files"]]
    return portable


def portable_text(content: Any, private: Sequence[str | Path]) -> Any:
    """Take folders of this computer out of every text in nested content.

    Parameters
    ----------
    content
        What JSON can hold.
    private
        Folders; so are the home folder and the one at work in.

    Examples
    --------
    >>> portable_text({"a": ["/data/lab/mouse.nwb has no pupil."]}, ["/data/lab"])
    {'a': ['mouse.nwb has no pupil.']}
    """
    folders = {str(folder) for folder in (*private, Path.home(), Path.cwd())} - {"/", "."}
    # the longest first: a folder may lie in another
    names = "|".join(re.escape(folder.rstrip("/\\")) for folder in sorted(folders, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w.-])(?:{names})(?:[/\\]|(?![\w.-]))")

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return pattern.sub("", value)
        if isinstance(value, Mapping):
            return {key: clean(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [clean(inner) for inner in value]
        return value

    return clean(content)


def portable_command(command: str) -> str:
    """Give a command line with the names alone of files and folders that were given by an absolute path.

    Examples
    --------
    >>> portable_command("nwbrecon run '/home/me/my data/a.nwb' --out=/tmp/out --set training.members=3")
    'nwbrecon run a.nwb --out=out --set training.members=3'
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return command
    short = []
    for word in words:
        option, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        short.append(option + equals + (_basename(value) if _is_absolute(value) else value))
    return shlex.join(short)


def _is_absolute(text: str) -> bool:
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()


def _basename(text: str) -> str:
    return (PureWindowsPath if PureWindowsPath(text).drive else PurePosixPath)(text).name or text


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
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "memory_gigabytes": _memory(),
    }
    # whoever reconstructed has loaded torch; whoever only writes arrays need not
    torch = sys.modules.get("torch")
    if torch is not None:
        content["threads"] = torch.get_num_threads()
        content["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return content


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):  # systems other than POSIX do not say
        return None


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
