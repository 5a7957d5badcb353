"""Files that are whole or absent: atomic writing, safetensors beside JSON, hashes."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from nwbrecon.errors import ResultsError

__all__ = [
    "atomic_directory",
    "atomic_path",
    "digest",
    "jsonable",
    "keep_work_of",
    "make_folder",
    "read_arrays",
    "read_json",
    "size_text",
    "write_arrays",
    "write_json",
]

_ABANDONED = 24 * 3600.0  # seconds


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` and rename it to ``target`` once the block has ended well.

    Parameters
    ----------
    target
        The final path. Its folder is made if need be.

    Yields
    ------
    pathlib.Path
        Where to write. It keeps the target's suffix, since some writers look at it.

    Raises
    ------
    ResultsError
        If the folder cannot be written to, the disk is full, or another program wrote the file in the meantime. What
        stands there then is untouched.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as path:
    ...     _ = path.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['a.txt']
    """
    target = Path(target)
    make_folder(target.parent)
    _remove_abandoned(target)
    before = _stamp(target)
    # the name comes first: whoever presses Ctrl-C just as the file is made leaves none behind
    path = _beside(target, f".partial{target.suffix}")
    try:
        try:
            path.touch(mode=0o600, exist_ok=False)
        except OSError as error:
            raise _not_writable(target, error) from error
        yield path
        # only its owner reads it until then; a result is as readable as any other new file
        path.chmod(0o666 & ~_umask())
        with path.open("rb") as file:
            os.fsync(file.fileno())
        with _alone_in(target.parent):
            if _stamp(target) != before:
                raise ResultsError(
                    f"{target} was written by another program while this one was at work.",
                    "Its file is kept, and ours is not written.",
                    "Write to another name, or again once the other is done.",
                )
            path.replace(target)
    except OSError as error:
        _raise_if_target_refuses(target, error)
        raise
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def atomic_directory(target: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside ``target``; it takes the place of ``target`` once the block has ended well."""
    target = Path(target)
    make_folder(target.parent)
    _remove_abandoned(target)
    # as with files, the names come first
    folder, old = (_beside(target, ending) for ending in (".partial", ".old"))
    try:
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise _not_writable(target, error) from error
        yield folder
        folder.chmod(0o777 & ~_umask())
        if target.exists():
            target.rename(old)
        folder.rename(target)
    except OSError as error:
        _raise_if_target_refuses(target, error)
        raise
    finally:
        # what stood there goes only once its successor stands
        if old.exists() and not target.exists():
            old.rename(target)
        for left in (folder, old):
            with suppress(OSError):
                _remove(left)


def write_json(target: str | Path, content: Any) -> None:
    """Write JSON atomically; paths, NumPy scalars and arrays are written as their plain counterparts."""
    with atomic_path(target) as path:
        path.write_text(json.dumps(content, indent=2, default=jsonable, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read JSON, with an error that names the file if it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ResultsError(f"{path} is not valid JSON ({error}).", action="Delete it and make it anew.") from error


def write_arrays(target: str | Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays (NumPy or torch) as safetensors, atomically.

    Parameters
    ----------
    target
        The file, ``.safetensors`` by convention.
    arrays
        Name to array. NumPy arrays and torch tensors may be mixed; tensors are moved to the CPU.
    metadata
        Strings that travel in the file's header.
    """
    from safetensors.numpy import save_file

    plain = {
        # not ascontiguousarray, which would give a single number an axis
        name: np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value, order="C")
        for name, value in arrays.items()
    }
    with atomic_path(target) as path:
        save_file(plain, path, metadata=dict(metadata or {}))


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote, as NumPy arrays."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ResultsError(
            f"{path} cannot be read as safetensors ({error}).", action="Delete it and make it anew."
        ) from error


def keep_work_of(key: Any, file: Path, patterns: Sequence[str]) -> None:
    """Make a folder that of a piece of work: what is there of other work is deleted.

    Parameters
    ----------
    key
        What the work is of; what JSON can hold.
    file
        JSON file in the folder that holds the key.
    patterns
        Names of the work's files. No others are touched: the folder may hold other things.
    """
    if file.exists() and read_json(file) == key:
        return
    for pattern in patterns:
        for old in file.parent.glob(pattern):
            old.unlink()
    write_json(file, key)


def digest(content: Any) -> str:
    """SHA-256 of bytes, of a file (`Path`), or of anything that JSON can hold.

    Examples
    --------
    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if not isinstance(content, bytes):
        content = json.dumps(content, sort_keys=True, default=jsonable).encode()
    return hashlib.sha256(content).hexdigest()


def size_text(n_bytes: float) -> str:
    """Bytes for people, in powers of 1000.

    Examples
    --------
    >>> size_text(512), size_text(814_984), size_text(70.2e9)
    ('512 B', '815 kB', '70.2 GB')
    """
    units = ["B", "kB", "MB", "GB", "TB"]
    while n_bytes >= 999.5 and len(units) > 1:
        n_bytes /= 1000
        units.pop(0)
    return f"{n_bytes:.3g} {units[0]}"


def jsonable(value: Any) -> Any:
    """Turn NumPy, tensors, settings and paths into what JSON can hold: the ``default`` of `json.dumps`."""
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return str(value)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other writers from renaming in a folder meanwhile, and put the renaming on the disk, where a system can."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows opens no folders; there, and on some network disks, there is no lock
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _beside(target: Path, ending: str) -> Path:
    """Name, that nothing has yet, of something hidden beside a target."""
    return target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}{ending}")


def _remove_abandoned(target: Path) -> None:
    """Remove what killed writers of a target left beside it; whoever is at work still has touched its own of late."""
    for name in target.parent.glob(f".{glob.escape(target.name[:100])}.*.partial*"):
        with suppress(OSError):
            if time.time() - name.stat().st_mtime > _ABANDONED:
                _remove(name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _umask() -> int:
    # the mask can only be read by setting it
    mask = os.umask(0)
    os.umask(mask)
    return mask


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises
    ------
    ResultsError
        If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_writable(folder, error) from error


def _raise_if_target_refuses(target: Path, error: OSError) -> None:
    # other OSErrors (a source that cannot be read, say) are not about the target and keep their own words
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}:
        raise _not_writable(target, error) from error


def _not_writable(target: Path, error: OSError) -> ResultsError:
    return ResultsError(
        f"{target} could not be written ({error.strerror or error}).",
        action="Choose a folder that can be written to and has room; whatever stood there before is unchanged.",
    )
