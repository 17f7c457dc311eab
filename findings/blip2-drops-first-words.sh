#!/usr/bin/env bash
# Retrieval with BLIP-2 drops the first tokens of a text, as many as there are queries (32 in the published
# models), if the configuration has an image_token_index, as one on the hub does. Nothing is said.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check transformers==5.24.0 torch==2.15.0
venv/bin/python - <<'PYTHON'
import torch
import transformers
from transformers import Blip2Config, Blip2ForImageTextRetrieval

print("transformers", transformers.__version__)
torch.manual_seed(0)
small = {"hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
config = Blip2Config(
    vision_config={**small, "image_size": 16, "patch_size": 8, "initializer_range": 0.2},
    qformer_config={**small, "vocab_size": 100, "encoder_hidden_size": 32, "use_qformer_text_input": True},
    num_query_tokens=32,
    image_text_hidden_size=8,
    image_token_index=99,
)
model = Blip2ForImageTextRetrieval(config).eval()
image = torch.randn(1, 3, 16, 16)
words = torch.randint(1, 99, (1, 40))
other = words.clone()
other[:, :32] = torch.randint(1, 99, (1, 32))


def vector(tokens):
    mask = torch.ones_like(tokens)
    with torch.inference_mode():
        return model(pixel_values=image, input_ids=tokens, attention_mask=mask).text_embeds


same = torch.equal(vector(words), vector(other))
print("given:   two texts of 40 tokens that differ in the first 32")
print("guessed: two vectors")
print("seen:   ", "one vector" if same else "two vectors")
model.config.image_token_index = None
apart = torch.equal(vector(words), vector(other))
print("without image_token_index:", "one vector" if apart else "two vectors")
assert same and not apart, "changed"
PYTHON
