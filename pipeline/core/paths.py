"""Folders of this machine: where files are searched, and the error when one is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pipeline.core.addresses import LOCAL, is_address
from pipeline.core.errors import ConfigError, MissingInput
from pipeline.core.section import NOT_IN_KEY, Section

PROJECT = Path(__file__).resolve().parents[2]
"""The folder of the packages `pipeline` and `stages`: a checkout, or where they are installed."""
INSTALLED = not (PROJECT / "cfgs" / "default.yaml").is_file()
"""True outside a checkout: relative paths then start from the working folder."""
ENVIRONMENT = {"ABS_ARTIFACTS": "artifacts", "ABS_DATA": "data", "ABS_WEIGHTS": "weights"}
"""Environment variables that overrule fields of `Paths`."""


def home() -> Path:
    """The folder that relative paths start from: the checkout, else the working folder."""
    return Path.cwd() if INSTALLED else PROJECT


def expand(path: str) -> Path:
    """Expand `~` in a path; ConfigError if the home folder is unknown."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: {error}") from None


class Paths(Section):
    """Folders of this machine; the environment sets them too (`ABS_ARTIFACTS` and so on)."""

    artifacts: Annotated[str, NOT_IN_KEY] = "artifacts"
    data: Annotated[str | None, NOT_IN_KEY] = None
    weights: Annotated[str | None, NOT_IN_KEY] = None

    @property
    def place(self) -> str:
        """Location of the artifacts: a folder, or an address that results are read from."""
        return self.artifacts if is_address(self.artifacts) else str(self.store)

    @property
    def store(self) -> Path:
        """The folder of all artifacts; a relative one lies in the checkout, without one in the
        working folder."""
        if is_address(self.artifacts):
            raise ConfigError(
                f"paths.artifacts: results can be read from {self.artifacts} (pipeline.load), but "
                "units are written where a file can be replaced in one step: give a folder"
            )
        return (home() / expand(self.artifacts.removeprefix(LOCAL))).absolute()

    def absolute(self) -> Paths:
        """Return these paths as absolute paths, valid in a process started anywhere."""
        given = {"artifacts": str(self.store)}
        for name in ("data", "weights"):
            if place := getattr(self, name):
                given[name] = str(expand(place).absolute())
        return self.model_copy(update=given)

    def memory(self, dataset: str) -> Path:
        """Return the file that caches the hashes of a dataset's images.

        The names `<dataset>.files` and `<dataset>.listing` stand for the hashes of its other files,
        and for what its listing came to; `<dataset>.shards` is a folder of what its shards hold.
        """
        return self.store / ".memory" / f"sha256-{dataset}"

    def places(self, path: str) -> list[Path]:
        """List candidates for `path`: itself if absolute, else below the folders of data, weights,
        the checkout or the working folder, and the installed packages."""
        wanted = expand(path)
        if wanted.is_absolute():
            return [wanted]
        given = [expand(base) for base in (self.data, self.weights) if base]
        return [base / wanted for base in dict.fromkeys([*given, home(), PROJECT])]

    def there(self, path: str) -> bool:
        """Return whether any candidate for `path` exists."""
        return any(place.exists() for place in self.places(path))

    def find(self, path: str, what: str, setting: str) -> Path:
        """The first of `places` that exists.

        Raises MissingInput that names every place tried and the setting to change.
        """
        places = self.places(path)
        for place in places:
            if place.exists():
                return place.absolute()
        tried = ", ".join(map(str, places))
        raise MissingInput(f"{what} not found: looked for {tried}; set {setting}")
