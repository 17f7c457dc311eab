"""TPT: a prompt that is learned for each image from its own views (Shu et al., 2022).

Of the image and random crops of it, the tenth with the lowest entropies is kept. One step of AdamW
changes the four context vectors of the prompt "a photo of a ..." so that the entropy of the mean
probability of these views falls. The image itself is then scored with the new prompt, and the
prompt is what it was before for the next image. Gradients run through the text encoder alone, for
all classes and each image, which is why the number of classes is limited.

The authors step in half precision with scaled gradients; here it is float32. On fine-grained
datasets they mix operations of AugMix into the views, which the view set has not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from pipeline.methods.base import Method, MethodInputs, Scorer, Views, stacked
from pipeline.methods.config import ScoresConfig

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.methods.base import Prompts


class Tpt(Method):
    """CLIP with a prompt that is learned for each image."""

    n: int = Field(default=63, ge=0, le=10_000)
    """Random crops besides the image."""
    share: float = Field(default=0.1, gt=0, le=1)
    """Share of views that are kept, at least one."""
    rate: float = Field(default=5e-3, gt=0, le=1)
    """Learning rate of the step."""

    texts: ClassVar[tuple[str, ...]] = ("clip",)
    default: ClassVar[bool] = False
    learns_prompts: ClassVar[bool] = True

    def views(self, config: ScoresConfig) -> dict[str, int]:
        """Return the whole image and the random crops."""
        return {"image": 1, **({"augmented": self.n} if self.n else {})}

    def scorer(self, inputs: MethodInputs) -> Scorer:
        """Build a scorer that learns a prompt for one image after the other."""
        import torch

        from pipeline.core.under_way import each

        wanted, scale = self.views(inputs.config), inputs.config.scale
        assert inputs.prompts is not None
        prompts = inputs.prompts("clip")

        def score(images: slice, views: Views) -> Tensor:
            with torch.inference_mode(False), torch.enable_grad():
                stack = stacked(views, wanted).clone()
                found = [self.scored(f, prompts, scale) for f in each(stack, len(stack))]
            return torch.stack(found)

        return score

    def scored(self, f: Tensor, prompts: Prompts, scale: float) -> Tensor:
        """Score an image by its views.

        Args:
            f: Views, of which the image is the first, (views, dim).
            prompts: Text encoder.
            scale: Logit scale.

        Returns:
            Cosines of the image with the prompt of each class, (classes,).
        """
        import torch

        context = torch.nn.Parameter(prompts.context)
        optimizer = torch.optim.AdamW([context], lr=self.rate)
        loss = self.entropy_of_mean(scale * f @ prompts(context).T)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            cosines: Tensor = prompts(context) @ f[0]
        return cosines

    def entropy_of_mean(self, logits: Tensor) -> Tensor:
        """Compute the entropy of the mean probability of the surest views.

        Args:
            logits: (views, classes).

        Returns:
            Nats, a scalar.
        """
        import math

        from pipeline.kernels.confidence import entropy

        count = max(1, int(self.share * len(logits)))
        kept = entropy(logits).argsort(stable=True)[:count]
        logs = logits[kept].log_softmax(dim=1).logsumexp(dim=0) - math.log(count)
        return -(logs.exp() * logs).sum()
