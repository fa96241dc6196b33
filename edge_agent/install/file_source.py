"""Where the files of a release come from: a patch of what is here, else the whole file."""

from collections.abc import Callable
from typing import Any

from edge_agent.control.answers import DeltaOffer, find_address, read_delta_offer
from edge_agent.control.client import DeviceClient
from edge_agent.install.budget import Ledger
from edge_agent.install.download import Downloader
from edge_agent.releases.trust import ManifestFile

MAX_USELESS = 32


class FileSource:
    def __init__(self, client: DeviceClient, downloader: Downloader, *, server_url: str) -> None:
        """`server_url`: what relative addresses of an answer are taken from."""
        self.client = client
        self.downloader = downloader
        self.server_url = server_url
        self._useless: set[DeltaOffer] = set()
        """Offers that came to nothing since the start."""

    def __call__(self, file: ManifestFile, answer: dict[str, Any], ledger: Ledger) -> None:
        """Makes one file of the release in `answer` whole and durable in `blobs/`."""
        if self.downloader.has_blob(file):
            return
        if file.role == "model" and self._patch(file, answer, ledger):
            return
        self.downloader.fetch(file, self._url_finder(file, answer), ledger=ledger)

    def _patch(self, file: ManifestFile, answer: dict[str, Any], ledger: Ledger) -> bool:
        """Makes the file of one that is here; False where that cannot be."""
        offer = read_delta_offer(answer, server_url=self.server_url)
        if offer is None or offer in self._useless:
            return False
        from edge_agent.install import delta

        if not delta.is_supported():
            return False
        is_made = delta.fetch(file, offer, self.downloader, ledger=ledger)
        if not is_made:
            # Not asked for again at each poll: a hint may cost its bytes once.
            self._useless = {*list(self._useless)[-MAX_USELESS:], offer}
        return is_made

    def _url_finder(self, file: ManifestFile, answer: dict[str, Any]) -> Callable[[bool], str]:
        slug = str(answer.get("model_id"))

        def find(is_expired: bool) -> str:
            current = answer
            if is_expired:
                fresh = self.client.get_latest(slug, etag="", running_digest="").body
                current = fresh if isinstance(fresh, dict) else answer
            return find_address(current, file.sha256, self.server_url)

        return find
