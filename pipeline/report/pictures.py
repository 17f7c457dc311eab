"""Thumbnails of a report: one file for each image, written once and named by its content."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import AbsError
from pipeline.core.files import write_atomic
from pipeline.datasets.images import decode, read_verified

if TYPE_CHECKING:
    from pipeline.datasets.contents import Contents

SIDE = 480
"""Longest side of a thumbnail, in pixels."""
QUALITY = 85
"""Quality of JPEG."""


@dataclass(frozen=True)
class Pictures:
    """Writes thumbnails of a dataset's images to a folder."""

    folder: Path
    contents: Contents | None
    """Access to the images; None where the dataset is not to be had."""
    missing: str = ""
    """Reason why there is no access."""

    def thumbnail(self, image: Any) -> dict[str, str]:
        """Return the file of an image's thumbnail, or why there is none: `file` or `gone`.

        Args:
            image: Row of the index, with `path` and `sha256`.
        """
        file = self.folder / f"{image.sha256[:24]}.jpg"
        if self.contents is None:
            return {"gone": self.missing}
        try:
            content = read_verified(self.contents, image.path, image.sha256)
            if not file.is_file():
                write_atomic(file, _reduced(content))
        except AbsError as error:
            return {"gone": str(error).partition(";")[0]}
        except (OSError, KeyError, ValueError) as error:
            what = getattr(error, "strerror", None) or type(error).__name__
            return {"gone": f"{self.contents.where(image.path)} cannot be read: {what}"}
        return {"file": f"{self.folder.name}/{file.name}"}


def _reduced(content: bytes) -> bytes:
    """Encode an image as JPEG of at most `SIDE` pixels a side, with the colours that CLIP sees."""
    image = decode(content)
    image.thumbnail((SIDE, SIDE))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=QUALITY, optimize=True)
    return written.getvalue()
