"""The demo's committed files: layout, pictures that can be drawn again, masks, and what the prompt
files claim.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.demo.attributes import ATTRIBUTES, PARTS
from pipeline.demo.build import DEMO
from pipeline.demo.dataset import PER_CLASS, class_folder, file_name, picture_scene, write_prompts
from pipeline.demo.everyday import EVERYDAY
from pipeline.demo.phrases import ANONYMOUS, naming_sentence, noun_phrase, part_statements
from pipeline.demo.species import DESCRIPTIONS, WRONG_SHARE, descriptions, species
from pipeline.demo.training_data import SIZES, caption_corpus
from pipeline.texts.readers import read_templates, read_texts, read_words
from pipeline.texts.rules import fill_templates

PICTURES = [(place, number) for place in (0, 11, 23) for number in (0, 4, 10)]


def prompts(name: str) -> dict[str, list[str]]:
    loaded: dict[str, list[str]] = json.loads((DEMO / "prompts" / name).read_text())
    return loaded


def test_each_class_has_its_folder_of_pictures_and_masks() -> None:
    expected = {class_folder(one.name.text) for one in species()}
    for kind in ("images", "masks"):
        assert {path.name for path in (DEMO / kind).iterdir()} == expected
    for folder in expected:
        assert {path.name for path in (DEMO / "images" / folder).iterdir()} == {
            file_name(i) for i in range(PER_CLASS)
        }
        assert {path.stem for path in (DEMO / "masks" / folder).iterdir()} == {
            f"{i:02d}" for i in range(PER_CLASS)
        }


def test_every_pair_of_size_and_format_occurs() -> None:
    found = set()
    for number in range(PER_CLASS):
        with Image.open(
            DEMO / "images" / class_folder(species()[0].name.text) / file_name(number)
        ) as image:
            found.add((image.size, image.format))
    assert found == {(size, kind) for size in SIZES for kind in ("PNG", "JPEG")}


@pytest.mark.parametrize(("place", "number"), PICTURES)
def test_pictures_and_masks_are_what_is_drawn(place: int, number: int) -> None:
    one = species()[place]
    scene = picture_scene(place, one, number)
    folder, name = class_folder(one.name.text), file_name(number)
    with Image.open(DEMO / "masks" / folder / f"{name[:2]}.png") as mask:
        assert mask.mode == "1"
        assert np.array_equal(np.asarray(mask), scene.mask)
    with Image.open(DEMO / "images" / folder / name) as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), np.asarray(scene.image))


def test_prompt_files_hold_the_descriptions_and_err_as_stated() -> None:
    noisy, clean = prompts("cupl.json"), prompts("cupl-clean.json")
    assert noisy == descriptions(WRONG_SHARE)
    assert clean == descriptions(0.0)
    assert list(noisy) == [one.name.text for one in species()]
    assert all(len(set(texts)) == DESCRIPTIONS for texts in clean.values())
    differ = [a != b for name in clean for a, b in zip(clean[name], noisy[name], strict=True)]
    assert sum(differ) == WRONG_SHARE * len(differ)


def test_each_description_names_its_class_and_tells_of_one_part() -> None:
    nouns = {name.split()[0] for name in ATTRIBUTES}
    for texts in (prompts("cupl.json"), prompts("cupl-clean.json")):
        for name, sentences in texts.items():
            for sentence in sentences:
                assert name in sentence
                rest = sentence.replace(name, "").lower().replace("'s", "").strip(".").split()
                assert len({word.removesuffix("s") for word in rest} & nouns) == 1, sentence


def test_prompt_files_are_what_is_written(tmp_path: Path) -> None:
    write_prompts(tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in (DEMO / "prompts").iterdir()}


def test_descriptors_are_true_and_each_of_another_part() -> None:
    told = read_texts(DEMO / "prompts" / "clip-d.json", "descriptors")
    assert list(told) == [one.name.text for one in species()]
    assert {len(phrases) for phrases in told.values()} == {6, 7, 8}
    for one in species():
        true = {noun_phrase(statements) for statements in part_statements(one.bird)}
        assert set(told[one.name.text]) <= true
        nouns = [phrase.split()[-1].removesuffix("s") for phrase in told[one.name.text]]
        assert nouns == [part for part in PARTS if part in nouns]


def test_templates_are_the_sentences_that_only_name_a_bird() -> None:
    templates = read_templates(DEMO / "prompts" / "clip-e.json")
    assert 5 <= len(templates) <= 7
    rng = np.random.default_rng(0)
    assert set(fill_templates([ANONYMOUS.text], templates)[0]) == {
        naming_sentence(rng, ANONYMOUS) for _ in range(200)
    }


def test_everyday_words_say_nothing_of_birds() -> None:
    words = read_words(DEMO / "prompts" / "words.txt")
    assert tuple(words) == EVERYDAY
    assert len(set(words)) == len(words) >= 150
    known = {word for text in caption_corpus(60) for word in re.findall("[a-z]+", text)}
    assert not known & set(words)
    assert {len(word) for word in words} >= set(range(3, 12))
