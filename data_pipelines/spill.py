"""Temporary file for data of a subject that doesn't fit into memory while it is processed."""

import tempfile
import threading


class Spill:
    """Entries of bytes by number, in an unnamed file that is removed with this object.

    Safe for any number of threads. Once the file has reached its limit or the disk is full, nothing
    more is stored.
    """

    def __init__(self, most: int):
        """Limit the file to `most` bytes; it is created with the first entry."""
        self._most, self._lock = most, threading.Lock()
        self._file = None
        self._places: dict[int, tuple[int, int]] = {}  # number -> start and length
        self._end = 0

    def __del__(self):
        if self._file is not None:
            self._file.close()

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def put(self, number: int, data: bytes | memoryview) -> None:
        """Store bytes under a number if there is room; an earlier entry is kept."""
        with self._lock:
            if number in self._places or self._end + len(data) > self._most:
                return
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
                self._file.seek(self._end)
                written = self._file.write(data)
            except OSError:  # the disk is full
                written = 0
            if written != len(data):
                self._most = 0
                return
            self._places[number] = self._end, len(data)
            self._end += len(data)

    def get(self, number: int) -> bytes | None:
        """Return the bytes stored under a number, or None."""
        with self._lock:
            if number not in self._places or self._file is None:
                return None
            start, length = self._places[number]
            self._file.seek(start)
            return self._file.read(length)
