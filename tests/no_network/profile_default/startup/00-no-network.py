"""Runs first in every kernel of the tests: refuses every connection that leaves this machine.

An audit hook cannot be taken out again by the code it watches.
"""

import sys


def _refuse(event, args):
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event in ("socket.connect", "socket.sendto"):
        host = args[1][0] if isinstance(args[1], tuple) else "localhost"
    else:
        return
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host not in (None, "", "localhost", "::1") and not str(host).startswith("127."):
        raise ConnectionError(f"the course works offline: a lesson tried to reach {host}")


sys.addaudithook(_refuse)
del sys
