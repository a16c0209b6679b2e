"""Frames with their joints as motion JPEG over HTTP, for browsers and players on this machine.

A viewer gets the newest frame once it is done with the previous one. So a slow viewer skips frames
and never makes the camera wait.
"""

import contextlib
import http.server
import threading

import cv2
import numpy as np

from ttp_jax.runs.drawing import draw_pose
from ttp_jax.skeletons import Skeleton

BOUNDARY = "frame"
PATIENCE = 0.5  # seconds until a viewer notices the end


class Screen(contextlib.AbstractContextManager):
    """A server that shows frames at `address` until it is closed."""

    def __init__(self, port: int, skeleton: Skeleton):
        """Listen on a port of this machine; 0 picks a free one.

        Raises ValueError if the port is not available.
        """
        self._skeleton, self._closed = skeleton, False
        self._newest, self._number = b"", 0
        self._changed = threading.Condition()
        try:
            self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        except (OSError, OverflowError) as error:
            raise ValueError(f"port {port} is not available ({error}): choose another.") from error
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __exit__(self, *error) -> None:
        """End all streams."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def show(self, picture: np.ndarray, joints: np.ndarray) -> None:
        """Show the next frame.

        Args:
          picture: uint8 RGB [H, W, 3].
          joints: [K, 2] in pixels of the frame.
        """
        drawn = picture.copy()
        draw_pose(drawn, joints, self._skeleton, "after", max(2, max(drawn.shape) // 300))
        done, data = cv2.imencode(".jpg", cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
        if done:
            with self._changed:
                self._newest, self._number = data.tobytes(), self._number + 1
                self._changed.notify_all()

    def _next(self, last: int) -> tuple[bytes, int]:
        """Wait for a frame after number `last` and return the newest one; b"" at the end."""
        with self._changed:
            while self._number <= last and not self._closed:
                self._changed.wait(PATIENCE)
            return (b"", last) if self._number <= last else (self._newest, self._number)

    def _handler(self):
        screen = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                kind = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
                self.send_header("Content-Type", kind)
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                number = 0
                with contextlib.suppress(OSError):  # the viewer has disconnected
                    while (picture := screen._next(number))[0]:
                        data, number = picture
                        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n"
                        head += f"Content-Length: {len(data)}\r\n\r\n"
                        self.wfile.write(head.encode() + data + b"\r\n")
                    self.wfile.write(f"--{BOUNDARY}--\r\n".encode())

            def log_message(self, *words):
                pass

        return Handler
