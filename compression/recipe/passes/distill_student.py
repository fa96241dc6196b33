"""`distill.student`: a small model that learns from the source."""

from compression.recipe.declaration import Parameter, Pass, choice
from compression.recipe.shared_parameters import TRAINING

PASS = Pass(
    name="distill.student",
    title="Train a small student on the teacher's logits",
    run="compression.engine.passes.train:distill",
    parameters={
        **TRAINING,
        "steps": Parameter("int", 1, 1_000_000, default=1600),
        # None: what suits the blocks, see `compression.engine.training.distillation`.
        "learning_rate": Parameter("float", 1e-7, 1.0, default=None, is_nullable=True),
        "width": Parameter("int", 2, 256, default=None, is_nullable=True),
        "blocks": choice("full", "full", "separable", "pruned"),
        # FP32 source to INT8 student; a given width decides alone.
        "ratio": Parameter("float", 2.0, 1000.0, default=14.0),
    },
    reads=frozenset({"calibration", "scoring", "engine", "limits"}),
    usual_seconds=60.0,
    trains=True,
    obstacles="compression.engine.training.catalogue:list_student_obstacles",
)
