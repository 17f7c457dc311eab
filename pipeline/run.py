"""A run: settings, the stages that follow from them, and the store they are computed in."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.core.errors import AbsError, ConfigError, MissingInput, did_you_mean, together
from pipeline.core.layers import Selection, layers, selection
from pipeline.core.progress import Reporter
from pipeline.core.runtime import Runtime
from pipeline.datasets.classes import Classes
from pipeline.engine.base import Engine
from pipeline.engine.inline import Inline
from pipeline.engine.runner import Outcome, run_stage
from pipeline.inspect.status import drifted
from pipeline.inspect.times import foresee, in_words
from pipeline.models.attention.sources import attention_source
from pipeline.models.clip.source import ClipSource
from pipeline.models.source import ModelSource
from pipeline.plan import build, read
from pipeline.settings import Settings, of_layers, resolve_precision, validate
from pipeline.stage import Stage, problems
from pipeline.store.claims import living
from pipeline.store.runs import on_record, users
from pipeline.store.store import Store
from pipeline.texts.class_texts import ClassTexts


@dataclass(frozen=True)
class Run:
    """Settings, stages and store of one run."""

    settings: Settings
    stages: list[Stage]
    store: Store
    notes: Sequence[str] = ()
    """Choices made for the user, with the reason of each."""
    selection: Selection | None = None
    """Dataset, profile and departures that the settings come from."""

    @classmethod
    def of(
        cls,
        dataset: str,
        profile: str,
        overrides: Iterable[str] | None,
        weights_dir: str | None = None,
        plan: Callable[[Settings], list[Stage]] | None = None,
    ) -> Run:
        """Build a run from the common options; `plan` makes its stages, by default all of them."""
        overrides = list(overrides or ())
        stack = layers(dataset, profile, overrides, weights_dir)
        loaded, notes = resolve_precision(of_layers(stack))
        words = ["--dataset", dataset, *(["--profile", profile] if profile != "official" else [])]
        words += [word for text in overrides for word in ("--set", text)]
        words += ["--weights-dir", weights_dir] if weights_dir else []
        store = Store(loaded.paths.store, loaded.dataset.name, shlex.join(words))
        chosen = selection(dataset, profile, stack)
        try:
            stages = (plan or build)(loaded)
        except AbsError as error:
            raise together(missing(loaded) or [error]) from None
        return cls(loaded, stages, store, notes, chosen)

    def named(self, name: str) -> list[Stage]:
        """Return the stages of a name (`embeddings-raw`, `embeddings raw`) or kind (`embeddings`).

        Raises ConfigError for another name.
        """
        name = "-".join(name.split())
        found = [stage for stage in self.stages if name in (stage.name, stage.kind)]
        if not found:
            names = {n for stage in self.stages for n in (stage.name, stage.kind)}
            raise ConfigError(
                f"no stage {name!r} among those that the chosen methods need; "
                f"{did_you_mean(name, names)}"
            )
        return found

    def execute(
        self,
        stages: list[Stage],
        force: list[Stage],
        quiet: bool,
        strict_code: bool = False,
        engine: Engine | None = None,
    ) -> list[Outcome]:
        """Compute what is missing of each of `stages`, in order; check all before the first.

        An engine stays open for further runs; without one units are computed in this process.
        """
        wrong = [*problems(stages), *unusable_device(self.settings.runtime, engine)]
        if wrong:
            raise together(wrong)
        if strict_code:
            self._refuse_other_code([stage for stage in stages if stage not in force])
        for stage in force:
            self._refuse_to_remove_what_is_in_use(stage)
        reporter = Reporter(quiet)
        assumed = [note for stage in stages for note in stage.notes]
        departures = self.selection.unasked if self.selection else []
        for note in dict.fromkeys([*departures, *self.notes, *assumed]):
            reporter.say(note)
        if not quiet and self._can_start(stages):
            self._predict_time(stages, force, reporter, engine)
        for stage in force:
            self.store.artifact(stage).remove()
        with on_record(self.store, self.stages, self.settings):
            common = self.store, reporter, self.settings, engine, self.selection
            return [run_stage(stage, *common) for stage in stages]

    def _can_start(self, stages: list[Stage]) -> bool:
        """Return whether all that `stages` read is finished or among them."""
        try:
            for stage in stages:
                for up in stage.upstream:
                    _ = up in stages or self.store.open(up)
        except MissingInput:
            return False
        return True

    def _predict_time(
        self, stages: list[Stage], force: list[Stage], reporter: Reporter, engine: Engine | None
    ) -> None:
        """Say what is left to do and how long it takes here; other machines are not measured.

        Receipts of `force` count, so they must still be there.
        """
        sharing = engine.sharing if engine else 1
        with reporter.busy("measuring the models on this machine"):
            foreseen = foresee(self.store, stages, force, sharing == 1, sharing)
        seconds = {each.stage: each.seconds for each in foreseen}
        reporter.expect([stage.name for stage in stages], seconds)
        if any(each.units for each in foreseen):
            reporter.say(in_words(foreseen, sharing))

    def _refuse_to_remove_what_is_in_use(self, stage: Stage) -> None:
        artifact = self.store.artifact(stage)
        if claims := [*living(artifact.path / "claims"), *users(self.store, stage)]:
            raise AbsError(
                f"--force {stage.name}: in use by {claims[0].who}; stop that process or wait for it"
            )

    def _refuse_other_code(self, stages: list[Stage]) -> None:
        names = [stage.name for stage in stages if drifted(self.store.artifact(stage), stage)]
        if names:
            raise AbsError(
                f"--strict-code: {', '.join(names)}: made by other code than this; to make it "
                f"again: abs run {self.store.options} --force {' --force '.join(names)}"
            )

    def make_alone(
        self,
        name: str,
        force: bool,
        quiet: bool,
        strict_code: bool = False,
        engine: Engine | None = None,
    ) -> list[Outcome]:
        """Compute the stages of a name alone, from finished inputs."""
        stages = self.named(name)
        return self.execute(stages, stages if force else [], quiet, strict_code, engine)


def unusable_device(runtime: Runtime, engine: Engine | None) -> list[AbsError]:
    """Return why models cannot run on the device that is named, if they are to run here."""
    if runtime.device in ("auto", "cpu") or not isinstance(engine, Inline | None):
        return []
    from pipeline.models.device import device_of  # imports torch

    try:
        device_of(runtime)
    except AbsError as error:
        return [error]
    return []


def missing(s: Settings) -> list[AbsError]:
    """Look at every input of settings `s`, and return what is missing or cannot be used.

    Weights that would have to be downloaded are looked for only if the dataset is there.
    """
    digests, dataset = read(s)
    found = list(_errors(lambda: dataset.classes))
    classes = Classes((), (), ()) if found else dataset.classes
    clip = ClipSource(s.clip, s.paths, digests)
    maps = attention_source(s.attention, clip, s.paths, digests)
    for model in (clip, maps):
        if not found or (isinstance(model, ModelSource) and model.local):
            found += _errors(model.identity)
    for name in s.texts:
        prompts = ClassTexts(name, s.descriptions[name], classes, s.paths, digests)
        found += _errors(prompts.identity) or _errors(partial(getattr, prompts, "rows"))
    return found


def _errors(look: Callable[[], object]) -> list[AbsError]:
    try:
        look()
    except AbsError as error:
        return [error]
    return []


def rebuild(settings: str) -> tuple[Store, list[Stage]]:
    """Rebuild store and stages from settings as JSON; workers are sent nothing else."""
    validated = validate(json.loads(settings))
    return Store(validated.paths.store, validated.dataset.name), build(validated)
