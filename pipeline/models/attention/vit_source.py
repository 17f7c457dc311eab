"""A timm ViT as configured, resolved without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pipeline.core import files
from pipeline.core.errors import AbsError
from pipeline.core.hashing import digest
from pipeline.models import local_dir
from pipeline.models.config import RANDOM, VitConfig
from pipeline.models.resolved import Resolved
from pipeline.models.source import ModelSource, seed_of

if TYPE_CHECKING:
    from pipeline.core.runtime import Runtime
    from pipeline.models.attention.vit import AttentionVit


@dataclass(frozen=True)
class VitSource(ModelSource):
    """A timm ViT with a class token, whose attention guides the crops."""

    config: VitConfig
    library: ClassVar[str] = "timm"
    section: ClassVar[str] = "attention"
    layouts: ClassVar[tuple[local_dir.FolderLayout, ...]] = (local_dir.VIT,)

    @cached_property
    def shape(self) -> tuple[int, int] | None:
        """Number of blocks, and of patches along a side; None if the architecture cannot be built
        without values. Cached, so that a finished run imports no library."""
        model, version = self.resolved, metadata.version(self.library)
        name = f"{self.library}-shape-{digest([model.name, model.architecture, version])}.json"
        path = self.paths.store / ".memory" / name
        try:
            layers, grid = files.read_sealed(path, "memory")["shape"]
            return int(layers), int(grid)
        except (AbsError, KeyError, TypeError, ValueError):
            from pipeline.models.attention.vit import shape_of  # imports timm

            if found := shape_of(model.name):
                path.parent.mkdir(parents=True, exist_ok=True)
                files.write_sealed(path, {"shape": list(found)})
            return found

    def load(self, runtime: Runtime) -> AttentionVit:
        """Build the model and load its weights."""
        from pipeline.models.attention.vit import AttentionVit

        return AttentionVit(self.config, self.resolved, runtime)

    def _resolve_folder(self, folder: Path) -> Resolved:
        return local_dir.read_vit(folder)

    def _resolve_name(self, name: str, weights: str) -> Resolved:
        from pipeline.models.attention import names as timm_names

        if weights.startswith(RANDOM):
            return timm_names.resolve_random(name, seed_of(weights, "attention.weights"))
        return timm_names.resolve(name, weights, self.paths)
