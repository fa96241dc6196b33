"""Where the files of a release come from: a patch of what is here, else the whole file."""

from collections.abc import Callable
from typing import Any

from edge_agent.control.answers import find_address
from edge_agent.control.client import DeviceClient
from edge_agent.install.budget import Ledger
from edge_agent.install.download import Downloader
from edge_agent.releases.trust import ManifestFile


class FileSource:
    def __init__(self, client: DeviceClient, downloader: Downloader, *, server_url: str) -> None:
        """`server_url`: what relative addresses of an answer are taken from."""
        self.client = client
        self.downloader = downloader
        self.server_url = server_url

    def __call__(self, file: ManifestFile, answer: dict[str, Any], ledger: Ledger) -> None:
        """Makes one file of the release in `answer` whole and durable in `blobs/`."""
        if self.downloader.has_blob(file):
            return
        offer = answer.get("delta")
        if isinstance(offer, dict) and file.role == "model" and self._patch(file, offer, ledger):
            return
        self.downloader.fetch(file, self._url_finder(file, answer), ledger=ledger)

    def _patch(self, file: ManifestFile, offer: dict[str, Any], ledger: Ledger) -> bool:
        """Makes the file of one that is here; False where that cannot be."""
        from edge_agent.install import delta

        return delta.is_supported() and delta.fetch(
            file, offer, self.downloader, server_url=self.server_url, ledger=ledger
        )

    def _url_finder(self, file: ManifestFile, answer: dict[str, Any]) -> Callable[[bool], str]:
        slug = str(answer.get("model_id"))

        def find(is_expired: bool) -> str:
            current = answer
            if is_expired:
                fresh = self.client.get_latest(slug, etag="", running_digest="").body
                current = fresh if isinstance(fresh, dict) else answer
            return find_address(current, file.sha256, self.server_url)

        return find
