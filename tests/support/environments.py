"""Virtual environments of their own, each made from a lock with hashes, and anew when that has changed."""

import hashlib
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]


def environment(folder: Path, lock: Path, python: str) -> Path:
    """The Python of the environment in `folder`, which is made if it is not there. Raises CalledProcessError."""
    stamp, made_of = folder / "stamp", hashlib.sha256(lock.read_bytes() + python.encode()).hexdigest()
    inside = folder / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != made_of:
        print(f"Making {folder.relative_to(ROOT)} …", flush=True)
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        # Of what is installed little is loaded, and compiled then.
        pip = [str(inside), "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-compile"]
        subprocess.run([*pip, "--require-hashes", "-r", str(lock)], check=True)
        stamp.write_text(made_of)
    return inside
