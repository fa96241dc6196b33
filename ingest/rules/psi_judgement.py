"""The judgement of a distribution: its PSI against the reference."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ingest.rules import distances
from ingest.rules import psi as drift
from ingest.rules.binning import coarse_table, plan_bins
from ingest.rules.clustering import SampleSide, describe_side, measure_clustering
from ingest.rules.judgement import (
    Judgement,
    Policy,
    Table,
    as_table,
    missing_evidence,
    side_of,
    widen,
)
from ingest.rules.laws import PlainLaw, psi_law


def judge_psi(
    metric: str,
    reference: Sequence[int] | None,
    per_device: Sequence[Sequence[int]] | Table,
    policy: Policy,
    is_ordered: bool = True,
    labels: Sequence[str] | None = None,
    positions: Table | None = None,
    reference_groups: Sequence[Sequence[int]] | Table | None = None,
    devices: int | None = None,
) -> Judgement:
    """The PSI of one metric, with its law on effective sample sizes of both sides.

    Args:
        reference: counts in fine bins; None or empty when there is none.
        per_device: one row of counts per device, or per random group of devices.
        is_ordered: whether neighbouring bins are alike, as those of confidence are.
        positions: what each fine bin stands for, for the Wasserstein distance.
        reference_groups: the reference's counts by device (or group of devices); empty where its
            records stand alone, as in a data set.
        devices: how many there are where rows are groups of them; None where each row is one.
    """
    rows = as_table(per_device)
    n = int(rows.sum())
    if not reference or sum(reference) <= 0:
        heard = len(rows) if devices is None else devices
        return Judgement(metric, status="no_reference", n=n, devices=heard)
    width = max(len(reference), rows.shape[1])
    known = np.zeros(width)
    known[: len(reference)] = reference
    table = widen(rows[rows.sum(axis=1) > 0], width)
    heard = len(table) if devices is None else devices
    totals = table.sum(axis=0) if len(table) else np.zeros(width)
    base = Judgement(metric, n=n, n_reference=int(sum(reference)), devices=heard)
    clustering = measure_clustering(table) if len(table) else None
    if clustering is None and not (len(table) and policy.min_devices <= 1):
        plan = drift.merge_plan(known, is_ordered)
        details = _psi_details(known, totals, plan, labels, positions)
        need = f"{len(table)} of at least 2 devices, to tell how alike the records of one are"
        value = None
        if n and len(details["reference"]) > 1:
            value = drift.population_stability_index(details["reference"], details["current"])
        reason = missing_evidence(len(table), 0, 0, policy) if len(table) else "no records"
        details["reason"] = reason or need
        return replace(base, value=value, bins=max(plan) + 1, details=details)
    groups = widen(as_table([] if reference_groups is None else reference_groups), width)
    plan, is_thin, merged = _plan(known, groups, table, policy, is_ordered)
    then = describe_side(coarse_table(groups, plan), drift.merge_bins(known, plan))
    now = side_of(table, plan)
    count = len(now.counts)
    details = _psi_details(known, totals, plan, labels, positions)
    if merged:
        details["merged"] = _merged_words(merged, then, now)
    base = replace(base, design_effect=now.effect, n_eff=now.n_eff, bins=count, details=details)
    if count < 2:
        details["reason"] = (
            f"fewer than two bins: {then.n_eff:.0f} effective records of the reference and "
            f"{now.n_eff:.0f} now; two bins need {2 * policy.min_samples_per_bin} of each"
        )
        return base
    psi = drift.population_stability_index(then.effective, now.effective)
    details["contributions"] = drift.psi_contributions(then.effective, now.effective).tolist()
    least = policy.min_samples_per_bin * (max(count, 5) if is_thin else 2)
    is_enough = heard >= policy.min_devices and now.n_eff >= least and not is_thin
    if not is_enough:
        details["reason"] = missing_evidence(heard, now.n_eff, least, policy) or (
            f"the reference holds {then.n_eff:.0f} effective records; {least} are needed"
        )
    base = replace(base, value=psi, is_enough=is_enough)
    if policy.rule == "fixed":
        plain = (PlainLaw(policy.warning_psi), PlainLaw(policy.critical_psi))
        return replace(base, status="tested", laws=plain) if is_enough else base
    law = psi_law(then, now, count, policy.warning_psi)
    return replace(
        base,
        status="tested",
        lower_bound=drift.psi_lower_bound(psi, law.df + 1, law.k),
        laws=(law, replace(law, tolerated=policy.critical_psi)),
    )


def _plan(
    known: Table, groups: Table, table: Table, policy: Policy, is_ordered: bool
) -> tuple[list[int], bool, int]:
    """The bins that both sides can carry: planned twice, as the design effect needs bins first."""
    need = float(policy.min_samples_per_bin)
    totals = table.sum(axis=0)
    plan = plan_bins(known, totals, is_ordered=is_ordered, need=need).plan
    found = None
    by_bin = measure_clustering(table)
    by_group = measure_clustering(groups) if len(groups) else None
    one_bin = np.ones(len(known))
    for _ in range(2):
        then = describe_side(coarse_table(groups, plan), drift.merge_bins(known, plan))
        now = side_of(table, plan)
        found = plan_bins(
            known / then.effect,
            totals / now.effect,
            is_ordered=is_ordered,
            need=need,
            reference_surprise=known
            / np.maximum(then.effect, by_group.by_bin if by_group else one_bin),
            current_surprise=totals / np.maximum(now.effect, by_bin.by_bin if by_bin else one_bin),
        )
        plan = found.plan
    assert found is not None
    return found.plan, found.is_thin, 0 if is_ordered else found.merged


def _merged_words(merged: int, then: SampleSide, now: SampleSide) -> str:
    side = "the reference" if then.n_eff <= now.n_eff else "now"
    return (
        f"{merged} classes are judged in groups: with {min(then.n_eff, now.n_eff):.0f} effective "
        f"records {side}, too few are expected of each alone"
    )


def _psi_details(
    reference: Table,
    totals: Table,
    plan: list[int],
    labels: Sequence[str] | None,
    positions: Table | None,
) -> dict[str, Any]:
    details: dict[str, Any] = {
        "plan": plan,
        "reference": drift.merge_bins(reference, plan).tolist(),
        "current": drift.merge_bins(totals, plan).tolist(),
        "labels": list(labels) if labels else None,
    }
    if totals.sum():
        details["jensen_shannon"] = distances.jensen_shannon_distance(reference, totals)
        details["l_infinity"] = distances.l_infinity(reference, totals)
        if positions is not None and len(positions) == len(reference):
            details["wasserstein_sigma"] = distances.standardised_wasserstein(
                reference, totals, positions
            )
    return details
