"""Load tensors from weights files without running any code of theirs.

A file is read by its content, whatever its suffix. safetensors files hold only tensors. Pickles are
read by torch's restricted reader, and archives that hold other objects too by one that replaces
these objects (`inert_pickle`). TorchScript archives, the format of OpenAI's CLIPs, are opened by
torch's own reader.

A checkpoint of training may hold several models, each in a mapping of its own or behind a prefix of
names. They are found by a name that every such model has, its landmark.
"""

from __future__ import annotations

import pickle
import re
import textwrap
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.core.errors import AbsError
from pipeline.models import inert_pickle, shards
from pipeline.models.device import quiet
from pipeline.models.first_bytes import no_weights

CLIP = ("logit_scale",)
"""Name that every CLIP has."""

VIT = ("cls_token", "visual.class_embedding")
"""Names of the class token: in timm, DINO, MAE and DeiT, and in CLIPs, which timm translates."""

RANKS: tuple[set[str], ...] = ({"teacher"}, {"ema"}, set(), {"student", "momentum"})
"""Words in a model's place in a checkpoint, the preferred first; an empty set is any other word."""

DEPTH = 4
"""Mappings around a mapping of tensors that are searched."""

CHUNK = re.compile(r"\bblocks\.[0-9]+\.(?=[0-9]+\.)")
"""Start of names of DINOv2's blocks where they are trained in chunks: `blocks.<chunk>.<block>.`"""

ITSELF = "the file itself"
"""Name, in messages, of the place of a model that is not in a mapping of its own."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of weights. Integers and 8-bit floats are quantised: they mean nothing without a scale."""

WEIGHTS = ("weight", "bias", "token", "tokens", "embed", "embedding", "proj")
"""Ends of names of weights, unlike those of indices, masks and counters."""

PART = re.compile(r".*-([0-9]+)-of-([0-9]+)")
"""Name of a file, without suffix, that holds a part of a model's tensors."""

OPENAI = ("input_resolution", "context_length", "vocab_size")
"""Entries of OpenAI's archives that are not weights."""


def is_torchscript(file: Path) -> bool:
    """Return whether a file is a TorchScript archive; False if it cannot be read."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


@dataclass(frozen=True)
class Found:
    """A model in a weights file."""

    place: str
    """Keys and prefix of names that lead to it, such as `teacher.backbone`; empty for the whole."""
    tensors: dict[str, Tensor]
    """Its tensors by the model's own names, on the CPU."""
    others: tuple[str, ...] = ()
    """Places of other models in the file that were not taken."""

    @property
    def choice(self) -> dict[str, str]:
        """Return what was taken of a file with several models, as part of an environment."""
        places = ", ".join(place or ITSELF for place in self.others)
        return {"weights": f"{self.place or ITSELF}, not {places}"} if places else {}

    @property
    def rank(self) -> int:
        """Return the position of its place in `RANKS`."""
        words = set(re.split(r"[._]", self.place))
        other = RANKS.index(set())
        return next((i for i, wanted in enumerate(RANKS) if wanted & words), other)

    @property
    def quantised(self) -> str:
        """Return the types of its weights that are no floats, in words."""
        weights = (value for name, value in self.tensors.items() if name.endswith(WEIGHTS))
        types = {str(value.dtype) for value in weights if value.dtype not in FLOATS}
        return ", ".join(sorted(types)).replace("torch.", "")

    @property
    def without_value(self) -> str:
        """Return the first of its weights that has a NaN or an infinity; empty without one."""
        weights = ((n, value) for n, value in self.tensors.items() if n.endswith(WEIGHTS))
        return next((name for name, value in weights if not _finite(value)), "")

    def agreement(self, model: Mapping[str, Tensor]) -> int:
        """Count the tensors of `model` that are here with the same shape, as floats or as not."""
        pairs = ((self.tensors.get(name), wanted) for name, wanted in model.items())
        return sum(own is not None and _alike(own, wanted) for own, wanted in pairs)

    def equals(self, other: Found) -> bool:
        """Return whether another place holds the same tensors."""
        pairs = ((value, other.tensors.get(name)) for name, value in self.tensors.items())
        return len(self.tensors) == len(other.tensors) and all(
            theirs is not None and own.dtype == theirs.dtype and torch.equal(own, theirs)
            for own, theirs in pairs
        )


def read(file: Path) -> Found:
    """Find the weights of a CLIP in a file, as `find` does."""
    return find(file, CLIP, {})


def find(file: Path, landmarks: tuple[str, ...], model: Mapping[str, Tensor]) -> Found:
    """Find the weights of a model in a file.

    Reads safetensors, files of torch.save with tensors or with a checkpoint of them, and OpenAI's
    TorchScript archives, by their content. Of several models in a file, the one that agrees with
    most tensors of `model` is taken; of several that agree alike, the first by `RANKS`.

    Args:
        file: The file.
        landmarks: Names of which a model has one. A file without any is taken as it is.
        model: Tensors of the model by name, of which only shapes and types count.

    Raises:
        AbsError: For any other file, for several models of which none is preferred, and for
            weights that are quantised, NaN or infinite.
    """
    content = _of_shards(file) if shards.is_index(file) else _loaded(file)
    mappings = list(_mappings(content))
    if not mappings:
        raise _unloadable(file, "it is not a mapping of names to tensors, such as a state_dict")
    models = [found for mapping in mappings for found in _models(mapping, landmarks)]
    largest = max(mappings, key=lambda each: len(each.tensors))
    found, *others = _preferred(models, model) or [largest]
    if unlike := [other.place for other in others if not other.equals(found)]:
        places = " and ".join(place or ITSELF for place in (found.place, unlike[0]))
        raise _unloadable(file, f"it holds different models in {places}; save one of them alone")
    if found.quantised:
        raise _unloadable(file, f"its weights are {found.quantised}; only floats can be used")
    if name := found.without_value:
        raise _unloadable(file, f"{name} has NaN or infinite values; take another checkpoint")
    same = {other.place for other in (found, *others)}
    left = (other.place for other in models if other.place not in same)
    return replace(found, others=tuple(dict.fromkeys(left)))


def _preferred(models: list[Found], model: Mapping[str, Tensor]) -> list[Found]:
    """Return the models that agree most with `model`, and of these the first by rank."""
    order = [(-found.agreement(model), found.rank) for found in models]
    return [found for found, place in zip(models, order, strict=True) if place == min(order)]


_LEGACY = (
    "a pickle that is not a zip archive of torch and holds more than tensors; where it is trusted, "
    "load it with torch and save its state_dict with torch.save or as safetensors"
)


def short_reason(error: Exception) -> str:
    """Shorten a library's error, which may fill a screen, to one line."""
    words = str(error).split() or [type(error).__name__]
    return textwrap.shorten(" ".join(words), 240, placeholder=" ...")


def _unloadable(file: Path, reason: str) -> AbsError:
    """Return the error for a file that cannot be loaded."""
    return AbsError(f"weights {file} cannot be loaded: {reason}")


def _of_shards(index: Path) -> dict[str, Any]:
    """Load all files that an index names; AbsError if they do not hold what it says."""
    expected, found = shards.read_index(index), dict[Path, list[str]]()
    tensors: dict[str, Any] = {}
    for path in expected:
        content = _loaded(path, part=True)
        if not isinstance(content, dict):
            raise _unloadable(path, "it is not a mapping of names to tensors")
        found[path] = [str(name) for name in content]
        tensors |= content
    shards.compare(index, expected, found)
    return tensors


def _loaded(file: Path, part: bool = False) -> Any:
    """Load a file by its format; AbsError if that fails. Arguments as of `_content`."""
    try:
        with quiet():
            return _content(file, part)
    except pickle.UnpicklingError:
        raise _unloadable(file, _LEGACY) from None
    except Exception as error:  # of many types, for a damaged file
        raise _unloadable(file, short_reason(error)) from None


def _content(file: Path, part: bool) -> Any:
    """Load a file by its format; `part` if it may be one of several, whose index is known."""
    if (numbers := PART.fullmatch(file.stem)) and not part:
        number, count = map(int, numbers.groups())
        if count > 1:
            raise ValueError(
                f"it is part {number} of {count}; give the folder, or the index{shards.INDEX}"
            )
    with file.open("rb") as opened:
        start = opened.read(512)
    if words := no_weights(start):
        raise ValueError(words)
    archive = start.startswith((b"PK", b"\x80"))
    if _is_safetensors(file, start) or (file.suffix == ".safetensors" and not archive):
        return dict(load_file(file))
    if is_torchscript(file):
        return _openai(file)
    with file.open("rb") as opened:  # by its path, torch would go by its suffix
        try:
            return torch.load(opened, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            if not zipfile.is_zipfile(file):
                raise
        opened.seek(0)
        return torch.load(
            opened, map_location="cpu", weights_only=False, pickle_module=inert_pickle
        )


def _is_safetensors(file: Path, start: bytes) -> bool:
    """Return whether a file begins with the header of safetensors, whatever its suffix."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size


def _openai(file: Path) -> dict[str, Any]:
    """Load one of OpenAI's archives."""
    tensors = torch.jit.load(str(file), map_location="cpu").state_dict()
    if not all(name in tensors for name in OPENAI):
        raise ValueError("a TorchScript archive, but not one of OpenAI's; save its state_dict")
    return {name: value for name, value in tensors.items() if name not in OPENAI}


def _mappings(content: Any, place: str = "", depth: int = DEPTH) -> Iterator[Found]:
    """Yield every mapping in a file that holds tensors, with these tensors alone."""
    if not isinstance(content, dict):
        return
    tensors = {str(name): value for name, value in content.items() if _has_values(value)}
    if tensors:
        yield Found(place, _plain_names(tensors))
    for name, inner in content.items() if depth else ():
        yield from _mappings(inner, _place(place, name), depth - 1)


def _has_values(value: Any) -> bool:
    """Return whether an object is a dense tensor with values, unlike one of the device `meta`."""
    return isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta


def _place(outer: str, inner: object) -> str:
    """Join keys and prefixes by dots, on one line."""
    return textwrap.shorten(f"{outer}.{inner}".strip("."), 120)


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop from names what torch.compile and DINOv2's chunks insert, if names stay different."""
    plain = {CHUNK.sub("blocks.", n.replace("_orig_mod.", "")): v for n, v in tensors.items()}
    return plain if len(plain) == len(tensors) else tensors


def _models(mapping: Found, landmarks: tuple[str, ...]) -> Iterator[Found]:
    """Yield the models of a mapping: the tensors that share the prefix of a landmark."""
    for name in mapping.tensors:
        for landmark in landmarks:
            if name == landmark or name.endswith(f".{landmark}"):
                prefix = name.removesuffix(landmark)
                yield Found(_place(mapping.place, prefix), _behind(prefix, mapping.tensors))


def _behind(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _finite(values: Tensor) -> bool:
    """Return whether no value is NaN or infinite: the least and the largest tell."""
    return not values.numel() or bool(torch.stack(values.aminmax()).isfinite().all())


def _alike(own: Tensor, wanted: Tensor) -> bool:
    """Return whether a tensor can stand for another: its shape, and a float for a float."""
    return own.shape == wanted.shape and (own.dtype in FLOATS or not wanted.is_floating_point())
