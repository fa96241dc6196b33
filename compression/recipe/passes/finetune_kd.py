"""`finetune.kd`: the same graph, trained further."""

from compression.recipe.declaration import PRODUCTS, Pass
from compression.recipe.shared_parameters import TRAINING

PASS = Pass(
    name="finetune.kd",
    title="Fine-tune with the source as teacher",
    run="compression.engine.passes.train:finetune",
    parameters=TRAINING,
    targets=PRODUCTS,
    # The order of floating-point sums, and so the last bit, depends on the threads.
    reads=frozenset({"calibration", "scoring", "engine", "limits"}),
    usual_seconds=60.0,
    trains=True,
    follows_branches=False,
    obstacles="compression.engine.training.catalogue:list_finetuning_obstacles",
)
