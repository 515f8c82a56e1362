"""Reading a file again, slice by slice and from the disk, to see whether it still is what it was."""

from __future__ import annotations

import os

from blake3 import blake3

SLICE_BYTES = 4 << 20
_BLOCK_BYTES = 1 << 20


class Rereading:
    """Hashes the file open as `fd`, which it closes. For one thread at a time.

    What memory holds of the file says nothing about the disk, so it is dropped before (what is dirty, or mapped, is
    not); and what memory did not hold before, it does not hold after.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._hasher = blake3()
        self._at = 0
        self._buffer = memoryview(bytearray(min(_BLOCK_BYTES, os.fstat(fd).st_size or 1)))

    def step(self) -> int:
        """Hash the next slice; answers how long it is, 0 at the end. Raises `OSError` when it cannot be read."""
        first, cached = self._at, self._is_cached()
        os.posix_fadvise(self.fd, first, SLICE_BYTES, os.POSIX_FADV_DONTNEED)
        while self._at < first + SLICE_BYTES and (got := os.preadv(self.fd, [self._buffer], self._at)):
            self._hasher.update(self._buffer[:got])
            self._at += got
        if not cached:
            os.posix_fadvise(self.fd, first, self._at - first, os.POSIX_FADV_DONTNEED)
        return self._at - first

    def _is_cached(self) -> bool:
        """Whether memory holds the first byte of the next slice. Where that cannot be told, it is taken to."""
        try:
            return os.preadv(self.fd, [self._buffer[:1]], self._at, os.RWF_NOWAIT) > 0
        except BlockingIOError:
            return False
        except OSError:
            return True

    def digest(self) -> bytes:
        """The digest of all that was read."""
        return self._hasher.digest()

    def size(self) -> int:
        """How much was read."""
        return self._at

    def close(self) -> None:
        os.close(self.fd)
