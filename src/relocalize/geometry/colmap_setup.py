"""pycolmap as a guest in the process: it prints nothing and does not decide what SIGTERM does.

Imported before every other module that uses pycolmap, because the room `geometry` is above them.
"""

import signal
import threading

import pycolmap

# COLMAP's own log, which goes to stderr, is not for our users: what fails comes back to us as an
# exception or an empty result, and we say it.
pycolmap.logging.minloglevel = int(pycolmap.logging.Level.FATAL)

# Importing pycolmap has glog print a native stack trace when the process is asked to end. Python
# does not notice that its handler was replaced, and still knows which one it was.
_HANDLER = signal.getsignal(signal.SIGTERM)
if _HANDLER is not None and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, _HANDLER)
