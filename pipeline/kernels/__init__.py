"""The arithmetic of the method: tensors (and images) in and out, no files, nothing to load.

`sampling` draws patches and `draws` sizes, `geometry` turns them into boxes and windows, `resize`
makes squares of boxes; `image_prompts` and `feature_crops` show CLIP a box or a window, `windows`
stretches it, `blocks` and `folding` are one block of its image encoder, and `matching` compares
what comes out with descriptions.
"""
