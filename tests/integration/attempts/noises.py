"""What comes to a port from those who take it for another one."""

from __future__ import annotations

import os

NOISES = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    "noise": b"\0" + os.urandom(500),
}
