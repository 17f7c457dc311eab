"""`abs describe` writes a file that a run reads, from an endpoint or from tables filled in."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.bench.chat_server import serving
from pipeline.core.errors import ConfigError
from pipeline.core.layers import CFGS, known
from pipeline.describe.recipes import Recipe, load_recipe
from pipeline.run import Run
from pipeline.texts.readers import read_texts
from tests.helpers.runs import said

NAMES = ["black-eyed fantail", "black-eyed forktail"]
QUESTIONS = "Sure:\n1. Which colours has {}?\n2. How long is {}?\n3. What else?"


def reply(body: dict[str, Any]) -> str:
    prompt, seed = body["messages"][-1]["content"], body["seed"]
    if "such questions" in prompt:
        return QUESTIONS
    name = next(name for name in NAMES if name in prompt)
    if "features" in prompt:
        return f"- long tail {seed}\n- {name[6:]} eye\n- long tail {seed}"
    return f"<think>{prompt}</think>Sure! The {name} is {seed}.5 cm by {len(prompt)}. It flies."


def described(tiny: Path, recipe: str, *words: Any, **environment: str) -> Any:
    file = tiny.parent / f"{recipe}.json"
    common = ["--recipe", recipe, "--model", "m", "--to", file, *words]
    return said("describe", tiny, *common, **environment), file


@pytest.mark.parametrize(
    ("recipe", "requests", "first"),
    [
        ("cupl", 2 * 5 * 10, "The black-eyed fantail is 0.5 cm by 49."),
        ("clip-d", 2, "long tail 0"),
        ("awt", 1 + 2 * 2 * 2, "The black-eyed fantail is 0.5 cm by 37."),
    ],
)
def test_every_recipe_gives_a_file_in_the_published_shape(
    tiny: Path, recipe: str, requests: int, first: str
) -> None:
    with serving(reply) as server:
        where = ("--endpoint", server.address, "--about", "Drawn birds.")
        done, file = described(tiny, recipe, *where)
        assert done.returncode == 0, done.stderr
        content = file.read_bytes()
        assert set(server.came.values()) == {1}
        assert len(server.came) == requests
        file.unlink()
        again, _ = described(tiny, recipe, *where)
        assert sum(server.came.values()) == requests
    assert (again.returncode, file.read_bytes()) == (0, content)
    texts = read_texts(file, "texts")
    assert list(texts) == NAMES
    assert texts[NAMES[0]][0] == first
    recipe_ = load_recipe(recipe)
    for name, own in texts.items():
        assert len({text.casefold() for text in own}) == len(own) <= recipe_.most
        assert not recipe_.named or all(name in text for text in own)
    with file.with_suffix(".dropped.csv").open() as table:
        assert {row["label"] for row in csv.DictReader(table)} <= set(NAMES)


def test_a_run_reads_the_file(tiny: Path) -> None:
    with serving(reply) as server:
        done, file = described(tiny, "cupl", "--endpoint", server.address, "-s", "recipe.samples=1")
    assert done.returncode == 0, done.stderr
    run = Run.of(str(tiny), "official", [f"descriptions.cupl.file={file}"])
    assert run.named("descriptions-cupl")[0].prompts.texts == list(read_texts(file, "").values())


def test_a_dry_run_counts_and_asks_nothing(tiny: Path) -> None:
    done, file = described(tiny, "cupl", "--dry-run", "--json", "--price", "1,2")
    planned = json.loads(done.stdout)
    assert (planned["requests"], planned["to_send"], planned["stored"]) == (100, 100, 0)
    assert planned["tokens_out_at_most"] == 100 * load_recipe("cupl").max_tokens
    cost = (planned["tokens_in"] + 2 * planned["tokens_out_at_most"]) / 1e6
    assert planned["cost_at_most"] == pytest.approx(cost)
    assert not file.exists()


@pytest.mark.slow
def test_an_interrupted_description_goes_on_and_a_part_can_be_written(tiny: Path) -> None:
    """A budget ends it: 11 and 7 tokens a request, at 1 a token."""
    price = ("--price", "0,1000000", "--concurrency", "1")
    with serving(reply) as server:
        where = ("--endpoint", server.address, *price)
        done, file = described(tiny, "cupl", *where, "--budget", "500")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert "the budget of 500 is spent" in done.stderr
        assert not file.exists()
        came = sum(server.came.values())
        assert 0 < came * 7 <= 500
        part, _ = described(tiny, "cupl", "--partial")
        assert part.returncode == 0, part.stderr
        whole, _ = described(tiny, "cupl", *where)
        assert whole.returncode == 0
        assert set(server.came.values()) == {1}
        assert len(server.came) == 100


def test_prompts_are_written_and_answers_read_back(tiny: Path) -> None:
    table, step = tiny.parent / "prompts.csv", []
    about = ("--about", "Drawn birds.", "-s", "recipe.samples=1")
    for _ in range(2):  # the questions, then the classes
        done, file = described(tiny, "awt", *about, "--prompts-to", table)
        assert done.returncode == 0, done.stderr
        with table.open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        step.append(len(rows))
        for row in rows:
            prompt = row["prompt"].rpartition("\n\n")[2]
            row["answer"] = reply({"messages": [{"content": prompt}], "seed": 0})
        with table.open("w", newline="", encoding="utf-8-sig") as opened:
            writer = csv.DictWriter(opened, list(rows[0]), delimiter=";" if step[1:] else ",")
            writer.writeheader()
            writer.writerows(rows)
        done, _ = described(tiny, "awt", *about, "--answers", table)
    assert step == [1, 4]
    assert done.returncode == 0, done.stderr
    by_hand = file.read_bytes()
    with serving(reply) as server:
        done, _ = described(tiny, "awt", *about, "--endpoint", server.address)
        assert not server.came
    assert file.read_bytes() == by_hand


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "cupll", "--model", "m"], "unknown recipe 'cupll'; did you mean 'cupl'"),
        ([], "give --model NAME"),
        (["--model", "m", "--budget", "5"], "give --price IN,OUT too"),
        (["--model", "m", "--price", "5"], "--price '5': write two numbers"),
        (["--model", "m", "--endpoint", "localhost:8000"], "such as http://127.0.0.1:8000/v1"),
        (["--model", "m", "--recipe", "awt"], "give --about SENTENCE"),
        (["--model", "m", "-s", "recipe.sample=2"], "recipe cupl.sample"),
        (["--model", "m", "--answers", "nowhere.csv"], "answers not found: nowhere.csv"),
    ],
)
def test_a_wrong_option_is_one_line(tiny: Path, words: list[str], message: str) -> None:
    done = said("describe", tiny, *words)
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_answers_of_other_requests_are_refused(tiny: Path) -> None:
    table = tiny.parent / "answers.csv"
    table.write_text("key,answer\n0123,Yes.\n")
    done, _ = described(tiny, "cupl", "--answers", table)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "1 of 1 keys are of other requests, such as '0123'" in done.stderr
    table.write_text("question,answer\n0123,Yes.\n")
    done, _ = described(tiny, "cupl", "--answers", table)
    assert done.returncode == 2
    assert "expected the columns key" in done.stderr


def test_a_class_without_a_text_is_an_error_that_says_where_to_look(tiny: Path) -> None:
    with serving(
        lambda body: "I'm sorry, I cannot." if "forktail" in str(body) else reply(body)
    ) as s:
        done, file = described(tiny, "cupl", "--endpoint", s.address, "-s", "recipe.samples=1")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "1 of 2 classes have no text, such as 'black-eyed forktail'" in done.stderr
    assert not file.exists()
    assert "the model declined" in file.with_suffix(".dropped.csv").read_text()


@pytest.mark.parametrize("name", known("recipes"))
def test_recipes_are_whole(name: str) -> None:
    recipe, given = (
        load_recipe(name),
        yaml.safe_load((CFGS / "recipes" / f"{name}.yaml").read_text()),
    )
    assert set(given) <= set(Recipe.model_fields)
    assert recipe.rule in ("sentences", "descriptors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('prompts=["no slot"]', "the prompt 'no slot' has no {class}"),
        ("prompts=[]", "give either prompts or questions"),
        ("take=all", "recipe cupl.take"),
    ],
)
def test_a_wrong_recipe_is_one_line(change: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_recipe("cupl", [change])
    assert message in str(error.value)
    assert "\n" not in str(error.value)
