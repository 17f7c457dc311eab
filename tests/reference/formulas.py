"""Reference for models, draws and scores in float64, from the equations of the papers.

It is slow on purpose: plain loops, full attention matrices, one crop at a time, no code shared with
the pipeline. Modules of open_clip and timm only hold the weights; every product is written out.
Images are PIL images in RGB, tokens (1 + grid * grid, width), grids row by row, boxes half-open.
`crops.py` has the positions of crops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

Box = tuple[int, int, int, int]
Weights = dict[str, Tensor]


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
    x: Tensor,
    w: Weights,
    heads: int,
    eps: float,
    causal: bool = False,
    angles: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute self-attention of one sequence; return it with its weights (heads, tokens, tokens).

    Rotary embedding rotates queries and keys of the last tokens by `angles` (tokens, half a head's
    width).
    """
    query, key, value = linear(x, w, "qkv").chunk(3, dim=-1)
    width = x.shape[1] // heads
    outs, maps = [], []
    for h in range(heads):
        part = slice(h * width, (h + 1) * width)
        q, k = query[:, part], key[:, part]
        if "q_norm.weight" in w:
            q, k = layer_norm(q, w, "q_norm", eps), layer_norm(k, w, "k_norm", eps)
        if angles is not None:
            q, k = turned(q, angles), turned(k, angles)
        logits = q @ k.T / math.sqrt(width)
        if causal:
            future = torch.ones_like(logits).triu(1).bool()
            logits = logits.masked_fill(future, -math.inf)
        maps.append(softmax(logits))
        outs.append(maps[-1] @ value[:, part])
    return linear(torch.cat(outs, dim=-1), w, "proj"), torch.stack(maps)


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate the last rows of x, in which entries j and j + half are the coordinates of a point."""
    start, half = len(x) - len(angles), x.shape[1] // 2
    out = x.clone()
    for row, angle in enumerate(angles):
        a, b = x[start + row, :half], x[start + row, half:]
        out[start + row, :half] = a * torch.cos(angle) - b * torch.sin(angle)
        out[start + row, half:] = a * torch.sin(angle) + b * torch.cos(angle)
    return out


def dinov3_angles(grid: int, width: int, base: float) -> Tensor:
    """Compute the rotation angles of each patch, (patches, width / 2): by its row, then column."""
    periods = [base ** (4 * i / width) for i in range(width // 4)]
    places = [2 * (i + 0.5) / grid - 1 for i in range(grid)]
    rows = [
        [2 * math.pi * place / period for place in (y, x) for period in periods]
        for y in places
        for x in places
    ]
    return torch.tensor(rows, dtype=torch.float64)


@dataclass(frozen=True)
class Block:
    """A pre-norm transformer block."""

    weights: Weights
    heads: int
    eps: float
    act: Callable[[Tensor], Tensor]
    causal: bool = False
    angles: Tensor | None = None

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the block to a sequence (tokens, width); return it with the attention weights."""
        w = self.weights
        normed = layer_norm(x, w, "norm1", self.eps)
        mixed, maps = attend(normed, w, self.heads, self.eps, self.causal, self.angles)
        x = x + mixed * w.get("ls1.gamma", 1.0)
        hidden = self.act(linear(layer_norm(x, w, "norm2", self.eps), w, "fc1"))
        return x + linear(hidden, w, "fc2") * w.get("ls2.gamma", 1.0), maps


def embed_patches(pixels: Tensor, kernel: Tensor) -> Tensor:
    """Apply a convolution without overlap: pixels (3, side, side) to (patches, width)."""
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
    """Rename the weights below `prefix` to the names that `Block` uses; all must have one."""
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
    "gamma_1": "ls1.gamma",
    "gamma_2": "ls2.gamma",
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
        """Apply CLIP's preprocessing: bicubic resize of the short side, centre crop, normalise."""
        image = Resize(self.side, InterpolationMode.BICUBIC)(image)
        return normalized(CenterCrop(self.side)(image), self.mean, self.std)

    def tokens_before(self, image: Image.Image, layer: int) -> Tensor:
        """Compute the tokens that enter block `layer`, counted from 0."""
        x = self._embed(self.preprocess(image))
        for block in self.blocks[:layer]:
            x = block(x)[0]
        return x

    def attention(self, image: Image.Image) -> list[list[float]]:
        """Compute Eq. 3 with CLIP itself, per layer; the whole image is squashed, bicubic."""
        squashed = image.resize((self.side, self.side), Image.Resampling.BICUBIC)
        x = self._embed(normalized(squashed, self.mean, self.std))
        rows = []
        for block in self.blocks:
            x, maps = block(x)
            rows.append(class_row(maps, 1))
        return rows

    def _embed(self, pixels: Tensor) -> Tensor:
        w = self.weights
        patches = embed_patches(pixels, w["visual.conv1.weight"])
        x = torch.cat([w["visual.class_embedding"][None], patches])
        return layer_norm(x + w["visual.positional_embedding"], w, "visual.ln_pre", self.eps)

    def finish(self, x: Tensor, layer: int) -> Tensor:
        """Compute the unit vector of one sequence that enters block `layer`."""
        for block in self.blocks[layer:]:
            x = block(x)[0]
        pooled = layer_norm(x[:1], self.weights, "visual.ln_post", self.eps)[0]
        return unit(pooled @ self.weights["visual.proj"])

    def encode_image(self, image: Image.Image) -> Tensor:
        return self.finish(self.tokens_before(image, 0), 0)

    def encode_text(self, tokens: Sequence[int]) -> Tensor:
        """Encode a padded token sequence as a unit vector, pooled at its end (the highest id)."""
        w = self.weights
        x = w["token_embedding.weight"][list(tokens)] + w["positional_embedding"]
        for block in self.text_blocks:
            x = block(x)[0]
        end = max(range(len(tokens)), key=lambda i: tokens[i])
        return unit(layer_norm(x, w, "ln_final", self.eps)[end] @ w["text_projection"])

    def encode_box(self, image: Image.Image, box: Box) -> Tensor:
        """Encode a box of an image (Eq. 6): crop it, then encode it like a whole image."""
        return self.encode_image(image.crop(box))

    def encode_window(self, tokens: Tensor, window: Box, layer: int) -> Tensor:
        """Encode a window of tokens (Eq. 7), resized to the grid, with the image's class token."""
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
        angles = None
        if "pos_embed" not in self.weights:
            grid = self.side // self.weights["patch_embed.proj.weight"].shape[-1]
            angles = dinov3_angles(grid, first.attn.head_dim, base=100)
        self.blocks = [
            Block(
                taken(self.weights, f"blocks.{i}.", TIMM_BLOCK),
                first.attn.num_heads,
                first.norm1.eps,
                gelu,
                angles=angles,
            )
            for i in range(len(module.blocks))
        ]

    def attention(self, image: Image.Image) -> list[list[float]]:
        """Compute Eq. 3 per layer: the class token's attention to patches, mean over heads."""
        x, prefix = self._embed(image.resize((self.side, self.side), Image.Resampling.BILINEAR))
        rows = []
        for block in self.blocks:
            x, maps = block(x)
            rows.append(class_row(maps, prefix))
        return rows

    def _embed(self, image: Image.Image) -> tuple[Tensor, int]:
        w = self.weights
        pixels = normalized(image, self.mean, self.std)
        x = embed_patches(pixels, w["patch_embed.proj.weight"])
        x = x + w.get("patch_embed.proj.bias", 0.0)
        extra = [w[name][0] for name in ("cls_token", "reg_token") if name in w]
        positions = w.get("pos_embed", torch.zeros(1, len(x), x.shape[1]))[0]
        if len(positions) == len(x):
            x = torch.cat([*extra, x + positions])
        else:
            x = torch.cat([*extra, x]) + positions
        if "norm_pre.weight" in w:
            x = layer_norm(x, w, "norm_pre", self.blocks[0].eps)
        return x, sum(len(e) for e in extra)


def class_row(maps: Tensor, prefix: int) -> list[float]:
    """Average the first token's attention over heads, without the first `prefix` tokens."""
    row = maps[:, 0].sum(dim=0) / len(maps)
    return [float(value) for value in row[prefix:]]


def unit(vector: Tensor) -> Tensor:
    return vector / torch.sqrt((vector**2).sum())


# --- Draws ----------------------------------------------------------------------------------


def ranked(values: Sequence[float]) -> list[int]:
    """Return indices by decreasing value; among equal values the lower index comes first."""
    return sorted(range(len(values)), key=lambda i: (-values[i], i))


def patch_probabilities(attention: Sequence[float], k: int, tau: float) -> dict[int, float]:
    """Compute the probabilities of the top k patches, in decreasing order (Eq. 4 and 5)."""
    top = ranked(attention)[:k]
    powers = [math.exp((attention[i] - attention[top[0]]) / tau) for i in top]
    total = math.fsum(powers)
    return {i: power / total for i, power in zip(top, powers, strict=True)}


def drawn(probabilities: dict[int, float], u: float) -> int:
    """Return the first item whose cumulative probability exceeds u."""
    total = 0.0
    for item, probability in probabilities.items():
        total += probability
        if u < total:
            return item
    return item


def window_span(index: int, grid: int, size: int) -> tuple[int, int]:
    """Compute one axis of a square window (Eq. 7): size // 2 tokens on either side of a token.

    The span includes the token itself and is clipped to the grid.
    """
    half = size // 2
    return max(0, index - half), min(grid, index + half + 1)


# --- Scores ---------------------------------------------------------------------------------


def soft_scores(
    features: Iterable[np.ndarray], texts: Sequence[Sequence[np.ndarray]], temperature: float
) -> list[float]:
    """Compute ABS's scores (Eq. 8 to 10), with one softmax per crop over all texts of all classes.

    `features` are the vectors of crops, `texts` the vectors of texts by class.
    """
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
    """Compute cosines with the mean text of each class (Eq. 1), after normalising the mean."""
    scores = []
    for group in texts:
        mean = [math.fsum(column) / len(group) for column in np.array(group, np.float64).T]
        scores.append(dot(feature, mean) / math.sqrt(dot(mean, mean)))
    return scores


def cross_aligned_scores(
    image: np.ndarray,
    crops: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    texts: Sequence[Sequence[np.ndarray]],
    image_scale: float,
    text_scale: float,
) -> list[float]:
    """Compute WCA's scores: the cosine of weighted means of crops and of texts.

    Crops are weighted by similarity to the image, texts by similarity to the label of their class.
    """
    whole = blend(image, crops, image_scale)
    pairs = zip(labels, texts, strict=True)
    return [dot(whole, blend(label, group, text_scale)) for label, group in pairs]


def blend(whole: np.ndarray, parts: Sequence[np.ndarray], scale: float) -> list[float]:
    """Return the sum of parts weighted by exp(scale * cosine with `whole`), as a unit vector."""
    weights = [math.exp(scale * (dot(whole, part) - 1)) for part in parts]
    columns = zip(*parts, strict=True)
    total = [math.fsum(w * v for w, v in zip(weights, c, strict=True)) for c in columns]
    return [value / math.sqrt(dot(total, total)) for value in total]


def dot(a: Iterable[float], b: Iterable[float]) -> float:
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def rank_of(label: int, scores: Sequence[float]) -> int:
    """Return the rank of a class, 1 for the best; equal scores rank in the order of classes."""
    better = [s > scores[label] for s in scores]
    earlier = [s == scores[label] for s in scores[:label]]
    return 1 + sum(better) + sum(earlier)
