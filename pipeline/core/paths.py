"""Where files are looked for, and the answer when one is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pipeline.core.addresses import LOCAL, is_address
from pipeline.core.errors import ConfigError, MissingInput
from pipeline.core.section import NOT_IN_KEY, Section

PROJECT = Path(__file__).resolve().parents[2]
"""The folder of the packages `pipeline` and `stages`: a checkout, or where they are installed."""
INSTALLED = not (PROJECT / "cfgs" / "default.yaml").is_file()
"""Whether this is no checkout: relative paths then start from the working folder."""
ENVIRONMENT = {"ABS_ARTIFACTS": "artifacts", "ABS_DATA": "data", "ABS_WEIGHTS": "weights"}
"""Environment variables that overrule fields of `Paths`."""


def home() -> Path:
    """The folder that relative paths start from: the checkout, else the working folder."""
    return Path.cwd() if INSTALLED else PROJECT


def expand(path: str) -> Path:
    """`path` with `~` replaced; ConfigError if there is no such home."""
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
        """Where artifacts lie: a folder, or an address that results can be read from."""
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
        """The same places, wherever a process is started."""
        given = {"artifacts": str(self.store)}
        for name in ("data", "weights"):
            if place := getattr(self, name):
                given[name] = str(expand(place).absolute())
        return self.model_copy(update=given)

    def memory(self, dataset: str) -> Path:
        """Where the digests of a dataset's files are remembered; without it all are read again."""
        return self.store / ".memory" / f"sha256-{dataset}"

    def places(self, path: str) -> list[Path]:
        """Where `path` may lie: there if absolute, else below the folders of data and of weights,
        the checkout or the working folder, and the installed packages."""
        wanted = expand(path)
        if wanted.is_absolute():
            return [wanted]
        given = [expand(base) for base in (self.data, self.weights) if base]
        return [base / wanted for base in dict.fromkeys([*given, home(), PROJECT])]

    def there(self, path: str) -> bool:
        """Whether `path` lies in any of its places."""
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
