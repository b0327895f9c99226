"""Programs that must work: what models write when they are asked to compute something."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from mistral_local.tools.sandbox import Sandbox, run

pytestmark = pytest.mark.bwrap

PROGRAMS = {
    "json": ("import json; print(json.dumps(json.loads('{\"a\": [1, 2.5, null]}')))", '{"a": [1, 2.5, null]}'),
    "math": (
        "import math; print(math.factorial(20), math.isqrt(10**10), round(math.pi, 6))",
        "2432902008176640000 100000 3.141593",
    ),
    "datetime": ("import datetime as d; print(d.date(2024, 2, 28) + d.timedelta(2))", "2024-03-01"),
    "today": ("import datetime, time; print(abs(datetime.datetime.now().timestamp() - time.time()) < 5)", "True"),
    "random": ("import random; random.seed(1); print(random.randint(1, 6) in range(1, 7))", "True"),
    "sqlite3": (
        "import sqlite3; c = sqlite3.connect(':memory:'); c.execute('create table t (a)');"
        "c.executemany('insert into t values (?)', [(1,), (2,)]); print(c.execute('select sum(a) from t').fetchone()[0])",
        "3",
    ),
    "sqlite3 in a file": (
        "import sqlite3; c = sqlite3.connect('f.db'); c.execute('create table t (a)'); c.commit(); print('ok')",
        "ok",
    ),
    "decimal": ("from decimal import Decimal; print(Decimal('0.1') + Decimal('0.2'))", "0.3"),
    "fractions": ("from fractions import Fraction; print(Fraction(1, 3) + Fraction(1, 6))", "1/2"),
    "re": ("import re; print(re.findall(r'\\d+', 'a1b22'))", "['1', '22']"),
    "statistics": ("import statistics; print(statistics.stdev([1, 2, 3]))", "1.0"),
    "zoneinfo": (
        "import zoneinfo, datetime; print(datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Paris')))",
        "2024-07-01 00:00:00+02:00",
    ),
    "dataclasses": (
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n    x: int = 1\nprint(P(2))",
        "P(x=2)",
    ),
    "asyncio": (
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 5\nprint(asyncio.run(f()))",
        "5",
    ),
    "threads": (
        "from concurrent.futures import ThreadPoolExecutor as T\nwith T(8) as t: print(sum(t.map(abs, range(100))))",
        "4950",
    ),
    "thirty threads": (
        "import threading\ne = threading.Event(); ts = [threading.Thread(target=e.wait) for _ in range(31)]\n"
        "for t in ts: t.start()\nprint(threading.active_count()); e.set()",
        "32",
    ),
    "unicode": ("print('π ≈ 3.14159, 数学 𝄞')", "π ≈ 3.14159, 数学 𝄞"),
    "csv": ("import csv, io; print(list(csv.reader(io.StringIO('a,b'))))", "[['a', 'b']]"),
    "temporary files": ("import tempfile\nwith tempfile.NamedTemporaryFile() as f: print(f.write(b'abc'))", "3"),
    "shutil": ("import shutil; open('a', 'w').write('x'); print(open(shutil.copy2('a', 'b')).read())", "x"),
    "secrets": ("import secrets, uuid, hashlib; print(len(secrets.token_hex(4)), len(str(uuid.uuid4())))", "8 36"),
    "compression": ("import zlib, bz2, lzma; print(lzma.decompress(lzma.compress(b'x')))", "b'x'"),
    "recursion": ("def f(n): return n and f(n - 1)\nprint(f(900))", "0"),
    "recursion without end": ("def f(): f()\ntry: f()\nexcept RecursionError: print('caught')", "caught"),
    "memory that runs out": ("try: bytearray(1 << 40)\nexcept MemoryError: print('caught')", "caught"),
    "signals": (
        "import signal, time\nsignal.signal(signal.SIGALRM, lambda *a: print('alarm'))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.05); time.sleep(0.2)",
        "alarm",
    ),
    "fibonacci": ("a, b = 0, 1\nfor _ in range(50): a, b = b, a + b\nprint(a)", "12586269025"),
}


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("driver", ["root", "user"])
def test_it_works_with(name: str, driver: str, request: pytest.FixtureRequest) -> None:
    code, expected = PROGRAMS[name]
    answer = request.getfixturevalue(driver).run(code)
    assert (answer["stdout"], answer["stderr"], answer["exit_code"]) == (f"{expected}\n", "", 0)
    assert answer["left"] == []


@pytest.mark.usefixtures("nothing_left")
def test_what_is_refused_says_so_as_a_permission_error() -> None:
    for code in (
        "import socket; socket.create_connection(('1.1.1.1', 80))",
        "import subprocess; subprocess.run(['ls'])",
    ):
        result = run(code)
        assert result.exit_code == 1
        assert "PermissionError: [Errno 1] Operation not permitted" in result.stderr


@pytest.fixture(scope="module")
def environment_with_numpy() -> Iterator[str]:
    """An environment of /usr/bin/python3 with this environment's numpy, where the two Pythons are of one version."""
    numpy = find_spec("numpy")
    version = subprocess.run(["/usr/bin/python3", "-c", "import sys; print(sys.version_info[:2])"], capture_output=True)
    if numpy is None or numpy.origin is None or version.stdout.decode().strip() != str(sys.version_info[:2]):
        pytest.skip("needs numpy for the Python that is /usr/bin/python3")
    folder = Path(tempfile.mkdtemp(prefix="mistral_local-numpy-", dir="/tmp"))
    folder.chmod(0o755)
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", folder / "env"], check=True)
    (packages,) = folder.glob("env/lib/python*/site-packages")
    for source in (Path(numpy.origin).parent, Path(numpy.origin).parents[1] / "numpy.libs"):
        if source.exists():
            shutil.copytree(source, packages / source.name, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    yield str(folder / "env/bin/python")
    shutil.rmtree(folder)


def test_numpy_works_when_the_chosen_interpreter_has_it(environment_with_numpy: str) -> None:
    code = """
import numpy as np
a = np.arange(10000.0).reshape(100, 100)
print(np.allclose(a @ np.eye(100), a), np.linalg.matrix_rank(a))
"""
    result = Sandbox(python=environment_with_numpy).run(code)
    assert (result.stdout, result.stderr, result.exit_code) == ("True 2\n", "", 0)
