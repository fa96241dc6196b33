"""Parameters that several passes have alike. Pure."""

from compression.recipe.declaration import Parameter, choice

EXCLUDED = Parameter("names", default=None, is_nullable=True)
CALIBRATED = {
    "method": choice("minmax", "minmax", "percentile", "entropy"),
    "percentile": Parameter("float", 90.0, 100.0, default=99.99),
    "samples": Parameter("int", 1, 100_000, default=1024),
    "chunk": Parameter("int", 1, 1024, default=64),
}
TRAINING = {
    "steps": Parameter("int", 1, 1_000_000, default=400),
    "seconds": Parameter("int", 1, 86_400, default=900),
    "temperature": Parameter("float", 0.1, 100.0, default=4.0),
    "alpha": Parameter("float", 0.0, 1.0, default=0.7),
    "learning_rate": Parameter("float", 1e-7, 1.0, default=2e-3),
    "batch": Parameter("int", 2, 4096, default=64),
    "noise": Parameter("float", 0.0, 2.0, default=0.0),
    "shift": Parameter("int", 0, 64, default=0),
    "mixup": Parameter("float", 0.0, 10.0, default=0.0),
}
