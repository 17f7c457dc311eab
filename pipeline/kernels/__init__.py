"""Arithmetic of the method: functions of tensors and images that read no files and load no models.

`sampling` draws patches and `draws` crop sizes; `geometry` turns them into boxes and windows;
`resize` crops and resizes boxes; `transfer` copies to a device. `image_prompts` and `feature_crops`
apply the visual prompts of Table 5 to a box or a window; `windows` resizes windows to the whole
token grid; `blocks` and `folding` run one block of CLIP's image encoder. `matching` compares image
and text embeddings, and `statistics` has confidence intervals and tests.
"""
