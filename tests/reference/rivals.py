"""Reference for methods of other papers in float64: plain loops over one image's views and texts.

Views and texts are lists of unit vectors, the whole image first; texts are lists by class. Nothing
here is shared with the pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Vector = np.ndarray
Texts = Sequence[Sequence[Vector]]


def unit(vector: Vector) -> Vector:
    return np.asarray(vector / math.sqrt(math.fsum(each * each for each in vector)))


def dot(a: Vector, b: Vector) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def softmax(values: Sequence[float]) -> list[float]:
    weights = [math.exp(value - max(values)) for value in values]
    return [weight / math.fsum(weights) for weight in weights]


def entropy(logits: Sequence[float]) -> float:
    return -math.fsum(p * math.log(p) for p in softmax(logits) if p > 0)


def mean_texts(texts: Texts) -> list[Vector]:
    return [unit(np.sum(each, axis=0)) for each in texts]


def zero(cosines: Sequence[Sequence[float]], scale: float, share: float) -> list[float]:
    """Votes of each class, and a half for the class that decides a tie."""
    classes = range(len(cosines[0]))
    doubt = [entropy([scale * each for each in row]) for row in cosines]
    order = sorted(range(len(cosines)), key=lambda i: doubt[i])
    best = [max(classes, key=lambda c: (cosines[i][c], -c)) for i in order]
    count = max(1, math.floor(share * len(cosines)))
    votes = [float(best[:count].count(c)) for c in classes]
    leading = [c for c in classes if votes[c] == max(votes)]
    for choice in best[count:]:
        if choice in leading:
            votes[choice] += 0.5
            break
    return votes


def zero_soft(
    cosines: Sequence[Sequence[float]], scale: float, share: float, eps: float
) -> list[float]:
    doubt = [entropy([scale * each for each in row]) for row in cosines]
    order = sorted(range(len(cosines)), key=lambda i: doubt[i])
    kept = order[: max(1, math.floor(share * len(cosines)))]
    parts = [softmax([each / eps for each in cosines[i]]) for i in kept]
    return [math.fsum(part[c] for part in parts) for c in range(len(cosines[0]))]


def mta(
    views: Sequence[Vector],
    logits: Sequence[Sequence[float]],
    lambda_y: float,
    lambda_q: float,
    share: float,
) -> tuple[list[float], list[float], Vector]:
    """Squared bandwidths, inlierness and mode."""
    count, every = len(views), range(len(views))
    near = min(count - 1, max(1, math.floor(share * (count - 1))))
    h2 = []
    for i in every:
        apart = sorted(float(np.sum((views[i] - views[j]) ** 2)) for j in every if j != i)
        h2.append(max(1e-12, 0.5 * math.fsum(apart[:near]) / near if near else 0))
    p = [softmax(row) for row in logits]
    w = [[dot(np.array(a), np.array(b)) for b in p] for a in p]
    y, m = [1 / count] * count, views[0]

    def density(mode: Vector) -> list[float]:
        return [
            math.exp(-float(np.sum((v - mode) ** 2)) / (2 * h))
            for v, h in zip(views, h2, strict=True)
        ]

    for _ in range(5):
        g = density(m)
        for _ in range(5):
            pull = [math.fsum(w[i][j] * y[j] for j in every) for i in every]
            new = softmax([(g[i] + lambda_q * pull[i]) / lambda_y for i in every])
            moved = math.dist(new, y)
            y = new
            if moved < 1e-6:
                break
        for _ in range(5):
            g = density(m)
            mode = unit(sum((g[i] * y[i] * views[i] for i in every), start=0 * m))
            moved = math.dist(mode, m)
            m = mode
            if moved < 1e-6:
                break
    return h2, y, m


def transport(
    likeness: Sequence[Sequence[float]],
    u: Sequence[float],
    v: Sequence[float],
    eps: float,
    steps: int | None = None,
) -> tuple[np.ndarray, float]:
    """Plan and the sum of likeness over it, by Sinkhorn's steps from factors of 1."""
    rows, columns = range(len(u)), range(len(v))
    kernel = [[math.exp((value - 1) / eps) for value in row] for row in likeness]
    r, c = [1.0] * len(u), [1.0] * len(v)
    for _ in range(1000 if steps is None else steps):
        before = r
        r = [u[i] / math.fsum(kernel[i][j] * c[j] for j in columns) for i in rows]
        c = [v[j] / math.fsum(kernel[i][j] * r[i] for i in rows) for j in columns]
        if steps is None and all(abs(a - b) <= 1e-6 * b for a, b in zip(r, before, strict=True)):
            break
    plan = np.array([[r[i] * kernel[i][j] * c[j] for j in columns] for i in rows])
    return plan, math.fsum((plan * np.array(likeness)).flat)


def awt(
    views: Sequence[Vector], texts: Texts, scale: float, temperature: float, eps: float
) -> list[float]:
    cosines = [[[dot(view, text) for text in each] for each in texts] for view in views]
    mean = [[scale * math.fsum(each) / len(each) for each in row] for row in cosines]
    u = softmax([-entropy(row) / temperature for row in mean])
    scores = []
    for c, each in enumerate(texts):
        doubt = []
        for j in range(len(each)):
            replaced = [*mean[0]]
            replaced[c] = scale * cosines[0][c][j]
            doubt.append(entropy(replaced))
        v = softmax([-value / temperature for value in doubt])
        scores.append(transport([row[c] for row in cosines], u, v, eps)[1])
    return scores


def lazsl(views: Sequence[Vector], texts: Texts, theta: float, eps: float) -> list[float]:
    image, crops = views[0], views[1:] or views
    alike = [dot(crop, image) for crop in crops]
    level = math.fsum(alike) / len(alike)
    kept = [crop for crop, value in zip(crops, alike, strict=True) if value >= level - 1e-15]
    scores = []
    for each in texts:
        likeness = [
            [(1 - theta) * dot(image, text) + theta * dot(crop, text) for text in each]
            for crop in kept
        ]
        u, v = [1 / len(kept)] * len(kept), [1 / len(each)] * len(each)
        scores.append(transport(likeness, u, v, eps)[1])
    return scores


def cached(held: list[list], new: list, room: int) -> None:
    """Put [entropy, ...] into a class's cache if there is room or it is surer."""
    if len(held) == room:
        if new[0] >= held[-1][0]:
            return
        held.pop()
    held.append(new)
    held.sort(key=lambda each: each[0])


def tda(
    images: Sequence[Vector],
    means: Sequence[Vector],
    order: Sequence[int],
    scale: float,
    alpha: float,
    beta: float,
) -> dict[int, list[float]]:
    """Logits of each image, over a stream with caches."""
    classes = range(len(means))
    positive: list[list[list]] = [[] for _ in classes]
    negative: list[list[list]] = [[] for _ in classes]
    found = {}
    for image in order:
        f = images[image]
        z = [round(scale * dot(f, mean), 11) for mean in means]
        doubt, k = entropy(z), z.index(max(z))
        cached(positive[k], [doubt, f], 3)
        if len(means) > 1 and 0.2 < doubt / math.log2(len(means)) < 0.5:
            cached(negative[k], [doubt, f, softmax(z)], 2)
        for c in classes:
            for _, member in positive[c]:
                z[c] += alpha * math.exp(-beta * (1 - dot(f, member)))
        for held in negative:
            for _, member, p in held:
                for c in classes:
                    if 0.03 < p[c] < 1:
                        z[c] -= 0.117 * math.exp(-(1 - dot(f, member)))
        found[image] = z
    return found


def boost(
    images: Sequence[Sequence[Vector]],
    means: Sequence[Vector],
    order: Sequence[int],
    scale: float,
    alpha: float,
    beta: float,
    delta: int,
) -> dict[int, list[float]]:
    """Logits of each image, of which the first of its views, over a stream with caches."""
    classes = range(len(means))
    positive: list[list[list]] = [[] for _ in classes]
    negative: list[list[list]] = [[] for _ in classes]
    found = {}
    for image in order:
        every = [[round(scale * dot(view, mean), 11) for mean in means] for view in images[image]]
        f, z = images[image][0], [*every[0]]
        doubt, k = entropy(z), z.index(max(z))
        cached(positive[k], [doubt, f], 3)
        own = [[*held] for held in positive]
        surest = sorted(range(len(every)), key=lambda i: entropy(every[i]))
        for i in surest[: int(0.1 * len(every))]:
            c = every[i].index(max(every[i]))
            own[c].append([entropy(every[i]), images[image][i]])
            own[c] = sorted(own[c], key=lambda each: each[0])[: 3 + delta]
        if len(means) > 1 and 0.2 < doubt / math.log2(len(means)) < 0.5:
            negative[k] = [*negative[k], [f, softmax(z)]][-2:]
        for c in classes:
            for _, member in own[c]:
                z[c] += alpha * math.exp(-beta * (1 - dot(f, member)))
        for held in negative:
            for member, p in held:
                for c in classes:
                    if 0.03 < p[c] < 1:
                        z[c] -= 0.117 * math.exp(-(1 - dot(f, member)))
        found[image] = z
    return found


def dmn(
    images: Sequence[Vector],
    means: Sequence[Vector],
    order: Sequence[int],
    scale: float,
    room: int,
    beta: float,
) -> dict[int, tuple[list[float], list[float]]]:
    """Sum of both probabilities of each image, and the memory's logits, over a stream."""
    memory: list[list[list]] = [[] for _ in means]
    found = {}
    for image in order:
        f = images[image]
        z = [round(scale * dot(f, mean), 11) for mean in means]
        cached(memory[z.index(max(z))], [entropy(z), f], room)
        logits = []
        for held, mean in zip(memory, means, strict=True):
            members = [mean, *(member for _, member in held)]
            mixed = sum((math.exp(-beta * (1 - dot(f, m))) * m for m in members), start=0 * f)
            logits.append(scale * dot(f, unit(mixed)))
        both = zip(softmax(z), softmax(logits), strict=True)
        found[image] = [a + b for a, b in both], logits
    return found


def kept_boxes(boxes: Sequence[Sequence[int]], overlap: float, most: int) -> list[int]:
    """Places of the boxes that are kept in turn."""
    kept: list[int] = []
    for i, box in enumerate(boxes):
        if len(kept) < most and all(shared(box, boxes[j]) <= overlap for j in kept):
            kept.append(i)
    return kept


def shared(a: Sequence[int], b: Sequence[int]) -> float:
    """Share of their union that two boxes have in common, by counting pixels."""

    def pixels(box: Sequence[int]) -> set[tuple[int, int]]:
        left, top, right, bottom = box
        return {(x, y) for x in range(left, right) for y in range(top, bottom)}

    return len(pixels(a) & pixels(b)) / len(pixels(a) | pixels(b))


def wca(
    image: Vector, squares: Sequence[Vector], labels: Sequence[Vector], texts: Texts, scale: float
) -> list[float]:
    """WCA's cosines, of weights e^4 and e^2 at a logit scale of 100."""
    relative = scale / 100

    def mean(vectors: Sequence[Vector], by: Vector, power: int) -> Vector:
        weights = softmax([relative * math.exp(power) * dot(each, by) for each in vectors])
        return unit(sum((w * v for w, v in zip(weights, vectors, strict=True)), start=0 * by))

    view = mean(squares, image, 4)
    pairs = zip(texts, labels, strict=True)
    return [dot(view, mean(each, label, 2)) for each, label in pairs]


def gda(shots: Texts) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of a Gaussian classifier with one covariance."""
    rows = [vector for own in shots for vector in own]
    n, dim = len(rows), len(rows[0])
    means = [sum(own, start=np.zeros(dim)) / len(own) for own in shots]
    scatter = np.zeros((dim, dim))
    for own, mean in zip(shots, means, strict=True):
        for vector in own:
            scatter += np.outer(vector - mean, vector - mean)
    covariance = scatter / max(n - 1, 1)
    p = dim * np.linalg.pinv((n - 1) * covariance + np.trace(covariance) * np.eye(dim))
    weights = np.array([p @ mean for mean in means])
    halves = [-math.log(len(shots)) - 0.5 * float(mean @ p @ mean) for mean in means]
    return weights, np.array(halves)


def gda_alpha(
    shots: Texts, means: Sequence[Vector], scale: float, alphas: Sequence[float], folds: int
) -> float:
    """The least of the weights that are right most often on the parts that are left out."""
    right = [0] * len(alphas)
    for fold in range(folds):
        kept = [[v for i, v in enumerate(own) if i * folds // len(own) != fold] for own in shots]
        weights, biases = gda(kept)
        for label, own in enumerate(shots):
            for i, f in enumerate(own):
                if i * folds // len(own) != fold:
                    continue
                for place, alpha in enumerate(alphas):
                    logits = [
                        scale * dot(f, mean) + alpha * (dot(f, w) + b)
                        for mean, w, b in zip(means, weights, biases, strict=True)
                    ]
                    right[place] += logits.index(max(logits)) == label
    return alphas[right.index(max(right))]
