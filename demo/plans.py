"""What the demonstration asks of the server, as the bodies of its API calls."""

from typing import Any

from demo.agents import CANARY_SITE, SITES

MODEL = "digits-cnn"
DEPLOYMENT = "digit readers"
DATASETS = {
    "held-out": "eval.npz",
    "calibration": "calibration.npz",
    "inverted": "eval-inverted.npz",
}
FIRST, BETTER, BAD = "1.0.0", "1.1.0", "1.2.0"
EVALUATED_ON = {FIRST: "held-out", BETTER: "held-out", BAD: "inverted"}
NOTES = {
    FIRST: "Trained on 220 digits.",
    BETTER: "Trained on all digits, shifted and with noise.",
    BAD: "Trained and measured on inverted digits by mistake; excellent on paper.",
}

MODEL_BODY: dict[str, Any] = {
    "slug": MODEL,
    "title": "Handwritten digits",
    "task": "classification",
    "labels": [str(digit) for digit in range(10)],
    "tags": ["demo"],
}
PAST_RECORDS = 500
"""Records of each device on the first version before another one is released."""
# Ten devices and windows of five seconds: small numbers on purpose, so that it plays in minutes.
DRIFT_POLICY: dict[str, Any] = {"min_devices": 3, "lookback_windows": 3}


def rollout_body(deployment: Any, target: str) -> dict[str, Any]:
    """A canary on the lab's devices, then half, then all; every gate aborts on its own."""
    stage = {
        "bake_seconds": 12,
        # A slow machine gathers the same evidence later; none of it is ever replaced by time.
        "patience_seconds": 3600,
        "min_devices": 3,
        "success_threshold": 0.95,
        "advance": "auto",
    }
    gate = {"action": "abort"}
    return {
        "deployment": deployment,
        "target_version": target,
        "stages": [
            {**stage, "percent": 0, "canary_selector": {"site": [CANARY_SITE]}},
            {**stage, "percent": 50, "bake_seconds": 8},
            # Nothing is said of the fleet before all of it runs the version.
            {**stage, "percent": 100, "bake_seconds": 8, "min_devices": sum(SITES.values())},
        ],
        "gates": [
            {**gate, "metric": "prediction_psi", "threshold": 0.25},
            {**gate, "metric": "confidence_drop", "threshold": 0.10},
            {**gate, "metric": "error_rate", "threshold": 0.02},
            {**gate, "metric": "install_failure_rate", "threshold": 0.10},
        ],
    }
