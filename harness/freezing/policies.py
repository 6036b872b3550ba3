"""The freeze policies that have a name, and the language of their selections.

`trainable` and `bn_stats` are selections, read from left to right; each entry adds to what is selected:

- `all` or `none`; `bn`, every batch norm before the head;
- a stage of the model (`stem`, `stage1`, …, `fc` where there is one, `head`);
- `last N`, the last N stages before the head;
- `last N layers`, the last N convolutions or linear layers before the head, in the model's order (in which the
  convolution of a shortcut follows its block), with their biases and the batch norms that follow them;
- `from NAME`, or the mapping `{from: NAME}`: everything in the model's order from a stage, module or parameter on, the
  head included;
- a glob over names, such as `layer3.*.weight`;
- `not X` takes the selection of X away again.

`trainable` selects parameters, `bn_stats` the batch norms whose running statistics follow the batches. The affine
parameters and the running statistics of batch norm are two separate axes: "freezing batch norm" may mean either. A head
is new, and there is nothing to keep in it: where it has batch norms of its own (those for boxes and masks may), their
statistics follow the batches wherever they learn, and nowhere else.
"""

from harness.freezing.policy import Codes, Phase, Policy

__all__ = ["POLICIES", "Codes", "Phase", "Policy"]


def _last_stages(count: int) -> dict[str, Policy]:
    """Return four policies: the head and the last stages learn, the batch norm of the frozen stages in four states."""
    name, what = ("last_stage", "stage") if count == 1 else (f"last_{count}_stages", f"{count} stages")
    last = f"last {count}"
    states = {
        "": ("nothing", ("head", last), (last,)),
        "_bn_affine": ("γ and β of batch norm", ("head", last, "bn"), (last,)),
        "_bn_stats": ("the statistics of batch norm", ("head", last), ("all",)),
        "_bn": ("both of batch norm", ("head", last, "bn"), ("all",)),
    }
    return {
        name + suffix: Policy(
            about=f"Head and last {what} learn; of the other stages {changes}.",
            source="after Yosinski et al. 2014" if suffix else "Yosinski et al. 2014",
            phases=(Phase(trainable, bn_stats),),
        )
        for suffix, (changes, trainable, bn_stats) in states.items()
    }


POLICIES: dict[str, Policy] = {
    "scratch": Policy(
        about="Everything learns, from random weights.",
        source="He et al. 2019, Rethinking ImageNet Pre-training",
        init="random",
        phases=(Phase(trainable=("all",), bn_stats=("all",)),),
    ),
    "full": Policy(
        about="Everything learns; batch-norm statistics follow the batches.",
        source="full fine-tuning",
        phases=(Phase(trainable=("all",), bn_stats=("all",)),),
    ),
    "full_bn_stats_frozen": Policy(
        about="Everything learns; batch-norm statistics stay.",
        source="Keras' `training=False`",
        phases=(Phase(trainable=("all",), bn_stats=("none",)),),
    ),
    "full_bn_frozen": Policy(
        about="Everything learns but batch norm: γ, β and the statistics stay.",
        source="Keras' `layer.trainable = False`",
        phases=(Phase(trainable=("all", "not bn"), bn_stats=("none",)),),
    ),
    "llrd": Policy(
        about="Everything learns, at a rate that falls to 0.65 of itself with each stage down from the head.",
        source="BEiT, Bao et al. 2022, there by layer",
        layer_decay=0.65,
        phases=(Phase(trainable=("all",), bn_stats=("all",)),),
    ),
    "head": Policy(
        about="Only the new classifier learns, on a fixed extractor.",
        source="linear probe",
        phases=(Phase(trainable=("head",), bn_stats=("none",)),),
    ),
    "head_bn_affine": Policy(
        about="Head and γ, β of batch norm learn; its statistics stay.",
        source="arXiv 2102.05543",
        phases=(Phase(trainable=("head", "bn"), bn_stats=("none",)),),
    ),
    "head_bn_stats": Policy(
        about="The head learns; batch-norm statistics follow the batches.",
        source="`requires_grad = False` alone (pytorch#86590)",
        phases=(Phase(trainable=("head",), bn_stats=("all",)),),
    ),
    "head_bn": Policy(
        about="Head and batch norm learn: γ, β and the statistics.",
        source="arXiv 2102.05543",
        phases=(Phase(trainable=("head", "bn"), bn_stats=("all",)),),
    ),
    "bn_only": Policy(
        about="Only batch norm learns; the new head stays as it was drawn.",
        source="Frankle et al. 2020",
        phases=(Phase(trainable=("bn",), bn_stats=("all",)),),
    ),
    "bn_only_random": Policy(
        about="Only batch norm learns, in a network of random weights.",
        source="Frankle et al. 2020",
        init="random",
        phases=(Phase(trainable=("bn",), bn_stats=("all",)),),
    ),
    **_last_stages(1),
    **_last_stages(2),
    **_last_stages(3),
    "last_3_stages_bn_frozen": Policy(
        about="Head and last 3 stages learn but batch norm: γ, β and the statistics stay.",
        source="torchvision's detection reference (FrozenBatchNorm2d, trainable_backbone_layers=3)",
        phases=(Phase(trainable=("last 3", "not bn", "head"), bn_stats=("none",)),),
    ),
    "last_3_fc": Policy(
        about="The three fully connected layers of VGG or AlexNet learn.",
        source="SPPnet, He et al. 2014",
        phases=(Phase(trainable=("fc", "head"), bn_stats=("none",)),),
    ),
    "extra_fc": Policy(
        about="A new layer on top of the old classifier learns, and nothing else.",
        source="a layer on the old logits",
        head="appended",
        phases=(Phase(trainable=("*.new.*",), bn_stats=("none",)),),
    ),
    "surgical_first": Policy(
        about="Stem and stage 1 learn, and the head, which is new here.",
        source="Lee et al. 2022",
        phases=(Phase(trainable=("stem", "stage1", "head"), bn_stats=("stem", "stage1")),),
    ),
    "surgical_middle": Policy(
        about="Stage 2 learns, and the head, which is new here.",
        source="Lee et al. 2022",
        phases=(Phase(trainable=("stage2", "head"), bn_stats=("stage2",)),),
    ),
    "lp_ft": Policy(
        about="The head learns for half of training, then everything, on a schedule of its own.",
        source="Kumar et al. 2022",
        phases=(
            Phase(trainable=("head",), bn_stats=("none",)),
            Phase(start=0.5, trainable=("all",), bn_stats=("all",), restart_schedule=True),
        ),
    ),
    "head_then_last_2": Policy(
        about="The head learns for half of training, then two more layers too, on a schedule of their own.",
        source="Chollet 2017, Deep Learning with Python, §5.3.2",
        phases=(
            Phase(trainable=("head",), bn_stats=("none",)),
            Phase(
                start=0.5,
                trainable=("head", "last 2 layers"),
                bn_stats=("last 2 layers",),
                restart_schedule=True,
            ),
        ),
    ),
    "gradual": Policy(
        about="The head learns, then one stage more at each fifth of training, and all in the last fifth.",
        source="ULMFiT, Howard & Ruder 2018",
        phases=(
            Phase(trainable=("head",), bn_stats=("none",)),
            Phase(start=0.2, trainable=("head", "last 1"), bn_stats=("last 1",)),
            Phase(start=0.4, trainable=("head", "last 2"), bn_stats=("last 2",)),
            Phase(start=0.6, trainable=("head", "last 3"), bn_stats=("last 3",)),
            Phase(start=0.8, trainable=("all",), bn_stats=("all",)),
        ),
    ),
    "bn_frozen_at_end": Policy(
        about="Everything learns; for the last fifth of training batch norm stays.",
        source="Wu & Johnson 2021",
        phases=(
            Phase(trainable=("all",), bn_stats=("all",)),
            Phase(start=0.8, trainable=("all", "not bn"), bn_stats=("none",)),
        ),
    ),
    "svm_codes": Policy(
        about="A linear SVM on the output of the last stage; the network stays.",
        source="Razavian et al. 2014",
        codes=Codes(solver="svm"),
    ),
    "softmax_codes": Policy(
        about="Logistic regression on the output of the last stage; the network stays.",
        source="Donahue et al. 2014",
        codes=Codes(solver="softmax"),
    ),
}
