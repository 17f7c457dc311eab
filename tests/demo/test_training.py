"""The demo trainings: they go on as if never stopped, and losses reward what they should."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.demo.attributes import ATTRIBUTES
from pipeline.demo.build import CLIP
from pipeline.demo.clip import Training, TrainingConfig
from pipeline.demo.distillation import (
    DistillationBatches,
    dino_loss,
    teacher_momentum,
    update_teacher,
)
from pipeline.demo.distillation import TrainingConfig as Distillation
from pipeline.demo.losses import contrastive_loss, spread_loss
from pipeline.demo.schedule import learning_rate
from pipeline.demo.training_data import Batch, TrainingBatches

SMALL = TrainingConfig(steps=8, scenes=2, crops=1, warmup=1, spread_from=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Batches this small are quicker without threads that wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_a_training_goes_on_as_if_never_stopped(tmp_path: Path) -> None:
    batches = TrainingBatches(CLIP, SMALL.scenes, SMALL.crops)
    whole = Training(CLIP, tmp_path / "clip.pt", SMALL)
    whole.step(0, batches[0])
    whole.save(1)
    whole.step(1, batches[1])
    resumed = Training(CLIP, tmp_path / "clip.pt", SMALL)
    assert resumed.restore() == 1
    resumed.step(1, batches[1])
    for name, value in whole.towers.clip.state_dict().items():
        torch.testing.assert_close(value, resumed.towers.clip.state_dict()[name])


@pytest.mark.slow
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    Training(CLIP, tmp_path / "clip.pt", SMALL).save(1)
    with pytest.raises(ValueError, match="another training configuration"):
        Training(CLIP, tmp_path / "clip.pt", replace(SMALL, seed=1)).restore()


def test_batches_come_by_number() -> None:
    one, same, other = (TrainingBatches(CLIP, 2, 1)[index] for index in (3, 3, 4))
    assert one.pixels.equal(same.pixels)
    assert one.captions.equal(same.captions)
    assert not one.pixels.equal(other.pixels)


def test_every_caption_is_true_of_its_own_view() -> None:
    batch: Batch = TrainingBatches(CLIP, 6, 2)[0]
    assert batch.caption_matches.diagonal().all()
    assert batch.attribute_texts.shape[0] == sum(len(values) for values in ATTRIBUTES.values())


def test_a_caption_true_of_two_views_is_wrong_of_neither() -> None:
    truth = torch.tensor([[True, True], [True, True]])
    assert contrastive_loss(torch.zeros(2, 2), truth) <= contrastive_loss(torch.eye(2) * 9, truth)


def test_texts_are_spread_when_no_two_point_alike() -> None:
    simplex = torch.eye(4)
    alike = torch.stack([simplex[0], simplex[0], simplex[1], simplex[2]])
    assert spread_loss(simplex) < spread_loss(alike)


def test_the_teacher_follows_slowly_and_ends_still() -> None:
    config = Distillation(steps=10)
    momenta = [teacher_momentum(step, config) for step in (0, 5, 10)]
    assert momenta[0] == config.teacher_momentum < momenta[1] < momenta[2] == 1
    teacher, student = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before = teacher.weight.clone()
    update_teacher(teacher, student, 0.75)
    torch.testing.assert_close(teacher.weight, 0.75 * before + 0.25 * student.weight)


def test_a_student_is_asked_only_about_views_the_teacher_did_not_answer_from() -> None:
    config = Distillation()
    asked = torch.randn(2, 3, 8)
    free = dino_loss(
        asked, torch.cat([asked.flip(0), asked.mean(0, keepdim=True)]), torch.zeros(8), config
    )
    copied = dino_loss(
        asked, torch.cat([asked, asked.mean(0, keepdim=True)]), torch.zeros(8), config
    )
    assert free < copied


def test_distillation_views_come_in_pairs_and_squares() -> None:
    wholes, squares = DistillationBatches(Distillation(birds=2, local_views=3))[0]
    assert wholes.shape == (2, 2, 3, 80, 80)
    assert squares.shape == (3, 2, 3, 40, 40)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [learning_rate(step, 100, 10, 1.0) for step in range(101)]
    assert max(rates) == rates[10] == 1.0
    assert rates[0] < rates[5]
    assert rates[100] == pytest.approx(0)
