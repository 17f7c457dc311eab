"""Published prompt files by the sha256 of their content.

The releases of ABS and WCA have files of the same name with different texts: the descriptions of
CUB, DTD and Places365 that came with ABS share next to nothing with those that its baselines were
measured with.
"""

from __future__ import annotations

PUBLISHED: dict[str, tuple[str, str]] = {
    "983966040fd8747d89ee9b0f311eeab3b5f4b318e062dd0529c9bb57e2282597": (
        "cub/clip-d",
        "ABS and WCA",
    ),
    "dc272440a937800e58e0dcd9ffd77c8ecaad00e6c585e51b420ffa48cefc60f3": (
        "cub/clip-e",
        "ABS and WCA",
    ),
    "7f2a595332e80720be68ee64e9f32b242dd8acd7d590096903f9fa41bf6f3287": ("cub/cupl", "ABS"),
    "c18b307f05d30513b94cf2a15905808c1236432212b9fee572cf8c992eeb16b2": ("cub/cupl", "WCA"),
    "7d55451f1c038a9b4b80a5d339e3c5f7dcd7194a8a51b5608f343b5079b76ea8": ("dtd/base", "ABS and WCA"),
    "3bb97a62ef38ab3daaee15afdd1cacf1ad8706d7c8a92e35c127a9fca9aa1ce4": (
        "dtd/clip-d",
        "ABS and WCA",
    ),
    "d4f918a2bb9481b7c838c5641b1e45855de3497a531d689902cbb0fd22d081bc": (
        "dtd/clip-e",
        "ABS and WCA",
    ),
    "764191c34e52dabdb1517824a48004172478329b04aa3950104b6f39e3b74cc4": ("dtd/cupl", "ABS"),
    "82f41f19f8626378cbebc9cf092a6a483e29953fededafb0e356283659e5649d": ("dtd/cupl", "WCA"),
    "dabdcafded7babd67046d0f90abeb510b648bdaaf397b884f265f3460a7942a9": ("dtd/full", "WCA"),
    "1298f7a9f47e634120d67fbc4eb3c1fbc7c61a4103ad2861d72ed707ef46a867": (
        "eurosat/clip-d",
        "ABS and WCA",
    ),
    "188f1cda8722cb90ac1d312e94e49025f8207ca5d14cfb77990176afc10bc404": (
        "eurosat/clip-e",
        "ABS and WCA",
    ),
    "cc6eae59c3fa62222299ac457e916f4bdf30714d56ff2eedf7b62dc4b3ae7268": (
        "eurosat/cupl",
        "ABS and WCA",
    ),
    "b75a42ae975592bfd5e5a35af8c4f0dfa0f0f2f7d3cf31b474b95f67260fca1e": (
        "food101/base",
        "ABS and WCA",
    ),
    "1556bae208439f373fc6a966f43b163f2d1698811ff7f84861635010499a0166": (
        "food101/clip-d",
        "ABS and WCA",
    ),
    "31f4a8dd66574f47a60d18d9dc401eebfe7e817339e5171e12712bc3e51c39c9": (
        "food101/clip-e",
        "ABS and WCA",
    ),
    "67cb17f323b7f0726e4b152224365fda289658ff92b0d14ee264910a16af96dc": (
        "food101/cupl",
        "ABS and WCA",
    ),
    "0c478db8b74046ca185488f252c908420bcea585198c7bceb4e42386cc1f7d3a": (
        "imagenet/clip-d",
        "ABS and WCA",
    ),
    "9fb52cf92f8f8ee55ff4b6b49414900ee0042a4bcc678b65f01508b3b2b11df9": (
        "imagenet/clip-e",
        "ABS and WCA",
    ),
    "70621f48ae4d823624732d26d8f125c4c6d848507878515cff96e935fe872208": (
        "oxford_pet/clip-d",
        "ABS and WCA",
    ),
    "c88d1dfb07fa14c37cd6617c908d35a414e3d29f778bc398c18280e22f4dccb4": (
        "oxford_pet/clip-e",
        "ABS and WCA",
    ),
    "a4c136a8adaf85646d6fc0a1cb7cfd75c12b6da33ef235ad55dd1247138a7e08": (
        "oxford_pet/cupl",
        "ABS and WCA",
    ),
    "aa35beea77718ef7e9afecf66a0c49b23fcbd4064f3027dc29d6701649c6efd6": (
        "place365/clip-d",
        "ABS and WCA",
    ),
    "ddcd1ee582caf857285d464c6c66113bdbec5ce4680635a6a96efb659e4594a4": (
        "place365/clip-e",
        "ABS and WCA",
    ),
    "8bab6f1daa8a39ba53c5243f1e910cb3559e27e92a700df3dfdc270fd5c9f02f": ("place365/cupl", "ABS"),
    "9dc552f72139c4e6f0de7bfcdec0045dc5b2bb2b608e4a615434f81309cfc59d": ("place365/cupl", "WCA"),
    "4bda32e4c7e57ce842fe81bad1b05b454dc6293c6d3c392476b7589ccdc16468": (
        "waffle words (a pickle)",
        "ABS and WCA",
    ),
}
"""(file, releases that contain it) by sha256."""


def published(sha256: str) -> str:
    """Return file and releases of a sha256, such as `cub/cupl of ABS`, or `unknown`."""
    name, releases = PUBLISHED.get(sha256, ("", ""))
    return f"{name} of {releases}" if name else "unknown"
