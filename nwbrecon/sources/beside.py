"""Files that belong to an NWB file and lie beside it, such as the movies of external image series."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

__all__ = ["inside", "places_beside"]


def places_beside(path: str, nwb_name: str) -> list[PurePosixPath]:
    """Where a file that an NWB file names can be, relative to the NWB file's folder; nothing outside that folder.

    That is the path itself or, as `dandi organize` puts them, the folder that is named after the NWB file.

    Parameters
    ----------
    path
        As the NWB file has it.
    nwb_name
        Name of the NWB file.

    Examples
    --------
    >>> [str(place) for place in places_beside("movies/./a.mp4", "sub-1_image.nwb")]
    ['movies/a.mp4', 'sub-1_image/a.mp4']
    >>> places_beside("../secret/a.mp4", "sub-1_image.nwb"), places_beside("https://lab.org/a.mp4", "sub-1_image.nwb")
    ([], [])
    """
    wanted = PurePosixPath(path.replace("\\", "/"))
    drive = len(wanted.parts) > 0 and ":" in wanted.parts[0]
    if not path or "\0" in path or wanted.is_absolute() or drive or ".." in wanted.parts or not wanted.name:
        return []
    organized = PurePosixPath(nwb_name).stem
    return [wanted, PurePosixPath(organized, wanted.name)]


def inside(nwb: Path, path: str) -> Path | None:
    """Find a file beside an NWB file on this computer.

    Parameters
    ----------
    nwb
        The NWB file.
    path
        As the NWB file has it.

    Returns
    -------
    pathlib.Path or None
        ``None`` where there is no such file within the folder of the NWB file, links followed.
    """
    folder = nwb.parent.resolve()
    for place in places_beside(path, nwb.name):
        try:
            found = (folder / place).resolve()
            if found.is_relative_to(folder) and found.is_file():
                return found
        except (OSError, RuntimeError):
            # a name that is too long, or a circle of links
            continue
    return None
