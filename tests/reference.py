"""ABS for one image in float64, written from the paper's equations and the official profile.

Slow on purpose: plain loops, full attention matrices, one crop at a time, nothing shared with the
pipeline. Modules of open_clip and timm only hold the weights; every product is written out here.
Images are PIL images in RGB, tokens (1 + grid * grid, width), grids row by row, boxes half-open.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

Box = tuple[int, int, int, int]
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Profile:
    """The numbers of a run; the defaults are the official profile."""

    n: int
    seed: int = 0
    k: int = 20
    tau: float = 0.03
    alpha: float = 0.5
    beta: float = 0.9
    temperature: float = 0.03


@dataclass(frozen=True)
class Crop:
    """Draw i of an image: a box in pixels around a patch, a window of tokens around a token."""

    patch: int
    box: Box
    token: int
    window: Box


# --- Layers ---------------------------------------------------------------------------------


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)


def layer_norm(x: Tensor, w: Weights, name: str, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = (centred**2).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def softmax(x: Tensor) -> Tensor:
    e = torch.exp(x - x.max(dim=-1, keepdim=True).values)
    return e / e.sum(dim=-1, keepdim=True)


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def quick_gelu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-1.702 * x))


def attend(
    x: Tensor, w: Weights, heads: int, eps: float, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Self-attention of one sequence, and its weights (heads, tokens, tokens)."""
    query, key, value = linear(x, w, "qkv").chunk(3, dim=-1)
    width = x.shape[1] // heads
    outs, maps = [], []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        q, k = query[:, part], key[:, part]
        if "q_norm.weight" in w:
            q, k = layer_norm(q, w, "q_norm", eps), layer_norm(k, w, "k_norm", eps)
        logits = q @ k.T / math.sqrt(width)
        if causal:
            future = torch.ones_like(logits).triu(1).bool()
            logits = logits.masked_fill(future, -math.inf)
        maps.append(softmax(logits))
        outs.append(maps[-1] @ value[:, part])
    return linear(torch.cat(outs, dim=-1), w, "proj"), torch.stack(maps)


@dataclass(frozen=True)
class Block:
    """A pre-norm transformer block."""

    weights: Weights
    heads: int
    eps: float
    act: Callable[[Tensor], Tensor]
    causal: bool = False

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """One sequence (tokens, width) to the next, and the attention weights on the way."""
        w = self.weights
        normed = layer_norm(x, w, "norm1", self.eps)
        mixed, maps = attend(normed, w, self.heads, self.eps, self.causal)
        x = x + mixed * w.get("ls1.gamma", 1.0)
        hidden = self.act(linear(layer_norm(x, w, "norm2", self.eps), w, "fc1"))
        return x + linear(hidden, w, "fc2") * w.get("ls2.gamma", 1.0), maps


def embed_patches(pixels: Tensor, kernel: Tensor) -> Tensor:
    """Non-overlapping convolution: pixels (3, side, side) to (patches, width)."""
    size = kernel.shape[-1]
    rows = []
    for top in range(0, pixels.shape[1], size):
        for left in range(0, pixels.shape[2], size):
            patch = pixels[:, top : top + size, left : left + size]
            rows.append(kernel.flatten(1) @ patch.flatten())
    return torch.stack(rows)


def doubled(module: nn.Module) -> Weights:
    return {name: value.detach().double() for name, value in module.state_dict().items()}


def taken(weights: Weights, prefix: str, names: dict[str, str]) -> Weights:
    """Weights below `prefix`, under the names that `Block` uses; all of them must have one."""
    found = {}
    for name, value in weights.items():
        if name.startswith(prefix):
            rest = name.removeprefix(prefix)
            old = max((old for old in names if rest.startswith(old)), key=len)
            found[names[old] + rest.removeprefix(old)] = value
    return found


# --- Models ---------------------------------------------------------------------------------

OPEN_CLIP_BLOCK = {
    "ln_1": "norm1",
    "attn.in_proj_": "qkv.",
    "attn.out_proj": "proj",
    "ln_2": "norm2",
    "mlp.c_fc": "fc1",
    "mlp.c_proj": "fc2",
}
TIMM_BLOCK = {
    "norm1": "norm1",
    "attn.qkv": "qkv",
    "attn.q_norm": "q_norm",
    "attn.k_norm": "k_norm",
    "attn.proj": "proj",
    "norm2": "norm2",
    "mlp.fc1": "fc1",
    "mlp.fc2": "fc2",
    "ls1": "ls1",
    "ls2": "ls2",
}


def normalized(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    pixels = torch.tensor(np.array(image), dtype=torch.float64).permute(2, 0, 1) / 255
    return torch.stack([(pixels[c] - mean[c]) / std[c] for c in range(3)])


class Clip:
    """Both encoders of a CLIP whose weights an open_clip module holds."""

    eps = 1e-5

    def __init__(self, module: nn.Module, config: dict[str, Any], mean: Any, std: Any) -> None:
        self.weights = doubled(module)
        self.mean, self.std = mean, std
        vision, text = config["vision_cfg"], config["text_cfg"]
        act = quick_gelu if config.get("quick_gelu") else gelu
        heads = vision["width"] // vision.get("head_width", 64)
        self.side = vision["image_size"]
        self.grid = self.side // vision["patch_size"]
        self.blocks = self._blocks("visual.transformer", vision["layers"], heads, act)
        self.text_blocks = self._blocks("transformer", text["layers"], text["heads"], act, True)

    def _blocks(
        self,
        prefix: str,
        count: int,
        heads: int,
        act: Callable[[Tensor], Tensor],
        causal: bool = False,
    ) -> list[Block]:
        found = [
            taken(self.weights, f"{prefix}.resblocks.{i}.", OPEN_CLIP_BLOCK) for i in range(count)
        ]
        return [Block(weights, heads, self.eps, act, causal) for weights in found]

    def preprocess(self, image: Image.Image) -> Tensor:
        """CLIP's own: the short side resized by bicubic interpolation, then the centre."""
        image = Resize(self.side, InterpolationMode.BICUBIC)(image)
        return normalized(CenterCrop(self.side)(image), self.mean, self.std)

    def tokens_before(self, image: Image.Image, layer: int) -> Tensor:
        """What enters block `layer`, counted from 0."""
        w = self.weights
        patches = embed_patches(self.preprocess(image), w["visual.conv1.weight"])
        x = torch.cat([w["visual.class_embedding"][None], patches])
        x = layer_norm(x + w["visual.positional_embedding"], w, "visual.ln_pre", self.eps)
        for block in self.blocks[:layer]:
            x = block(x)[0]
        return x

    def finish(self, x: Tensor, layer: int) -> Tensor:
        """The unit vector of one sequence that enters block `layer`."""
        for block in self.blocks[layer:]:
            x = block(x)[0]
        pooled = layer_norm(x[:1], self.weights, "visual.ln_post", self.eps)[0]
        return unit(pooled @ self.weights["visual.proj"])

    def encode_image(self, image: Image.Image) -> Tensor:
        return self.finish(self.tokens_before(image, 0), 0)

    def encode_text(self, tokens: Sequence[int]) -> Tensor:
        """The unit vector of one padded token sequence, read at its end (the highest id)."""
        w = self.weights
        x = w["token_embedding.weight"][list(tokens)] + w["positional_embedding"]
        for block in self.text_blocks:
            x = block(x)[0]
        end = max(range(len(tokens)), key=lambda i: tokens[i])
        return unit(layer_norm(x, w, "ln_final", self.eps)[end] @ w["text_projection"])

    def encode_window(self, tokens: Tensor, window: Box, layer: int) -> Tensor:
        """Eq. 7: a window of tokens, stretched over the grid behind the image's own class token."""
        left, top, right, bottom = window
        grid = tokens[1:].reshape(self.grid, self.grid, -1).permute(2, 0, 1)[None]
        whole = F.interpolate(
            grid[:, :, top:bottom, left:right],
            size=(self.grid, self.grid),
            mode="bicubic",
            align_corners=False,
        )
        return self.finish(torch.cat([tokens[:1], whole[0].flatten(1).T]), layer)


class Vit:
    """A ViT whose weights a timm module holds, read for its attention."""

    def __init__(self, module: Any) -> None:
        self.weights = doubled(module)
        self.side = module.patch_embed.img_size[0]
        self.mean, self.std = module.pretrained_cfg["mean"], module.pretrained_cfg["std"]
        first = module.blocks[0]
        self.blocks = [
            Block(
                taken(self.weights, f"blocks.{i}.", TIMM_BLOCK),
                first.attn.num_heads,
                first.norm1.eps,
                gelu,
            )
            for i in range(len(module.blocks))
        ]

    def attention(self, image: Image.Image) -> list[list[float]]:
        """Eq. 3, per layer: how much the class token attends to each patch, mean of the heads."""
        x, prefix = self._embed(image.resize((self.side, self.side), Image.Resampling.BILINEAR))
        rows = []
        for block in self.blocks:
            x, maps = block(x)
            row = sum(maps[h, 0] for h in range(len(maps))) / len(maps)
            rows.append([float(value) for value in row[prefix:]])
        return rows

    def _embed(self, image: Image.Image) -> tuple[Tensor, int]:
        w = self.weights
        pixels = normalized(image, self.mean, self.std)
        x = embed_patches(pixels, w["patch_embed.proj.weight"])
        x = x + w.get("patch_embed.proj.bias", 0.0)
        extra = [w[name][0] for name in ("cls_token", "reg_token") if name in w]
        positions = w["pos_embed"][0]
        if len(positions) == len(x):
            x = torch.cat([*extra, x + positions])
        else:
            x = torch.cat([*extra, x]) + positions
        if "norm_pre.weight" in w:
            x = layer_norm(x, w, "norm_pre", self.blocks[0].eps)
        return x, sum(len(e) for e in extra)


def unit(vector: Tensor) -> Tensor:
    return vector / torch.sqrt((vector**2).sum())


# --- Draws and geometry ---------------------------------------------------------------------


def file_uniforms(file: Path, seed: int, n: int) -> np.ndarray:
    """The image's own stream: row i belongs to crop i."""
    sha = hashlib.sha256(file.read_bytes()).hexdigest()
    key = hashlib.blake2b(f"{seed}:crops:{sha}".encode(), digest_size=16).digest()
    philox = np.random.Philox(key=int.from_bytes(key, "little"))
    return np.random.Generator(philox).random((n, 8))


def ranked(values: Sequence[float]) -> list[int]:
    """Indices by falling value; the lower index first among equals."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))


def patch_probabilities(attention: Sequence[float], k: int, tau: float) -> dict[int, float]:
    """Eq. 4 and 5: the top k patches, in falling order, each with its probability."""
    top = ranked(attention)[:k]
    powers = [math.exp((attention[i] - attention[top[0]]) / tau) for i in top]
    return {i: power / math.fsum(powers) for i, power in zip(top, powers, strict=True)}


def drawn(probabilities: dict[int, float], u: float) -> int:
    """The first item whose cumulated probability exceeds u."""
    total = 0.0
    for item, probability in probabilities.items():
        total += probability
        if u < total:
            return item
    return item


def drawn_integer(low: int, high: int, u: float) -> int:
    return low + math.floor(u * (high - low + 1))


def axis_span(index: int, grid: int, side: int, length: int) -> tuple[int, int]:
    """One axis of Eq. 6: `side` pixels about the centre of a patch, clipped to the image."""
    start = int(index * 16 * (length / (grid * 16)))
    end = start + int(16 * (length / (grid * 16)))
    centre = (start + end) // 2
    half = side // 2
    return max(0, centre - half), min(length, centre + half)


def window_span(index: int, grid: int, size: int) -> tuple[int, int]:
    """One axis of Eq. 7: half a size to either side of a token, the token, clipped to the grid."""
    half = size // 2
    return max(0, index - half), min(grid, index + half + 1)


def crops_of(
    attention: Sequence[float], u: np.ndarray, size: tuple[int, int], grid: int, p: Profile
) -> list[Crop]:
    """All draws for one image of (width, height), its token grid being `grid` wide."""
    source = math.isqrt(len(attention))
    chances = patch_probabilities(attention, p.k, p.tau)
    bounds = [(int(length * p.alpha), int(length * p.beta)) for length in (*size, grid)]
    crops = []
    for row in u:
        patch, width, height, token, side = row[:5]
        i, j = divmod(drawn(chances, patch), source)
        left, right = axis_span(j, source, drawn_integer(*bounds[0], width), size[0])
        top, bottom = axis_span(i, source, drawn_integer(*bounds[1], height), size[1])
        r, c = (v * grid // source for v in divmod(drawn(chances, token), source))
        tokens = drawn_integer(*bounds[2], side)
        (west, east), (north, south) = window_span(c, grid, tokens), window_span(r, grid, tokens)
        box, window = (left, top, right, bottom), (west, north, east, south)
        crops.append(Crop(i * source + j, box, r * grid + c, window))
    return crops


# --- Scores ---------------------------------------------------------------------------------


def soft_scores(
    features: Iterable[np.ndarray], texts: Sequence[Sequence[np.ndarray]], temperature: float
) -> list[float]:
    """Eq. 8 to 10: texts by class; every crop weighs all texts of all classes jointly."""
    scores = [0.0 for _ in texts]
    for feature in features:
        sims = [[dot(feature, text) for text in group] for group in texts]
        highest = max(max(row) for row in sims)
        powers = [[math.exp((s - highest) / temperature) for s in row] for row in sims]
        total = math.fsum(power for row in powers for power in row)
        for c in range(len(texts)):
            for s, power in zip(sims[c], powers[c], strict=True):
                scores[c] += power / total * s
    return scores


def mean_scores(feature: np.ndarray, texts: Sequence[Sequence[np.ndarray]]) -> list[float]:
    """Eq. 1 with the renormalised mean of each class's texts."""
    scores = []
    for group in texts:
        mean = [math.fsum(column) / len(group) for column in np.array(group, np.float64).T]
        scores.append(dot(feature, mean) / math.sqrt(dot(mean, mean)))
    return scores


def dot(a: Iterable[float], b: Iterable[float]) -> float:
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def rank_of(label: int, scores: Sequence[float]) -> int:
    """1 for the best; equal scores rank in the order of the classes."""
    better = [s > scores[label] for s in scores]
    earlier = [s == scores[label] for s in scores[:label]]
    return 1 + sum(better) + sum(earlier)


# --- The whole method ------------------------------------------------------------------------


def raw_embedding(clip: Clip, image: Image.Image, box: Box) -> Tensor:
    """Eq. 6: the box cut out, then CLIP as for any image."""
    return clip.encode_image(image.crop(box))


def abs_features(
    file: Path, attention: Sequence[float], clip: Clip, profile: Profile
) -> list[np.ndarray]:
    """Algorithm 1: the vectors of all feature crops and raw crops of one file."""
    image = Image.open(file).convert("RGB")
    u = file_uniforms(file, profile.seed, profile.n)
    crops = crops_of(attention, u, image.size, clip.grid, profile)
    last = len(clip.blocks) - 1
    tokens = clip.tokens_before(image, last)
    features = [clip.encode_window(tokens, crop.window, last) for crop in crops]
    features += [raw_embedding(clip, image, crop.box) for crop in crops]
    return [feature.numpy() for feature in features]
