"""Where the files shipped with the project lie: in a checkout at its top level, in a wheel inside the package."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """Path of a shipped folder or file, such as ``sql/views`` or ``configs/lexicon.yaml``.

    Raises:
        FileNotFoundError: the installation is incomplete.
    """
    for root in (_PACKAGE / "_resources", _PACKAGE.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(f"{name} is not part of this installation of ecner; reinstall it")


def asset(name: str) -> Path:
    """Path of a file inside the package's assets: the shipped model and the shipped sample."""
    return _PACKAGE / "assets" / name
