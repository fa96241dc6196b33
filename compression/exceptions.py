"""What can go wrong in compression, each with the code the API answers with."""

from registry.exceptions import AviaryError


class CompressionError(AviaryError):
    """Base of every error of this app."""

    code = "compression_error"
    http_status = 400


class RecipeInvalidError(CompressionError):
    """The recipe names an unknown pass or parameter, or a value outside its range."""

    code = "recipe_invalid"


class DataSetUnusableError(CompressionError):
    """A calibration or evaluation set does not fit the model, or is too small."""

    code = "dataset_unusable"


class ModelUnsupportedError(CompressionError):
    """A pass cannot work on this graph."""

    code = "model_unsupported"
    http_status = 422


class TrainingUnavailableError(CompressionError):
    """A pass trains, and PyTorch is not installed."""

    code = "training_unavailable"
    http_status = 422


class BudgetSpentError(CompressionError):
    """A search's time is up; what it has so far counts."""

    code = "budget_spent"
    http_status = 422


class JobStateError(CompressionError):
    """The job is in a state in which this is not possible."""

    code = "job_state"
    http_status = 409


class ChildFailedError(CompressionError):
    """The child process that ran the passes failed."""

    code = "child_failed"
    http_status = 500
