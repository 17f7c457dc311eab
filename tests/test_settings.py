"""Settings are layered in the documented order, closed, and answer a typing error with a hint."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline import settings
from pipeline.core.errors import ConfigError
from pipeline.core.layers import (
    CFGS,
    known,
    layers,
    merge,
    origins,
    parse_override,
    read_yaml,
    selection,
)
from pipeline.methods.wca import Wca
from pipeline.settings import Settings, load
from pipeline.texts.sets import DistinctSentences, Sentences
from tests.helpers.runs import said


def test_each_layer_overrides_the_one_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, profile = tmp_path / "d.yaml", tmp_path / "p.yaml"
    below = {"dataset": {"name": "d", "root": "/d"}, "crops": {"k": 2, "alpha": 0.15}}
    dataset.write_text(yaml.safe_dump({**below, "scores": {"n": 7}, "paths": {"artifacts": "a"}}))
    profile.write_text("crops: {k: 1, alpha: 0.1, beta: 0.2}")
    monkeypatch.delenv("ABS_ARTIFACTS", raising=False)
    loaded = load(str(dataset), str(profile), ["crops.k=3", "paths.artifacts=b"])
    assert (loaded.crops.k, loaded.crops.alpha, loaded.crops.beta) == (3, 0.15, 0.2)
    assert (loaded.scores.n, loaded.crops.seed) == (7, 0)
    assert loaded.paths.artifacts == "b"
    monkeypatch.setenv("ABS_ARTIFACTS", str(tmp_path))
    loaded = load(str(dataset), str(profile), ["paths.artifacts=b"])
    assert loaded.paths.artifacts == str(tmp_path)


@pytest.fixture
def things(tmp_path: Path) -> str:
    """A dataset whose file departs from the profile in one setting, and equals it in another."""
    path = tmp_path / "things.yaml"
    content = {
        "dataset": {"name": "things", "root": "/d"},
        "crops": {"temperature": 0.1, "k": 20, "seed": 3},
        "runtime": {"threads": 1},
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def test_departures_from_the_profile_are_those_that_decide_results(things: str) -> None:
    overrides = ["scores.n=9 runtime.threads=2", "crops.k=5"]
    chosen = selection(things, "official", layers(things, "official", overrides))
    assert chosen.unasked == ["things.yaml: crops.temperature 0.1, profile official has 0.03"]
    assert str(chosen) == "profile official, crops.k=5, crops.temperature=0.1, scores.n=9"
    same = selection(things, "official", layers(things, "official", ["crops.temperature=0.03"]))
    assert str(same) == "profile official"


def test_the_layers_of_all_settings_are_listed(things: str) -> None:
    done = said("config", things, "--layers", "--json", "-s", "crops.temperature=0.2")
    assert done.returncode == 0, done.stderr
    rows = {row["setting"]: row for row in json.loads(done.stdout)}
    found = rows["crops.temperature"]
    assert (found["value"], found["layer"]) == (0.2, "--set")
    values = [(one["layer"], one["value"]) for one in found["given"]]
    assert values[-3:] == [("profile official", 0.03), ("things.yaml", 0.1), ("--set", 0.2)]
    told = said("config", things, "--layers").stdout.splitlines()
    assert any(line.split()[:3] == ["crops.temperature", "0.1", "things.yaml"] for line in told)


def test_the_layers_of_a_value_are_known_from_the_lowest_up(things: str) -> None:
    found = origins(layers(things, "official", ["crops.temperature=0.2"], "/w"))
    assert found["crops.temperature"] == [
        ("profile official", 0.03),
        ("things.yaml", 0.1),
        ("--set", 0.2),
    ]
    assert found["crops.seed"] == [("default.yaml", 0), ("things.yaml", 3)]
    assert found["paths.weights"][-1] == ("--weights-dir", "/w")


def test_shipped_datasets_depart_from_no_profile() -> None:
    for dataset in known("datasets"):
        for profile in known("profiles"):
            assert not selection(dataset, profile, layers(dataset, profile)).departures


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["crops.kk=3"], r"unknown setting 'crops.kk'; did you mean 'k'\?"),
        (["crop.k=3"], r"unknown setting 'crop'; did you mean 'crops'\?"),
        (["descriptions.cupl.flie=x"], r"'descriptions.cupl.flie'; did you mean 'file'\?"),
        (["descriptions.cupl.templates=[a]"], "unknown setting 'descriptions.cupl.templates'"),
        (["descriptions.mine.file=x"], "descriptions.mine.rule: .*templates, sentences, temp.*"),
        (["descriptions.mine.rule=poem"], "descriptions.mine.rule: .*sentences, templated, d"),
        (["descriptions.clip.templates=[bird]"], "descriptions.clip: .*{} once"),
        (["descriptions.clip.templates='{} {}'"], "descriptions.clip: .*{} once"),
        (["descriptions.clip.file=x.json"], "descriptions.clip: give one of templates"),
        (["descriptions.waffle.pairs=0"], "descriptions.waffle.pairs: .*greater than"),
        (["methods.wca.pol=3"], r"unknown setting 'methods.wca.pol'; did you mean 'pool'\?"),
        (["methods.wac.pool=3"], r"unknown method 'wac'; did you mean 'wca'\?"),
        (["methods.clip.n=3"], "unknown setting 'methods.clip.n'; known: none"),
        (["methods.wca=3"], "methods.wca: needs fields, not 3"),
        (["methods.wca.pool=0"], "methods.wca.pool: .*greater than or equal to 1.*0"),
        (["windows.shape=round"], "windows.shape: .*'square', 'ratio' or 'box'.*'round'"),
        (["windows.k=0"], "windows.k: .*greater than or equal to 1.*0"),
        (["crops.k=some"], "crops.k: .*integer.*'some'"),
        (["crops.share=0.1 crops.k=9"], r"crops\.k: crops\.share 0\.1 takes its place"),
        (["crops.share=0.1", "windows.k=9"], r"windows\.k: crops\.share 0\.1 takes its place"),
        (["crops.share=0"], r"crops\.share: .*greater than 0"),
        (["crops.k=0"], "crops.k: .*greater than or equal to 1.*0"),
        (["scores.temperature=0"], "scores.temperature: .*greater than or equal"),
        (["scores.temperature=.nan"], "scores.temperature"),
        (["crops.alpha=0.95"], "alpha 0.95 is larger than beta 0.9"),
        (["scores.methods=[clip, asb]"], r"unknown method 'asb'; did you mean 'abs'\?"),
        (["scores.methods=[]"], "one or more methods"),
        (["scores.methods=[clip, clip]"], "without repetition"),
        (
            ["scores.methods=[nope]"],
            "unknown method 'nope'; known: abs, ",
        ),
        (["dataset.name=../x"], "dataset.name"),
        (["crops=3"], "crops: needs fields"),
        (["crops.k"], "write section.field=value"),
        (["crops..k=1"], "write section.field=value"),
        (["crops.k={"], "not valid YAML"),
    ],
)
def test_a_wrong_setting_is_refused_with_a_hint(changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load("demo", overrides=changes)


def test_a_file_that_is_read_twice_is_not_changed_by_its_first_reader(tmp_path: Path) -> None:
    """Runs of a sweep share the parsed text, and each changes its own settings."""
    path = tmp_path / "one.yaml"
    path.write_text("scores: {n: 4, methods: [abs]}")
    first = read_yaml(path)
    first["scores"]["methods"].append("clip")
    first["scores"]["n"] = 5
    assert read_yaml(path) == {"scores": {"n": 4, "methods": ["abs"]}}


def test_an_unknown_dataset_or_profile_names_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"unknown dataset 'dmo'; did you mean 'demo'\?"):
        load("dmo")
    with pytest.raises(ConfigError, match=r"unknown profile 'offical'; did you mean 'official'\?"):
        load("demo", "offical")


def test_a_path_in_place_of_a_name_is_answered_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert load("demo").dataset.name == "demo"  # a name is looked for among names alone
    gone = f"no file or folder at {re.escape(str(tmp_path))}/birds; give the name of a "
    for name in ("./birds", "birds/", str(tmp_path / "birds")):
        with pytest.raises(ConfigError, match=f"^{gone}dataset or its YAML file$"):
            load(name)
    with pytest.raises(ConfigError, match=f"^{gone}profile or its YAML file$"):
        load("demo", "./birds")
    for name in ("./demo", "."):
        hint = f"is not a dataset; give .* or make one of images: abs init NAME --images {name}$"
        with pytest.raises(ConfigError, match=hint):
            load(name)


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "\xff\xfe", "crops: {k: }"])
def test_an_unreadable_file_is_one_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError):
        load(str(path))


def test_default_and_official_profile_decide_every_setting_but_the_dataset() -> None:
    default = yaml.safe_load((CFGS / "default.yaml").read_text())
    profile = yaml.safe_load((CFGS / "profiles" / "official.yaml").read_text())
    stated = merge(default, profile)
    loaded = settings.validate(merge(stated, {"dataset": {"name": "x", "root": "/x"}}))
    for name, section in loaded.model_dump(mode="json").items():
        for field in set(section) - {"dataset"} if name != "dataset" else ():
            assert field in stated[name], f"{name}.{field} is not stated in cfgs"


def test_one_text_may_hold_several_changes() -> None:
    loaded = load("demo", overrides=["crops.k=3 descriptions.clip.templates=a {} = b scores.n=5"])
    assert (loaded.crops.k, loaded.scores.n) == (3, 5)
    assert loaded.descriptions["clip"].model_dump()["templates"] == ("a {} = b",)


def test_text_sets_may_have_any_name() -> None:
    change = "crops.k=3 descriptions.clip-f.rule=sentences descriptions.clip-f.file=b.json"
    loaded = load("demo", overrides=[change])
    assert loaded.crops.k == 3
    assert loaded.descriptions["clip-f"].file == "b.json"
    assert set(loaded.descriptions) == {*load("demo").descriptions, "clip-f"}


def test_methods_whose_texts_are_not_given_are_left_out_unless_asked_for() -> None:
    everything = ["clip", "clip-e", "clip-d", "waffle", "cupl", "wca", "abs"]
    assert list(load("demo").chosen) == everything
    without = load("demo", overrides=["descriptions.cupl.file=null"])
    assert list(without.chosen) == ["clip", "clip-e", "clip-d", "waffle"]
    assert without.missing_texts("abs") == ["descriptions.cupl.file is not set"]
    asked = load("demo", overrides=["descriptions.cupl.file=null", "scores.methods=[abs, clip]"])
    assert list(asked.chosen) == ["abs", "clip"]


def test_a_method_takes_its_own_settings() -> None:
    loaded = load("demo", overrides=["methods.wca.n=7", "methods.wca.image_scale=1.5"])
    assert loaded.chosen["wca"] == Wca(pool=20, n=7, image_scale=1.5)
    assert loaded.views["squares"] == 20


def test_resolved_settings_are_settings_again() -> None:
    loaded = load("demo", overrides=["crops.k=3", "scores.methods=[abs]"])
    assert Settings.model_validate(loaded.model_dump(mode="json")) == loaded


def test_settings_cannot_be_changed_afterwards() -> None:
    loaded = load("demo")
    with pytest.raises(ValueError, match="frozen"):
        loaded.crops.k = 3


@given(
    st.lists(st.from_regex(r"[a-z]{1,5}", fullmatch=True), min_size=1, max_size=4), st.integers()
)
def test_a_change_is_read_at_its_place(path: list[str], value: int) -> None:
    found: object = parse_override(f"{'.'.join(path)}={value}")
    for name in path:
        assert isinstance(found, dict)
        found = found[name]
    assert found == value


def test_another_rule_keeps_the_file_and_drops_the_fields_of_the_rule_before() -> None:
    words = load("demo", overrides=["descriptions.waffle.rule=sentences"]).descriptions["waffle"]
    assert words == Sentences(rule="sentences", file="pipeline/demo/prompts/clip-d.json")
    given = "descriptions.clip={file: a.json, rule: distinct, most: 3}"
    some = load("demo", overrides=[given]).descriptions["clip"]
    assert some == DistinctSentences(rule="distinct", file="a.json", most=3)
    apart = ["descriptions.cupl.most=3", "descriptions.cupl.rule=distinct"]
    both = [load("demo", overrides=each).descriptions["cupl"] for each in (apart, apart[::-1])]
    assert both[0] == both[1]
    assert both[0].model_dump()["most"] == 3


def test_a_text_set_may_have_the_texts_of_another() -> None:
    same = load("demo", overrides=["descriptions.clip={rule: same, of: cupl}"]).descriptions
    assert same["clip"] == same["cupl"]
    for of, change in (("nothing", ""), ("tda", "descriptions.tda={rule: same, of: cupl}")):
        given = [f"descriptions.clip={{rule: same, of: {of}}}", *([change] if change else [])]
        with pytest.raises(ConfigError, match=f"descriptions: clip.of: '{of}' is no text set"):
            load("demo", overrides=given)
