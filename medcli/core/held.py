"""Is a lock file held by a living process? Asked without waiting."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import filelock


@contextmanager
def alone(*locks: Path) -> Iterator[bool]:
    """Whether nobody else holds any of these locks; those that are there are held within the block."""
    with ExitStack() as stack:
        try:
            for path in locks:
                if path.is_file():
                    lock = filelock.FileLock(path)
                    lock.acquire(timeout=0)
                    stack.callback(lock.release)
        except filelock.Timeout:
            yield False
            return
        yield True
