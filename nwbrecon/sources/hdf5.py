"""From HDF5 to NWB, read-only, with an error for each way in which a file can be no NWB file."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
from pynwb import NWBHDF5IO

from nwbrecon.errors import SourceError
from nwbrecon.sources.confined import require_confined
from nwbrecon.sources.model import OpenFile

__all__ = ["identity_of", "open_hdf5", "read_nwb"]

EXPECTED = "An NWB file in HDF5 was expected."


def open_hdf5(file: Any, location: str) -> h5py.File:
    """Open HDF5 for reading.

    Parameters
    ----------
    file
        A path or a binary file object.
    location
        What to call it in errors.

    Raises
    ------
    SourceError
        If it is empty, is not HDF5, is cut short or damaged, or another program writes to it.
    """
    try:
        # a file on a read-only network disk cannot be locked, and need not be
        locking = {"locking": "best-effort"} if isinstance(file, Path) else {}
        return h5py.File(file, "r", **locking)
    except PermissionError as error:
        raise SourceError(
            f"{location} may not be read (permission denied).", action="Ask its owner for leave to read it."
        ) from error
    except OSError as error:
        raise _refused(location, str(error)) from error


def _refused(location: str, reason: str) -> SourceError:
    if "signature not found" in reason:
        return SourceError(f"{location} is not an HDF5 file.", EXPECTED, "Check the path, or convert the file to NWB.")
    if "truncated" in reason:
        return SourceError(
            f"{location} is cut short: it ends before the place that its header names.",
            EXPECTED,
            "Copy or download it again; the transfer was probably broken off.",
        )
    if "unable to lock" in reason:
        return SourceError(
            f"{location} is being written by another program ({reason}).", action="Try again once it is done."
        )
    return SourceError(f"{location} cannot be opened as HDF5 ({reason}).", EXPECTED, "The file is probably damaged.")


def read_nwb(file: h5py.File, location: str, close: Callable[[], None], folder: Path | None = None) -> OpenFile:
    """Read the structure of an open HDF5 file as NWB; arrays stay in the file.

    Parameters
    ----------
    file
        Open for reading.
    location
        What to call it in errors.
    close
        What closes it. It is called here only if reading fails.
    folder
        Where it is; it may use what lies there and nothing else. ``None`` if it is not on this computer.

    Raises
    ------
    SourceError
        If it is not NWB, or NWB that pynwb cannot read, or would have files read that are not beside it.
    """
    try:
        if _text(file.attrs.get("neurodata_type")) != "NWBFile":
            version = "an NWB 1 file" if "nwb_version" in file else "HDF5, but not NWB"
            inside = ", ".join(sorted(file)[:6]) or "nothing"
            raise SourceError(
                f"{location} is {version}: at its root it holds {inside}.",
                "An NWB 2 file was expected.",
                "Convert it to NWB 2 first, for example with NeuroConv.",
            )
        notes = require_confined(file, location, folder)
        nwbfile = _read(file, location)
        return OpenFile(nwbfile, identity_of(nwbfile, location), close, notes=tuple(notes))
    except BaseException:
        close()
        raise


def _read(file: h5py.File, location: str) -> Any:
    # An extension is read by the specification that the file carries. Where that one is at odds with what is
    # installed, the file can often still be read without it.
    failure: Exception | None = None
    for load_namespaces in (True, False):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return NWBHDF5IO(file=file, mode="r", load_namespaces=load_namespaces).read()
        except Exception as error:
            # hdmf raises whatever its constructors raise, so that no narrower class would do; around bytes that could
            # not be had it wraps its own
            _raise_source_error(error)
            failure = failure or error
    raise SourceError(
        f"{location} is NWB, but pynwb cannot read it ({failure}).",
        action="Check it with `pynwb-validate`; it may be damaged or break the NWB schema.",
    ) from failure


def _raise_source_error(error: BaseException | None) -> None:
    while error is not None:
        if isinstance(error, SourceError):
            raise error
        error = error.__cause__ or error.__context__


def identity_of(nwbfile: Any, location: str) -> dict[str, Any]:
    """Say which recording a file holds: the identity that `Session.identity` carries."""
    return {
        "location": location,
        "identifier": nwbfile.identifier,
        "object_id": nwbfile.object_id,
        "session_id": nwbfile.session_id,
        "session_start_time": nwbfile.session_start_time.isoformat(),
    }


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
