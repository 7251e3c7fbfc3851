"""Read by every interpreter that has this directory on PYTHONPATH. Does nothing unless a mistake is asked for."""

from __future__ import annotations

import os

if os.environ.get("UNLEARN_NEGATIVE_CONTROL"):
    import importlib.util
    import sys
    from pathlib import Path

    _path = Path(__file__).resolve().parent.parent / "doubles.py"
    _spec = importlib.util.spec_from_file_location("_negative_doubles", _path)
    assert _spec is not None
    assert _spec.loader is not None
    _doubles = importlib.util.module_from_spec(_spec)
    sys.modules["_negative_doubles"] = _doubles
    _spec.loader.exec_module(_doubles)
    _doubles.install(os.environ["UNLEARN_NEGATIVE_CONTROL"])
