"""The power goes at every operation of an enrolment with the real server, and none takes the id."""

from pathlib import Path

import pytest

from edge_agent.config import Config
from edge_agent.control.client import DeviceClient, load_credentials
from edge_agent.control.transport import Transport
from edge_agent.files import make_dirs
from edge_agent.releases.state import Layout
from tests.contract.test_agent_against_server import make_join_token
from tests.edge_agent.simulated_disk import PowerCut, SimulatedDisk
from tests.live import LiveServer

LAYOUT = Layout(Path("/home"))


def enrol(live: LiveServer, disk: SimulatedDisk, device_id: str, join_token: str) -> DeviceClient:
    """Boots the device and enrols it, unless that is done."""
    make_dirs(disk, LAYOUT.home)
    config = Config(
        device_id=device_id, server_url=live.stack.url, home=LAYOUT.home, join_token=join_token
    )
    transport = Transport(config.network, user_agent="contract")
    client = DeviceClient(config, transport, load_credentials(disk, LAYOUT, device_id))
    if client.credentials is None:
        client.enroll({}, disk, LAYOUT)
    return client


@pytest.mark.parametrize("surviving", ["none", "all"])
def test_a_power_cut_anywhere_in_an_enrolment_leaves_no_id_taken(
    live: LiveServer, surviving: str
) -> None:
    join_token = make_join_token(live, max_uses=100)
    cuts, has_cut = 0, True
    while has_cut:
        cuts += 1
        device_id = f"contract-cut-{surviving}-{cuts:02d}"
        disk = SimulatedDisk()
        disk.cut_at = cuts
        try:
            enrol(live, disk, device_id, join_token)
            has_cut = False
        except PowerCut:
            pass
        left = disk.after_power_cut(surviving, "torn")
        answer = enrol(live, left, device_id, join_token).get_desired()
        assert answer.status == 200, f"cut before operation {cuts}"
    assert cuts > 8
