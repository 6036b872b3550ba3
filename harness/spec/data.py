"""The images of a training: which, and how they are split."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from harness.errors import unknown
from harness.spec.section import Positive, Rate, Section, no_identity, setting
from harness.tasks.metrics import Task

SCENES: dict[str, tuple[Task, ...]] = {
    "digit_scenes": ("detection", "segmentation"),
    "voc_detection": ("detection",),
    "voc_segmentation": ("segmentation",),
    "image_mask_folder": ("segmentation",),
}
"""Sets of images with boxes or masks, and the tasks that each is for; all others are for classification."""


class Data(Section):
    """The images, and how they are split."""

    name: Literal[
        "digits",
        "image_folder",
        "cifar10",
        "cifar100",
        "mnist",
        "fashion_mnist",
        "svhn",
        "stl10",
        "flowers102",
        "oxford_iiit_pet",
        "food101",
        "dtd",
        "caltech101",
        "fgvc_aircraft",
        "eurosat",
        "imagenette",
        "imagenet",
        "digit_scenes",
        "voc_detection",
        "voc_segmentation",
        "image_mask_folder",
    ]
    """Digits lie inside scikit-learn; all but the two kinds of folder are read by torchvision's loaders."""
    root: str | None = None
    """Folder of the images, as torchvision lays them out for a published set; relative to the spec's own folder."""
    download: bool = no_identity(False)
    """Have torchvision fetch a published set into `root` where it is not there."""
    stream: bool | Literal["auto"] = no_identity("auto")
    """Decode images anew for every batch; `auto` does so where they would fill more than 4 GiB decoded."""
    workers: Annotated[int, Field(ge=0)] = no_identity(2)
    """Processes of each training that decode streamed images; with 0 the training decodes them itself."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)] | None = None
    """Class names in the order of the labels; None takes all."""
    image_size: Positive = 32
    """Pixels on a side; on the shorter side of scenes in files, which keep their shape."""
    shift: tuple[Literal["invert", "rotate90", "rotate180"], ...] = ()
    """What sets these images apart from the source task, applied to all splits."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Share of each class for test, where the publisher gave no test split."""
    val_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of what is left of each class for validation."""
    test_per_class: Positive | None = None
    """Test images of each class, instead of a share."""
    val_per_class: Positive | None = None
    """Validation images of each class, instead of a share."""
    train_per_class: Positive | None = None
    """Training images of each class, drawn anew by each seed; None takes all that are left."""
    test_images: Positive | None = setting(None)
    """Scenes for test; of digits 200 where nothing is said."""
    val_images: Positive | None = setting(None)
    """Scenes for validation; of digits 100 where nothing is said."""
    train_images: Positive | None = setting(None)
    """Scenes for training, which have no one class; of digits 400 where nothing is said."""
    zero_is_other: bool = setting(False)
    """Whether 0 in the masks of a folder is what has no class, and 1 the first class, as in ADE20K."""
    split_seed: int = 0
    """What splits are drawn from; the same for all seeds of a study."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """What is subtracted from images in [0, 1]; ImageNet's by default."""
    std: tuple[Rate, Rate, Rate] = (0.229, 0.224, 0.225)
    """What they are then divided by; ImageNet's by default."""

    @property
    def taken_from(self) -> tuple[str, str | None]:
        """Where the images come from: two sets that have this in common may share images."""
        return ("digits" if self.name == "digit_scenes" else self.name), self.root

    @property
    def drawn_by_seed(self) -> bool:
        """Whether each seed has training images of its own; embedded scenes are the same for all."""
        return bool(self.train_per_class or (self.train_images and self.name != "digit_scenes"))

    @model_validator(mode="after")
    def _check(self) -> Self:
        embedded = self.name in ("digits", "digit_scenes")
        if not embedded and self.root is None:
            raise ValueError(f"{self.name} needs `root`, the folder of the images")
        if self.download and (embedded or self.name in ("image_folder", "image_mask_folder", "imagenet")):
            raise ValueError(f"{self.name} cannot be fetched by `download`")
        if embedded:
            self._check_digits()
        if self.classes and len(set(self.classes)) < len(self.classes):
            raise ValueError("a class is named twice")
        if self.name in SCENES:
            self._check_scenes()
        elif meant := self._said("test_images", "val_images", "train_images", "zero_is_other"):
            raise ValueError(f"{meant} is for {', '.join(SCENES)}, and not for {self.name}")
        return self

    def _check_digits(self) -> None:
        if self.root is not None:
            raise ValueError("digits lie inside scikit-learn and have no `root`")
        if self.stream is True:
            raise ValueError("digits are small and cannot be streamed; leave `stream` out")
        if self.name == "digits" and self.image_size % 8:
            raise ValueError(f"digits are 8×8 pixels: image_size must be a multiple of 8, not {self.image_size}")
        if self.name == "digit_scenes" and self.image_size < 32:
            raise ValueError(f"digit_scenes need an image_size of 32 or more for four digits, not {self.image_size}")
        for name in self.classes or ():
            if name not in "0123456789" or len(name) != 1:
                raise ValueError(unknown("class of digits", name, "0123456789"))

    def _check_scenes(self) -> None:
        if meant := self._said("shift", "test_per_class", "val_per_class", "train_per_class"):
            instead = f"; say {meant.replace('per_class', 'images')}" if "per_class" in meant else ""
            raise ValueError(f"{meant} is for classification, and not for {self.name}{instead}")
        if self.classes and self.name.startswith("voc_"):
            raise ValueError(f"{self.name} has the 20 classes of Pascal VOC; leave `classes` out")
        if self.zero_is_other and self.name != "image_mask_folder":
            raise ValueError(f"zero_is_other is for image_mask_folder, and not for {self.name}")
        if self.name != "digit_scenes" and "image_size" not in self.model_fields_set:
            raise ValueError(
                f"{self.name} needs `image_size`, pixels of the shorter side: torchvision's references have 800 for "
                "faster_rcnn, 320 for ssdlite and 520 for masks"
            )

    def _said(self, *names: str) -> str | None:
        """Return the first of these fields that says something."""
        return next((name for name in names if getattr(self, name)), None)
