"""What the cells of one scenario stand on: its images, its network, and the weights that they begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from harness.data import Survey, survey
from harness.earlier import Earlier, Prerequisite, by_content, effective, model_of, scaled
from harness.errors import HarnessError
from harness.facts import Facts
from harness.freezing.policies import Policy
from harness.freezing.resolve import ResolvedPhase, resolve, resolve_codes
from harness.models.layout import Layout
from harness.recipe import Recipe
from harness.spec import Data, Spec, Train
from harness.specfile import Scenario, Study
from harness.training import Origin, Training
from harness.workspace import Workspace


class Ground:
    """One scenario of a study, looked through: makes the trainings of its cells, and what they need first."""

    def __init__(
        self,
        study: Study,
        scenario: Scenario,
        workspace: Workspace,
        facts: Facts | None = None,
        surveys: dict[Data, Survey] | None = None,
    ) -> None:
        """Look through the data, once for all scenarios that share `surveys`.

        Raises HarnessError where it cannot be split or fills no batch.
        """
        self.spec: Spec = scenario.spec
        self.scenario = scenario
        self._study, self._workspace = study, workspace
        self.facts = facts or Facts(workspace.facts)
        self._surveys = {} if surveys is None else surveys
        self.data = self._survey(self.spec.data, self.spec.train)
        self._earlier = Earlier(study, scenario, workspace, self.facts, self._survey)

    @property
    def prerequisites(self) -> dict[str, Prerequisite]:
        """What is trained before all the trainings made so far, by digest."""
        return self._earlier.prerequisites

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.data.train_size // self.spec.train.batch_size

    def layout(self, policy: Policy, recipe: Recipe) -> Layout:
        """Return the layout of the target's network; raises ValueError for an edit that it has no place for."""
        model, kept_classes = model_of(self.spec, recipe, "target"), self._kept_classes(policy, recipe)
        return self.facts.layout(model, len(self.data.classes), kept_classes)

    def try_step(self, phases: Sequence[ResolvedPhase]) -> None:
        """Raise ValueError where a batch cannot be trained on: batch norm would see one value per channel."""
        spec = self.spec
        self.facts.check_step(spec.model, len(self.data.classes), spec.data.image_size, spec.train.batch_size, phases)

    def misfits(self, policy: Policy, recipe: Recipe) -> list[str]:
        """Return the target's parameters outside the head for which the pretrained network has none of that shape."""
        if self.spec.weights is None:
            return []
        edits = recipe if self.spec.weights.pretrain else Recipe()
        source = self.facts.layout(model_of(self.spec, edits, "source"), len(self.data.classes))
        target = self.layout(policy, recipe)
        given = target.placed(dict(source.parameters))
        shared = [pair for pair in target.parameters if target.stage(pair[0]) != "head"]
        return [name for name, shape in shared if given.get(name) != shape]

    def trainings(
        self, policy: Policy, recipe: Recipe, seeds: Sequence[int], lr: float | None = None
    ) -> list[Training]:
        """Return the trainings of a cell at `seeds`, at the spec's learning rate or at `lr`."""
        spec, earlier, layout = self.spec, self._earlier, self.layout(policy, recipe)
        made = Training(
            model=model_of(spec, recipe, "target"),
            classes=len(self.data.classes),
            head=layout.head,
            origin=self._entering(policy, recipe),
            data=by_content(spec.data, self.data),
            data_content=self.data.content,
            train=scaled(spec.train, recipe, lr),
            recipe=effective(recipe, self.steps_per_epoch, "target"),
            phases=resolve(policy, layout, spec.train.weight_decay, recipe.param_rules),
            seed=seeds[0],
            kept_classes=self._kept_classes(policy, recipe),
            codes=resolve_codes(policy, layout),
            diagnose=spec.diagnostics.batch_norm and not policy.codes,
            data_root=spec.data.root,
        )
        found = made.at(seeds)
        if recipe.teacher:
            teachers = [earlier.teacher(recipe.teacher, each.seed, self.data) for each in found]
            found = [replace(each, teacher=teacher) for each, teacher in zip(found, teachers, strict=True)]
        return [earlier.kept(each) for each in found] if spec.keep_weights else found

    def _entering(self, policy: Policy, recipe: Recipe) -> Origin | None:
        """Return the pretrained weights that a cell begins with, if any."""
        origin = self._earlier.origin(recipe) if policy.init == "pretrained" else None
        lenient = self.spec.weights is not None and self.spec.weights.allow_mismatch
        return replace(origin, partial=True) if origin and (lenient or self.misfits(policy, recipe)) else origin

    def _kept_classes(self, policy: Policy, recipe: Recipe) -> int | None:
        """Return the classes of the old classifier that a policy keeps; raises ValueError where there is none."""
        if policy.head != "appended":
            return None
        if self.spec.weights is None or policy.init == "random":
            raise ValueError("there is no old classifier to keep: the network starts from random weights")
        return self._earlier.classes(recipe)

    def _survey(self, data: Data, train: Train, *section: str) -> Survey:
        """Look through the data of the spec or of its `section`; raises HarnessError where no batch could be filled."""
        if data not in self._surveys:
            with self._study.placing(*section, "data", *(("root",) if data.root else ("classes",))):
                if data.root and data.download:
                    self._workspace.check_download(Path(data.root))
                self._surveys[data] = survey(data, self._workspace.cache, self.spec.task)
        found = self._surveys[data]
        model = model_of(self.spec, Recipe(), "source" if section else "target")
        with self._study.placing(*section, "data", "image_size"):
            self.facts.check_image_size(model, len(found.classes), data.image_size)
        if found.train_size < train.batch_size:
            with self._study.placing(*section, "train", "batch_size"):
                raise HarnessError(f"{train.batch_size} is more than the {found.train_size} training images")
        return found
