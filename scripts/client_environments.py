"""Build an environment for each published client that the tests run: `python scripts/client_environments.py FOLDER`.

FOLDER/NAME becomes a virtual environment with what tests/server/clients/NAME.txt pins, and FOLDER/azure-node the packages that
azure-node/package-lock.json pins, where npm is installed.  What is there and has not changed is left as it is.  pip and
npm ask the registries that they are configured to.
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

PINS = Path(__file__).resolve().parent.parent / "tests" / "server" / "clients"
STAMP = "built-from"
"""Holds the pins that an environment was built from; written last."""


def build_all(folder: Path) -> None:
    """Build what is missing or was built from other pins."""
    for pins in sorted(PINS.glob("*.txt")):
        _build(folder / pins.stem, pins, _install_python)
    if shutil.which("npm") is None:
        print("npm is not installed: no environment for the JavaScript client", file=sys.stderr)
    else:
        _build(folder / "azure-node", PINS / "azure-node" / "package-lock.json", _install_node)


def _build(environment: Path, pins: Path, install) -> None:
    stamp = environment / STAMP
    if stamp.exists() and stamp.read_bytes() == pins.read_bytes():
        return
    print(f"Building {environment}", file=sys.stderr)
    shutil.rmtree(environment, ignore_errors=True)
    install(environment, pins)
    stamp.write_bytes(pins.read_bytes())


def _install_python(environment: Path, pins: Path) -> None:
    venv.create(environment, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "--python", environment / "bin" / "python", "install", "-r", pins], check=True)


def _install_node(environment: Path, pins: Path) -> None:
    environment.mkdir(parents=True)
    for file in pins.parent.iterdir():
        shutil.copy(file, environment)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=environment, check=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: client_environments.py FOLDER")
    try:
        build_all(Path(sys.argv[1]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd[0]} failed")
