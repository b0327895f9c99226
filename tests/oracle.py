"""one_file_ref.py, which lies beside src/ and is not installed, as the oracle of the tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import one_file_ref

__all__ = ["one_file_ref"]
