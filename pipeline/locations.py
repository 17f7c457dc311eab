"""Where files are looked for, and the answer when one is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pipeline.addresses import LOCAL, is_address
from pipeline.config import RUNTIME, Section
from pipeline.errors import ConfigError, MissingInput

PROJECT = Path(__file__).resolve().parent.parent
"""The checkout: home of `cfgs/` and of the embedded demo."""


def expand(path: str) -> Path:
    """`path` with `~` replaced; ConfigError if there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"{path}: {error}") from None


class Paths(Section):
    """Folders of this machine; the environment sets them too (`ABS_ARTIFACTS` and so on)."""

    artifacts: Annotated[str, RUNTIME] = "artifacts"
    data: Annotated[str | None, RUNTIME] = None
    weights: Annotated[str | None, RUNTIME] = None

    @property
    def place(self) -> str:
        """Where artifacts lie: a folder, or an address that results can be read from."""
        return self.artifacts if is_address(self.artifacts) else str(self.store)

    @property
    def store(self) -> Path:
        """The folder of all artifacts; a relative one lies in the project."""
        if is_address(self.artifacts):
            raise ConfigError(
                f"paths.artifacts: results can be read from {self.artifacts} (pipeline.load), but "
                "units are written where a file can be replaced in one step: give a folder"
            )
        return (PROJECT / expand(self.artifacts.removeprefix(LOCAL))).absolute()

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
        """Where `path` may lie: there if absolute, else below the data, weights or project."""
        wanted = expand(path)
        bases = [expand(base) for base in (self.data, self.weights) if base]
        return [wanted] if wanted.is_absolute() else [b / wanted for b in [*bases, PROJECT]]

    def there(self, path: str) -> bool:
        """Whether `path` lies in any of its places."""
        return any(place.exists() for place in self.places(path))

    def find(self, path: str, what: str, setting: str) -> Path:
        """`path` itself if absolute, else below the data, weights or project folder.

        Raises MissingInput that names every place tried and the setting to change.
        """
        places = self.places(path)
        for place in places:
            if place.exists():
                return place.absolute()
        tried = ", ".join(map(str, places))
        raise MissingInput(f"{what} not found: looked for {tried}; set {setting}")
