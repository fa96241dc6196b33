"""The power goes before every operation of a story, then before every one of the recovery."""

from collections.abc import Hashable

import pytest

from edge_agent.config import InstallConfig
from tests.edge_agent.power_cut_device import DIGESTS, STORIES, Device, Story, Syncs, install
from tests.edge_agent.publisher import MODEL
from tests.edge_agent.simulated_disk import PowerCut, SimulatedDisk

#: Which unsynced names survive, and what becomes of unsynced data.
LEFTOVERS = (
    ("none", "lost"),
    ("all", "lost"),
    ("all", "torn"),
    ("odd", "torn"),
    ("home", "lost"),
    ("blobs", "torn"),
)
#: Every sync of the code, by who asks for it, and the story that ends badly without it.
SYNCS = {
    ("fsync", "download._publish"): "a good release",
    ("fsync", "fetch._keep_manifest"): "a good release",
    ("fsync", "journal.accept"): "a lost state",
    ("fsync", "state.save"): "a good release",
    ("fsync", "release_store.take_factory_release"): "a fall back to the factory's",
    ("fsync", "factory.add_release"): "a release put into the factory",
    ("fsync", "client.enroll"): "an enrolment",
    ("fsync", "client.keep_nonce"): "an enrolment",
    ("fsync_dir", "download._publish"): "a good release",
    ("fsync_dir", "fetch._keep_manifest"): "a good release",
    ("fsync_dir", "journal.accept"): "a lost state",
    ("fsync_dir", "state.save"): "a good release",
    ("fsync_dir", "release_store.take_factory_release"): "a fall back to the factory's",
    ("fsync_dir", "factory.add_release"): "a release put into the factory",
    ("fsync_dir", "client.enroll"): "an enrolment",
    ("fsync_dir", "client.keep_nonce"): "an enrolment",
    ("fsync_dir", "files.make_dirs"): "a good release",
}


def play(disk: SimulatedDisk, story: Story, cut_at: int | None) -> bool:
    """Plays the story with the power going before operation `cut_at`; True when it went."""
    disk.cut_at = None if cut_at is None else disk.operations + cut_at
    try:
        story.act(disk)
    except PowerCut:
        return True
    finally:
        disk.cut_at = None
    return False


def play_every_double_cut(story: Story, ignored: Syncs = frozenset()) -> int:
    """Plays a story with every pair of cuts; returns how many plays that were.

    What a cut leaves that an earlier one left too is not played or checked again.
    """
    start, plays, first = story.start(ignored), 0, 0
    has_cut = True
    left_once: set[Hashable] = set()
    checked: set[Hashable] = set()

    def check(disk: SimulatedDisk) -> None:
        content = disk.content()
        if content not in checked:
            story.check(disk)
            checked.add(content)

    while has_cut:
        first += 1
        for leftover in LEFTOVERS:
            disk = start.copy()
            has_cut = play(disk, story, first)
            disk = disk.after_power_cut(*leftover)
            if (disk.content(), leftover) in left_once:
                continue
            left_once.add((disk.content(), leftover))
            check(disk.copy())
            plays, second = plays + 1, 0
            has_second = True
            while has_second:
                second += 1
                again = disk.copy()
                has_second = play(again, story, second)
                check(again.after_power_cut(*leftover))
                plays += 1
    return plays


@pytest.mark.parametrize("name", STORIES)
def test_a_device_survives_two_cuts_at_any_two_operations(name: str) -> None:
    assert play_every_double_cut(STORIES[name]) > 100


def count_killer_tries(ignored: Syncs = frozenset()) -> int:
    disk, tries = install("killer", "first").start(ignored), 0
    for _ in range(10):
        device = Device(disk)
        try:
            device.boot()
            device.poll("killer")
        except PowerCut:
            tries += device.tried.count("killer")
            disk = disk.after_power_cut("none")
        else:
            assert device.current == "first"
            assert DIGESTS["killer"] in device.installer.state.model(MODEL).blocked
            return tries
    return 99


def test_a_release_that_kills_the_device_is_tried_three_times_and_no_more() -> None:
    assert count_killer_tries() == InstallConfig().max_tries


@pytest.mark.parametrize("sync", SYNCS, ids=lambda sync: f"{sync[0]} of {sync[1]}")
def test_without_any_one_sync_its_story_would_end_badly(sync: tuple[str, str]) -> None:
    with pytest.raises(AssertionError):
        play_every_double_cut(STORIES[SYNCS[sync]], frozenset({sync}))


def test_every_sync_in_the_code_is_among_those_shown_to_be_needed() -> None:
    seen: set[tuple[str, str]] = set()
    for story in STORIES.values():
        disk = story.start(frozenset())
        play(disk, story, None)
        seen |= disk.seen_syncs
    assert seen == set(SYNCS)
