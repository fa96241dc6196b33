"""Evidence for metrics of one's own that Prometheus measures."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from datetime import datetime

from fleet.models import Device
from ingest.exceptions import PrometheusError
from ingest.prometheus import Sample, query_prometheus
from ingest.rules.cohort_evidence import Evidence
from ingest.rules.cohort_judgement import Pair, judge_means
from ingest.rules.device_means import DeviceMean, Scale
from ingest.selectors.cohorts import Cohorts

logger = logging.getLogger(__name__)
#: The label by which a query tells devices apart.
DEVICE_LABEL = "device_id"


def judge_queries(
    *,
    queries: Mapping[str, str],
    cohorts: Cohorts,
    margins: Mapping[str, float],
    began: datetime,
    now: datetime,
    hours: float,
) -> list[Evidence]:
    """Evidence of each query; a server that does not answer is no data, with the reason.

    Numbers with the label `device_id` are compared as every other metric is, the same query at the
    rollout's beginning being each device's past. A single number without it is taken as exact.
    """
    names = _names([*cohorts.canary, *cohorts.control]) if queries else {}
    found = []
    for metric, expression in queries.items():
        try:
            after = query_prometheus(expression, now)
            if any(DEVICE_LABEL in sample.labels for sample in after):
                before = query_prometheus(expression, began)
                ours, theirs = (
                    _pairs(side, names, _by_device(after), _by_device(before))
                    for side in (cohorts.canary, cohorts.control)
                )
                found.append(judge_means(metric, Scale(), ours, theirs, margins[metric], hours))
            else:
                found.append(_judge_single(metric, after))
        except PrometheusError as error:
            logger.warning("no value of %s: %s", metric, error.message)
            details = {"reference": "", "words": error.message}
            found.append(Evidence(metric, None, None, 0, 0, details))
    return found


def _judge_single(metric: str, samples: list[Sample]) -> Evidence:
    if len(samples) != 1:
        words = f"the query gives {len(samples)} numbers without a device_id; one is needed"
        return Evidence(metric, None, None, 0, 0, {"reference": "", "words": words})
    words = "one number read from Prometheus, taken as exact"
    return Evidence(metric, samples[0].value, None, 0, 0, {"reference": "given", "words": words})


def _names(ids: Collection[int]) -> dict[int, str]:
    return dict(Device.objects.filter(pk__in=ids).values_list("pk", "device_id"))


def _by_device(samples: list[Sample]) -> dict[str, float]:
    return {
        sample.labels[DEVICE_LABEL]: sample.value
        for sample in samples
        if DEVICE_LABEL in sample.labels
    }


def _pairs(
    ids: Collection[int],
    names: Mapping[int, str],
    after: Mapping[str, float],
    before: Mapping[str, float],
) -> list[Pair]:
    def read(values: Mapping[str, float], name: str) -> DeviceMean | None:
        # How far a single number may be off only the differences between devices tell.
        return DeviceMean(1, values[name], 1e-12) if name in values else None

    pairs = []
    for device_id in ids:
        name = names.get(device_id, "")
        now = read(after, name)
        if now is not None:
            pairs.append(Pair(now, read(before, name)))
    return pairs
