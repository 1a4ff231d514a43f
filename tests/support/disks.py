"""Disks for tests: file systems that are mounted for one. Linux alone, as root."""

import subprocess
from pathlib import Path


def mount(*arguments: str) -> bool:
    """Whether the system let us."""
    return subprocess.run(["mount", *arguments], check=False, capture_output=True).returncode == 0


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
