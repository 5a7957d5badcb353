"""The one progress bar."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Item = TypeVar("Item")

_shown: ContextVar[bool] = ContextVar("nwbrecon_progress_shown", default=True)


@contextmanager
def progress_shown(shown: bool) -> Iterator[None]:
    """Show or hide every progress bar inside the ``with`` block (hidden for ``--json`` and ``--quiet``)."""
    token = _shown.set(shown)
    try:
        yield
    finally:
        _shown.reset(token)


def progress(
    items: Iterable[Item] | None = None, *, total: int | None = None, label: str = "", unit: str = "it"
) -> Any:
    """Wrap an iterable in a progress bar with an estimate of the time left.

    Parameters
    ----------
    items
        What to iterate over; ``None`` gives a bar that is driven by ``.update(n)``.
    total
        How many there will be, where ``items`` has no length.
    label
        What is being done, in a word or two.
    unit
        What one item is; bytes (``B``) are shown as kB, MB, GB.

    Returns
    -------
    tqdm.tqdm
        The bar: an iterable, and a context manager. It goes to standard error, so that standard output stays clean.

    Examples
    --------
    >>> with progress_shown(False):
    ...     [n for n in progress(range(3), label="counting")]
    [0, 1, 2]
    """
    from tqdm.auto import tqdm

    return tqdm(
        items,
        total=total,
        desc=label or None,
        unit=unit,
        unit_scale=unit == "B",
        disable=not _shown.get(),
        dynamic_ncols=True,
        # what is over at once needs no bar
        delay=1.0,
    )
