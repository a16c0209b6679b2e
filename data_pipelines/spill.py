"""What doesn't fit into memory while a subject is under way: bytes in a temporary file."""

import tempfile
import threading


class Spill:
    """Bytes by number, in a file without a name that goes when this does.

    For any number of threads. Where the file is as large as it may be, or the disk is full, no more
    is kept.
    """

    def __init__(self, most: int):
        """Keep `most` bytes at most; there is no file before the first."""
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
        """Keep this under a number, if there is room; what is kept already stays."""
        with self._lock:
            if number in self._places or self._end + len(data) > self._most:
                return
            try:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
                self._file.seek(self._end)
                written = self._file.write(data)
            except OSError:  # a full disk
                written = 0
            if written != len(data):
                self._most = 0
                return
            self._places[number] = self._end, len(data)
            self._end += len(data)

    def get(self, number: int) -> bytes | None:
        """What is kept under a number; None where nothing is."""
        with self._lock:
            if number not in self._places or self._file is None:
                return None
            start, length = self._places[number]
            self._file.seek(start)
            return self._file.read(length)
